"""mkdocs hook: writes the list of modules in structure.md, from the modules' docstrings."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "jvrc"
MARK = "<!-- modules -->"
PAGES = {"interop": "evaluation", "io": "runtime"}  # folders that share a page of the API


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the mark by a list of modules for each folder."""
    return markdown.replace(MARK, _module_list()) if MARK in markdown else markdown


def _module_list() -> str:
    lines: list[str] = []
    folders = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
    for folder in folders:
        lines += ["", f"### {folder.relative_to(PACKAGE.parent).as_posix()}/", ""]
        lines += [_line(path) for path in sorted(folder.glob("[a-z]*.py"))]
    return "\n".join(lines)


def _line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    summary = " ".join(docstring.split("\n\n")[0].split())
    return f"- {_linked(path)}: {summary}"


def _linked(path: Path) -> str:
    """The file's name, linked to its place in the API if it has one."""
    folder = path.relative_to(PACKAGE).parts[0]
    page = PAGES.get(folder, folder)
    if not (Path(__file__).parent / "api" / f"{page}.md").exists():
        return f"`{path.name}`"
    dotted = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return f"[`{path.name}`](api/{page}.md#{dotted})"
