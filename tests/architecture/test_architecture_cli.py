"""The command line parses, calls and prints: one module per command, short functions, no computing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairbench.cli.main import COMMANDS

CLI = Path(__file__).parents[2] / "fairbench" / "cli"
MODULES = sorted(path for path in CLI.glob("*.py") if not path.name.startswith("__"))
SHARED = {
    "command",
    "completion",
    "experiment",
    "main",
    "options",
    "output",
    "plan_summary",
    "progress",
    "streams",
}
LONGEST = 40  # lines of a function without its docstring
COMPUTING = (  # what reads single outcomes or computes with them; the rooms do that
    "numpy",
    "pandas",
    "scipy",
    "torch",
    "fairbench.metrics.classwise",
    "fairbench.records.curves",
    "fairbench.records.outcomes",
    "fairbench.stats",
)


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def length(function: ast.FunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    first = function.body[0]
    docstring = first if ast.get_docstring(function) else None
    end = function.end_lineno or 0
    taken = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
    return end - function.lineno + 1 - taken


def test_every_module_is_a_command_or_shared_by_several():
    assert {path.stem for path in MODULES} == set(COMMANDS) | SHARED
    for path in MODULES:
        commands = {f.name for f in functions(path)} & {f"{name}_command" for name in COMMANDS}
        assert commands == ({f"{path.stem}_command"} if path.stem in COMMANDS else set())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_function_of_the_command_line_is_long(path):
    assert {f.name: length(f) for f in functions(path) if length(f) > LONGEST} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_command_line_computes_nothing(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    assert not [name for name in imported if name.startswith(COMPUTING)]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_no_loop_in_a_loop(name):
    (command,) = (f for f in functions(CLI / f"{name}.py") if f.name == f"{name}_command")
    loops = [node for node in ast.walk(command) if isinstance(node, ast.For | ast.While)]
    inner = [node for loop in loops for node in ast.walk(loop) if node in loops and node is not loop]
    assert not [node.lineno for node in inner]
