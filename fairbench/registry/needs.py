"""What a method asks of the house, read from the `Needs(...)` in its source."""

import ast
from collections.abc import Callable, Iterator

HOUSE = "fairbench"

Sources = Callable[[str], ast.Module | None]


def read_needs(node: ast.ClassDef, tree: ast.Module, sources: Sources) -> dict[str, str]:
    """The needs of the class `node` in `tree`, as text: {"epoch_stats": "robust_accuracy"}.

    What depends on an option names it. Needs inherited from a class of the house are found through `sources`,
    which gives a module's tree.
    """
    for found, _ in _lineage(node, tree, sources):
        calls = _calls(found)
        if calls is not None:
            return _told(calls)
    return {}


def _lineage(
    node: ast.ClassDef, tree: ast.Module, sources: Sources
) -> Iterator[tuple[ast.ClassDef, ast.Module]]:
    """The class, then its bases: in the same file, or ours."""
    yield node, tree
    for base in node.bases:
        name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
        home = _home(name, tree, sources)
        if home is not None and home[0] is not node:
            yield from _lineage(*home, sources)


def _home(name: str, tree: ast.Module, sources: Sources) -> tuple[ast.ClassDef, ast.Module] | None:
    """Where the class `name`, as seen from `tree`, is written."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, tree
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == HOUSE:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    module = sources(node.module or "")
                    return None if module is None else _home(alias.name, module, sources)
    return None


def _calls(node: ast.ClassDef) -> list[ast.Call] | None:
    """The `Needs(...)` that the class itself writes, as an attribute or in a function of the options."""
    for part in node.body:
        targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", part)]
        if "needs" in [getattr(target, "id", getattr(target, "name", "")) for target in targets]:
            found = [each for each in ast.walk(part) if isinstance(each, ast.Call)]
            return sorted(
                (each for each in found if _name(each.func) == "Needs"), key=lambda each: each.lineno
            )
    return None


def _told(calls: list[ast.Call]) -> dict[str, str]:
    needs: dict[str, list[str]] = {}
    for call in calls:
        for keyword in call.keywords:
            text = _text(keyword.value)
            if keyword.arg is not None and text:
                needs.setdefault(keyword.arg, []).append(text)
    return {
        name: "in some settings"
        if texts[0] == "yes" and len(texts) < len(calls)
        else " or ".join(dict.fromkeys(texts))
        for name, texts in needs.items()
    }


def _text(value: ast.expr) -> str:
    """A need in words; empty for one that is switched off."""
    if isinstance(value, ast.Call) and _name(value.func) in ("frozenset", "set"):
        return _text(value.args[0]) if value.args else ""
    if isinstance(value, ast.Set | ast.Tuple | ast.List):
        return ", ".join(sorted(filter(None, map(_text, value.elts))))
    if isinstance(value, ast.Constant):
        if value.value is None or value.value is False:
            return ""
        return "yes" if value.value is True else str(value.value)
    if isinstance(value, ast.Attribute) and _name(value.value) == "config":
        return f"as option {value.attr}"
    return ast.unparse(value)


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else str(getattr(node, "id", ""))
