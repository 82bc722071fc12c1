"""Needs of a method, read from the `Needs(...)` in its source."""

import ast
from collections.abc import Callable, Iterator

from fairbench.registry.options import last_name

SOMETIMES = "in some settings"
"""Ends the text of a need that some options do not have."""

Sources = Callable[[str], ast.Module | None]


def read_needs(node: ast.ClassDef, tree: ast.Module, sources: Sources) -> dict[str, str]:
    """The needs of the class `node` in `tree`, as text: {"epoch_stats": "robust_accuracy"}.

    A need that depends on an option names the option. `sources` gives the tree of a module of fairbench, for
    needs that are inherited from a class there.
    """
    for cls, _ in _lineage(node, tree, sources):
        calls = _calls(cls)
        if calls is not None:
            return _as_text(calls)
    return {}


def _lineage(
    node: ast.ClassDef, tree: ast.Module, sources: Sources
) -> Iterator[tuple[ast.ClassDef, ast.Module]]:
    """The class, then its base classes in the same file and in fairbench."""
    yield node, tree
    for base in node.bases:
        home = _home(last_name(base), tree, sources)
        if home is not None and home[0] is not node:
            yield from _lineage(*home, sources)


def _home(name: str, tree: ast.Module, sources: Sources) -> tuple[ast.ClassDef, ast.Module] | None:
    """The definition of the class `name` that `tree` defines or imports, with its module."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, tree
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "fairbench":
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    module = sources(node.module or "")
                    return None if module is None else _home(alias.name, module, sources)
    return None


def _calls(node: ast.ClassDef) -> list[ast.Call] | None:
    """The `Needs(...)` calls in the class: in its attribute `needs`, or in a function `needs(config)`."""
    for part in node.body:
        targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", part)]
        if "needs" in [getattr(target, "id", getattr(target, "name", "")) for target in targets]:
            calls = [call for call in ast.walk(part) if isinstance(call, ast.Call)]
            return sorted(
                (call for call in calls if last_name(call.func) == "Needs"), key=lambda call: call.lineno
            )
    return None


def _as_text(calls: list[ast.Call]) -> dict[str, str]:
    needs: dict[str, list[str]] = {}
    for call in calls:
        for keyword in call.keywords:
            text = _text(keyword.value)
            if keyword.arg is not None and text:
                needs.setdefault(keyword.arg, []).append(text)
    return {name: _joined(name, texts, len(texts) < len(calls)) for name, texts in needs.items()}


def _joined(name: str, texts: list[str], partly: bool) -> str:
    """The texts of one need, which is `partly` absent."""
    if partly and texts[0] == "yes":
        return SOMETIMES
    joined = " or ".join(dict.fromkeys(texts))
    return f"{joined} {SOMETIMES}" if partly and name in ("teachers", "watched", "waits") else joined


def _text(value: ast.expr) -> str:
    """The value of a need as text; empty for one that is switched off."""
    if isinstance(value, ast.Call) and last_name(value.func) in ("frozenset", "set"):
        return _text(value.args[0]) if value.args else ""
    if isinstance(value, ast.Set | ast.Tuple | ast.List):
        return ", ".join(sorted(filter(None, map(_text, value.elts))))
    if isinstance(value, ast.Constant):
        if value.value is None or value.value is False:
            return ""
        return "yes" if value.value is True else str(value.value)
    if isinstance(value, ast.Attribute) and last_name(value.value) == "config":
        return f"as option {value.attr}"
    return ast.unparse(value)
