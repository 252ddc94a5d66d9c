"""mkdocs hook: what differs between the site and the files of docs/ that one reads in a checkout.

structure.md gets the list of modules, from their docstrings; a page that includes a file loses its
link to that file, which is outside of the site.
"""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "jvrc"
MARK = "<!-- modules -->"  # where the list of modules stands
INCLUDE = "--8<-- "  # before the name of the file that a page includes
PAGES = {"interop": "evaluation", "io": "runtime"}  # folders that share a page of the API


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return the page as the site shows it."""
    if INCLUDE in markdown:
        return markdown[markdown.index(INCLUDE) :]
    return markdown.replace(MARK, _module_list()) if MARK in markdown else markdown


def _module_list() -> str:
    lines: list[str] = []
    for folder in sorted(p.parent for p in PACKAGE.rglob("__init__.py")):
        lines += ["", f"### {folder.relative_to(PACKAGE.parent).as_posix()}/", ""]
        lines += [_line(path) for path in sorted(folder.glob("[a-z]*.py"))]
    return "\n".join(lines)


def _line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    summary = " ".join(docstring.split("\n\n")[0].split())
    return f"- {_linked(path)}: {summary}"


def _linked(path: Path) -> str:
    """The file's name, linked to its place in the API if it has one."""
    folder = path.parent.relative_to(PACKAGE.parent).parts[:2][-1]  # codec of jvrc/codec/tiles
    page = PAGES.get(folder, folder)
    if not (Path(__file__).parent / "api" / f"{page}.md").exists():
        return f"`{path.name}`"
    dotted = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return f"[`{path.name}`](api/{page}.md#{dotted})"
