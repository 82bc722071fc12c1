"""Which modules load torch when they are imported: only those that docs/architecture.md names."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision"}


def imports_at_once(body: list[ast.stmt]) -> Iterator[str]:
    """The modules that are imported together with a module, and the names taken from them."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports_at_once(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            inside = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
            yield from imports_at_once(inside)


def with_packages(name: str) -> set[str]:
    """A module and the packages that it is in, which are imported first."""
    parts = name.split(".")
    return {".".join(parts[: i + 1]) for i in range(len(parts))}


@pytest.fixture(scope="module")
def loading_torch() -> set[str]:
    """The modules of the package that load torch, directly or through others."""
    imported = {}
    for path in (ROOT / "fairbench").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found = imports_at_once(ast.parse(path.read_text()).body)
        imported[name] = set().union(*map(with_packages, found), with_packages(name) - {name})
    loading: set[str] = set()
    while new := {n for n, names in imported.items() if names & (HEAVY | loading)} - loading:
        loading |= new
    return loading


def rooms() -> Iterator[tuple[str, str]]:
    """Each room in the table of docs/architecture.md, and what its last column says of torch."""
    for line in (ROOT / "docs" / "architecture.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and cells[1].startswith("`fairbench/"):
            yield cells[1].strip("`").removesuffix(".py").replace("/", "."), cells[3]


def test_rooms_load_torch_where_the_page_on_architecture_says_so(loading_torch):
    table = dict(rooms())
    packages = {path.parent.name for path in (ROOT / "fairbench").glob("*/__init__.py")}
    assert table.keys() >= {f"fairbench.{name}" for name in packages}
    for room, says in table.items():
        loading = {name for name in loading_torch if f"{name}.".startswith(f"{room}.")}
        if says == "no":
            assert not loading, room
        elif says == "yes":
            assert loading, room
        else:
            assert {f"{room}.{name}" for name in re.findall(r"`(\w+)\.py`", says)} == loading, room
