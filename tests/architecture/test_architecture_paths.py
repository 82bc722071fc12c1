"""Every file and folder of a run is named in one module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fairbench"
NAMES = (
    *("cell.json", "record.json", "record.before.json", "provenance.json", "epochs.jsonl", "worker.log"),
    *("error.txt", ".damaged", ".partial", ".adversarial.safetensors", "steps.json"),
)


def texts(path: Path) -> Iterator[str]:
    """The texts in a module's code, documentation left out."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_a_run_is_named_in_one_module(name: str):
    homes = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for text in texts(path)
        if name in text
    }
    assert len(homes) == 1
    assert homes <= {"records/run_folder.py", "records/results_folder.py"}
