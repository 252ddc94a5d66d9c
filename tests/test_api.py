"""Claims about the package as a whole: its names, what importing costs, and who may import whom."""

import ast
import graphlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import jvrc

ROOT = Path(jvrc.__file__).parent

NAMES = {
    "QSTEP_MAX",
    "QSTEP_MIN",
    "BitstreamError",
    "Estimate",
    "FrozenModel",
    "Info",
    "Picture",
    "compress",
    "compress_batch",
    "decompress",
    "decompress_batch",
    "decompress_picture",
    "forward",
    "inspect",
    "load",
    "models",
    "thumbnail",
}

# The folders (and the modules beside them) from the top down: a module imports those of lower
# layers, or others of its own folder.
LAYERS = (
    {"jvrc.__main__"},
    {"jvrc.cli"},
    {"jvrc.demo", "jvrc.pillow"},
    {"jvrc.evaluation", "jvrc.interop"},
    {"jvrc.export"},
    {"jvrc"},  # __init__.py
    {"jvrc.codec", "jvrc.training"},
    {"jvrc.frozen"},
    {"jvrc.integer", "jvrc.coding"},
    {"jvrc.model"},
    {"jvrc.qstep", "jvrc.io", "jvrc.runtime", "jvrc.errors"},
)

# The same of the folders inside a folder, whose own name stands for the modules beside them.
INNER = {
    "jvrc.codec": (
        {"jvrc.codec"},
        {"jvrc.codec.rate_control"},
        {"jvrc.codec.image"},
        {"jvrc.codec.latent_coders", "jvrc.codec.patches"},
        {"jvrc.codec.effort"},
        {"jvrc.codec.tiles"},
        {"jvrc.codec.transforms"},
    ),
    "jvrc.export": ({"jvrc.export"}, {"jvrc.export.refinement"}),
    "jvrc.training": (
        {"jvrc.training"},
        {"jvrc.training.run"},
        {"jvrc.training.update"},
        {"jvrc.training.recipe", "jvrc.training.validation"},
        {"jvrc.training.data", "jvrc.training.initialisation", "jvrc.training.loss"},
    ),
}

HEAVY = {"torch", "tensorflow", "matplotlib", "orbax", "flax", "optax", "scipy", "skimage"}


def module_name(path):
    parts = ("jvrc", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {
    module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")
}
FOLDERS = {module_name(path) for path in ROOT.rglob("__init__.py")}


def imports(tree):
    """The modules of jvrc that a module imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name in TREES else node.module for name in names]
        else:
            continue
        yield from (name for name in found if name.split(".")[0] == "jvrc")


def unit(module):
    """The name under which LAYERS lists a module."""
    return ".".join(module.split(".")[:2])


def layer(module):
    found = [i for i, units in enumerate(LAYERS) if unit(module) in units]
    assert found, f"{module} is in no layer: give it a place in LAYERS"
    return found[0]


def inner_unit(module):
    """The name under which INNER lists a module: its folder's, or that of the folder around it."""
    name = ".".join(module.split(".")[:3])
    return name if name in FOLDERS else unit(module)


def inner_layer(module):
    found = [i for i, units in enumerate(INNER[unit(module)]) if inner_unit(module) in units]
    assert found, f"{module} is in no layer of its folder: give it a place in INNER"
    return found[0]


def public_functions(tree):
    """Of the module and of its classes: (function, parameters)."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in [*tree.body, *(inner for c in classes for inner in c.body)]:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            args = node.args
            yield node, [*args.posonlyargs, *args.args, *args.kwonlyargs]


@pytest.mark.parametrize("module", TREES)
def test_imports_only_go_downward(module):
    for imported in imports(TREES[module]):
        assert imported in TREES, f"{module} imports {imported}, which does not exist"
        inside = unit(imported) == unit(module) and module != "jvrc"
        assert inside or layer(imported) > layer(module), f"{module} must not import {imported}"


@pytest.mark.parametrize("module", [name for name in TREES if unit(name) in INNER])
def test_imports_inside_a_folder_only_go_downward(module):
    for imported in imports(TREES[module]):
        if unit(imported) == unit(module) and inner_unit(imported) != inner_unit(module):
            below = inner_layer(imported) > inner_layer(module)
            assert below, f"{module} must not import {imported}"


def test_folders_inside_a_folder_are_those_of_inner():
    inner = {name for name in FOLDERS if name.count(".") > 1}
    listed = {name for layers in INNER.values() for units in layers for name in units}
    assert inner == listed - set(INNER)


def test_imports_have_no_cycles():
    graph = {name: set(imports(tree)) - {name} for name, tree in TREES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("module", TREES)
def test_every_module_says_what_it_is_for(module):
    assert ast.get_docstring(TREES[module])


@pytest.mark.parametrize("module", TREES)
def test_public_functions_are_annotated_and_call_a_random_key_key(module):
    for function, parameters in public_functions(TREES[module]):
        for parameter in parameters:
            if parameter.arg in ("self", "cls"):
                continue
            where = f"{module}.{function.name}: {parameter.arg}"
            assert parameter.annotation is not None, where
            if parameter.arg.endswith("rng"):  # NumPy's generator may keep its usual name
                assert ast.unparse(parameter.annotation) == "np.random.Generator", where


def test_public_names_are_these():
    assert set(jvrc.__all__) == NAMES
    assert set(dir(jvrc)) >= NAMES
    for name in NAMES:
        assert getattr(jvrc, name) is not None
    with pytest.raises(AttributeError, match="No jvrc attribute enhance"):
        jvrc.enhance  # noqa: B018


@pytest.mark.parametrize("name", sorted(NAMES))
def test_public_options_are_keyword_only_and_documented(name):
    value = getattr(jvrc, name)
    if not callable(value):
        return
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        for parameter in inspect.signature(value).parameters.values():
            optional = parameter.default is not parameter.empty
            assert optional == (parameter.kind is parameter.KEYWORD_ONLY) or (
                parameter.name == "qstep"  # the usual way to choose a rate, but not the only one
            ), parameter


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import jvrc", HEAVY | {"jax", "jaxlib", "numpy", "PIL"}),
        ("from jvrc import cli; cli.build_parser()", HEAVY | {"jax", "jaxlib", "numpy", "PIL"}),
        ("from jvrc import compress, load; load('mbt2018-mean')", HEAVY),
        ("import jvrc.demo; jvrc.demo.bundled_photo()", HEAVY | {"jax"}),
    ],
)
def test_importing_is_light(statement, unwanted):
    code = f"import sys\n{statement}\nprint(*sorted({unwanted!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout.split()) == (0, []), result.stderr


def replaces_an_attribute(node):
    """Return whether it is setattr(owner, "name", …) of monkeypatch, or mock.patch.object(…)."""
    method = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
    if method not in ("setattr", "object") or len(node.args) < 2:
        return False
    return isinstance(node.args[1], ast.Constant)


def private_names(tree):
    """Names of jvrc's modules that begin with an underscore, as a test or benchmark uses them."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jvrc":
            yield from (alias.name for alias in node.names if alias.name.startswith("_"))
            modules |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree):
        name, owner = None, None
        if isinstance(node, ast.Attribute):
            name, owner = node.attr, node.value
        elif replaces_an_attribute(node):
            name, owner = str(node.args[1].value), node.args[0]
        if isinstance(owner, ast.Name) and owner.id in modules and name.startswith("_"):
            yield f"{owner.id}.{name}"


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.rglob("*.py")), ids=lambda p: p.stem)
def test_tests_and_benchmarks_use_public_names(path):
    assert not list(private_names(ast.parse(path.read_text(encoding="utf-8"))))
