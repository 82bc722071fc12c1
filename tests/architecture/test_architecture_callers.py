"""Nothing in the package is there for tests alone: every function, class and method has a caller in it."""

import ast
import re
from collections import Counter
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PUBLIC = ("fairbench/api.py", "fairbench/testing/__init__.py")
CALLED_BY_NAME = re.compile(
    r"\w+_(command|figures?)|(pytest|test)_\w+"
)  # by cli/main.py, figures/kinds.py, pytest


def trees() -> dict[str, ast.Module]:
    files = [path for room in ("fairbench", "methods") for path in sorted((TOP / room).rglob("*.py"))]
    return {path.relative_to(TOP).as_posix(): ast.parse(path.read_text("utf-8")) for path in files}


def words(tree: ast.AST) -> Counter[str]:
    """How often the code in `tree` uses each name; names in short strings count, imports do not."""
    used: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            used[node.id] += 1
        elif isinstance(node, ast.Attribute):
            used[node.attr] += 1
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            used[node.value] += 1
    return used


def definitions(tree: ast.AST) -> list[ast.FunctionDef | ast.ClassDef]:
    """Functions, classes and methods that a framework does not call: undecorated, and no override."""
    found: list[ast.FunctionDef | ast.ClassDef] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            plain = {ast.unparse(item) for item in node.decorator_list} <= {"property", "cached_property"}
            if (plain or isinstance(node, ast.ClassDef)) and not node.name.startswith("__"):
                found.append(node)
            if isinstance(node, ast.ClassDef) and not node.bases:
                found += definitions(node)
    return found


def test_every_definition_has_a_caller_in_the_package():
    code = trees()
    used = sum((words(tree) for tree in code.values()), Counter())
    used.update(re.findall(r"\w+", (TOP / "registry.yaml").read_text("utf-8")))
    public = set().union(*(words(code[file]) for file in PUBLIC))
    unused = [
        f"{file}:{node.lineno} {node.name}"
        for file, tree in code.items()
        if file.startswith("fairbench/")
        for node in definitions(tree)
        if used[node.name] == words(node)[node.name]  # what calls only itself has no caller
        and node.name not in public
        and not CALLED_BY_NAME.fullmatch(node.name)
    ]
    assert unused == []
