"""What may import what. The layers of the rooms are checked by import-linter: pyproject.toml, .ci/run."""

import ast
import importlib
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METHODS = sorted(path for path in (ROOT / "methods").glob("*.py") if path.name != "__init__.py")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "fairbench").rglob("*.py")
    if path.name != "__main__.py"
)


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it; with dots in front when relative."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_a_method_imports_the_api_torch_and_the_standard_library_only(path: Path):
    for name in imported(path):
        top = name.partition(".")[0]
        assert name == "fairbench.api" or top == "torch" or top in sys.stdlib_module_names, name


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_a_method_is_one_file_that_reads_in_one_sitting(path: Path):
    assert len(path.read_text().splitlines()) <= 150


def test_the_api_only_re_exports():
    tree = ast.parse((ROOT / "fairbench" / "api.py").read_text())
    docstring, *rest = tree.body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(node, ast.ImportFrom) or is_export_list(node) for node in rest)
    api = importlib.import_module("fairbench.api")
    assert all(hasattr(api, name) for name in api.__all__)


def is_export_list(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def test_only_training_augments_images():
    users = {
        path.parent.name
        for path in (ROOT / "fairbench").rglob("*.py")
        if {"fairbench.data.stream", "fairbench.data.augment"} & set(imported(path))
    }
    # The runner and the benchmark hand the protocol's crop and flip on.
    assert users == {"data", "training", "runner", "speed"}
    for place in ("runner/worker.py", "speed/timed_training.py"):
        assert "EpochStream" not in (ROOT / "fairbench" / place).read_text()


def test_every_package_folder_is_in_the_wheel():
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "fairbench").rglob("__init__.py")
    }
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == {*folders, "fairbench_methods"}
    with_code = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "fairbench").rglob("*.py")}
    assert with_code == folders  # no folder of modules without __init__.py


def test_every_method_file_is_an_entry_point():
    points = PYPROJECT["project"]["entry-points"]["fairbench.methods"]
    modules = {target.partition(":")[0] for target in points.values()}
    assert modules == {f"fairbench_methods.{path.stem}" for path in METHODS}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports_without_a_warning(name: str):
    importlib.import_module(name)  # warnings are errors in this test run


def modules_imported(path: Path) -> Iterator[str]:
    """The modules and packages of fairbench that a file imports, in functions and for types only too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [sub if sub in MODULES else str(node.module) for sub in submodules]
        else:
            continue
        yield from (name for name in names if name in MODULES)


def circle(imports: dict[str, set[str]]) -> list[str]:
    """The modules of one import circle, the first repeated at the end; empty when there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle():
    imports: dict[str, set[str]] = {}
    for path in (ROOT / "fairbench").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        imports[name] = set(modules_imported(path))
    assert circle(imports) == []


def test_imports_for_types_and_in_functions_count_as_imports(tmp_path: Path):
    file = tmp_path / "module.py"
    file.write_text(
        "if TYPE_CHECKING:\n    from fairbench.tables.request import TableRequest\n"
        "def late():\n    from fairbench.tables import captions\n    import fairbench.core.files\n"
    )
    expected = {"fairbench.tables.request", "fairbench.tables.captions", "fairbench.core.files"}
    assert set(modules_imported(file)) == expected
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def test_every_command_can_be_imported_and_has_help():
    from fairbench.cli.main import COMMANDS, cli

    for name in COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.name == name
        assert command.help
        module = importlib.import_module(f"fairbench.cli.{name}")
        assert getattr(module, f"{name}_command") is command


def test_no_two_public_classes_share_a_name():
    """But for `Config` and `State`, which every plugin has."""
    places: dict[str, list[str]] = {}
    for path in (ROOT / "fairbench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    shared = {name: files for name, files in places.items() if len(files) > 1}
    assert shared.keys() <= {"Config", "State"}, shared


def test_no_module_is_longer_than_one_sitting():
    long = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / "fairbench").rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 400
    }
    assert long == {}
