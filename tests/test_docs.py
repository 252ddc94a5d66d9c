"""README.md and docs/ are true: links resolve, examples run, commands parse, the site builds."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest

import jvrc
from jvrc import demo
from jvrc.cli import build_parser
from jvrc.io.images import read_image, write_image

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
# Blocks that no test can run, by page: a comment before each says why.
NOT_RUN = {
    "docs/batches.md": ["needs Ray"],
    "docs/interop.md": ["needs CompressAI"],
    "docs/usage.md": ["needs a large file"] * 2,
}
# Pages that tell of files and options that were.
LOGS = [ROOT / "docs" / name for name in ("weights.md", "changelog.md")]

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.M | re.S,
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_SNIPPET = re.compile(r'^--8<-- "(.+)"$', re.M)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def text_of(page):
    """The page's Markdown, with the files that it includes."""
    text = page.read_text(encoding="utf-8")
    return _SNIPPET.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8"), text)


def blocks(page, language):
    """(body, reason why it is not run or None) of the page's code blocks in a language."""
    found = _BLOCK.finditer(text_of(page))
    return [(m["body"], m["reason"]) for m in found if m["language"] == language]


def prose(page):
    return _BLOCK.sub("", text_of(page))


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\s-]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def commands(page):
    """The commands in the page's shell blocks, as lists of words."""
    for body, _ in blocks(page, "sh"):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                yield words[: words.index("&&")]
                words = words[words.index("&&") + 1 :]
            if words:
                yield words


def run_python(*arguments, cwd, env):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
each_page_of_today = pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in LOGS], ids=name_of
)


def test_readme_is_read_in_three_minutes():
    assert len(README.read_text(encoding="utf-8").split()) <= 700


@each_page
def test_relative_links_and_anchors_resolve(page):
    for target in _LINK.findall(prose(page)):
        path, _, anchor = target.partition("#")
        if re.match(r"https?:", target):
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@each_page_of_today
def test_files_of_the_project_that_a_page_names_exist(page):
    for name in re.findall(r"(?<![\w./-])(?:jvrc|tests|colab)/[\w./-]*\w", page.read_text("utf-8")):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(
    "page",
    [
        page if page == README else pytest.param(page, marks=pytest.mark.slow)
        for page in PAGES
        if blocks(page, "python")
    ],
    ids=name_of,
)
def test_python_blocks_run_in_their_order(page, tmp_path):
    source = "\n".join(body for body, reason in blocks(page, "python") if not reason)
    (tmp_path / "page.py").write_text(source, encoding="utf-8")
    write_image(tmp_path / "photo.png", read_image(demo.bundled_photo()))
    quick = {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    done = run_python("page.py", cwd=tmp_path, env=quick)
    assert done.returncode == 0, done.stderr


def test_only_these_python_blocks_are_not_run():
    reasons = {name_of(p): [r for _, r in blocks(p, "python") if r] for p in PAGES}
    assert {name: found for name, found in reasons.items() if found} == NOT_RUN


def exit_code(words):
    """0 if the command's own parser accepts the words or prints its help."""
    try:
        build_parser().parse_args(words)
    except SystemExit as end:
        return end.code
    return 0


@each_page
def test_commands_parse_and_their_recipes_exist(page, capsys):
    for words in commands(page):
        if words[0] == "jvrc":
            assert exit_code(words[1:]) == 0, f"{shlex.join(words)}\n{capsys.readouterr().err}"
        if "--recipe" in words:
            assert_recipe(words)


def assert_recipe(words):
    """The package has the recipe and the stage that a command names."""
    path = ROOT / "jvrc" / "recipes" / f"{words[words.index('--recipe') + 1]}.toml"
    stages = {s["name"]: s["command"] for s in tomllib.loads(path.read_text("utf-8"))["stage"]}
    first = next(iter(stages))
    stage = words[words.index("--stage") + 1] if "--stage" in words else first
    assert stages[stage] == words[1], stage


@pytest.fixture(scope="module")
def options():
    """The options of all commands and benchmarks."""
    texts = [p.read_text("utf-8") for p in (ROOT / "tests" / "benchmarks").glob("*.py")]
    names = re.findall(r"^    ([a-z-]+) ", build_parser().format_help(), re.M)
    for name in names:
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            assert exit_code([name, "--help"]) == 0
        texts.append(shown.getvalue())
    return set(re.findall(r"--[a-z][a-z-]*", "\n".join(texts)))


@each_page_of_today
def test_options_in_prose_exist(page, options):
    for span in re.findall(r"`([^`]+)`", prose(page)):
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)) <= options, span


def test_structure_names_every_folder():
    text = (ROOT / "docs" / "structure.md").read_text("utf-8")
    named = set(re.findall(r"^\| `jvrc/(\w+)/`", text, re.M))
    folders = {p.name for p in (ROOT / "jvrc").iterdir() if p.is_dir() and p.name[0] not in "._"}
    assert named == folders


def test_package_index_gets_links_to_the_repository_and_its_own_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    rules = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    text = README.read_text("utf-8")
    for rule in rules:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    place = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+/(?:raw|blob)/v\$HFPR_VERSION/(.+)")
    linked = [found[1] for found in map(place.fullmatch, _LINK.findall(text)) if found]
    assert all((ROOT / path.partition("#")[0]).exists() for path in linked)
    assert len(linked) > 10
    assert all(re.match(r"https?:", target) for target in _LINK.findall(text))
    assert "pip install jvrc && jvrc demo" in text


def test_version_is_that_of_changelog_and_citation():
    changelog, citation = (
        (ROOT / name).read_text("utf-8") for name in ("CHANGELOG.md", "CITATION.cff")
    )
    version, date = re.search(r"^## \[(.+)\] - (\d{4}-\d\d-\d\d)$", changelog, re.M).groups()
    assert jvrc.__version__ == version
    assert f"\nversion: {version}\n" in citation
    assert f"\ndate-released: {date}\n" in citation
    assert len(changelog.partition("\n## ")[2].split()) <= 500  # read in two minutes


@pytest.mark.slow
def test_site_builds_strictly_and_fetches_nothing(tmp_path):
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    build = ["-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = run_python(*build, cwd=ROOT, env=quiet)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        html = page.read_text("utf-8")
        assert not re.search(r'(src|<link[^>]* href)="https?:', html), page
    assert "min_norm_weights" in (tmp_path / "api" / "training.html").read_text("utf-8")
    modules = (tmp_path / "structure.html").read_text("utf-8")
    for path in (ROOT / "jvrc").rglob("[a-z]*.py"):
        assert path.name in modules
