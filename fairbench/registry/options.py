"""The options of a method, read from its `Config` dataclass, and the values that they allow."""

import ast
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fairbench.registry.faults import show
from fairbench.registry.fields import parse_number

LISTS = {"tuple", "list", "Tuple", "List", "Sequence"}
REQUIRED = "<required>"
"""Stands for the default of an option without a default."""


@dataclass(frozen=True)
class Option:
    """One hyper-parameter: its type annotation, its default, and the comment after it."""

    name: str
    annotation: str
    default: Any
    help: str = ""

    def accept(self, value: Any) -> Any:
        """`value` in the type of the option; for a float, whole numbers and fractions are converted.

        Raises ValueError with the expected type.
        """
        allowed = self.allowed
        if self.is_list and isinstance(value, list) and isinstance(self.default, tuple):
            return tuple(value)
        if allowed is None or any(
            value == choice and type(value) is type(choice) for choice in allowed.choices
        ):
            return value
        if "float" in allowed.types:
            number = parse_number(value)
            if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number):
                return float(number)
        for name, kind in (("bool", bool), ("int", int), ("str", str)):
            if name in allowed.types and type(value) is kind:
                return value
        raise ValueError(f"expected {allowed}, got {show(value)}")

    @property
    def is_list(self) -> bool:
        """Whether the annotation is that of a list or a tuple."""
        try:
            nodes = ast.walk(ast.parse(self.annotation, mode="eval"))
        except SyntaxError:
            return False
        return any(last_name(node) in LISTS for node in nodes if isinstance(node, ast.Name | ast.Attribute))

    @property
    def allowed(self) -> "Allowed | None":
        """The values that the annotation allows; None when they cannot be read from it."""
        return _allowed(self.annotation)


@dataclass(frozen=True)
class Allowed:
    """Allowed values: types by name ("int", "float", "bool", "str") and single values."""

    types: frozenset[str]
    choices: tuple[Any, ...]

    def __str__(self) -> str:
        words = {
            "float": "a number (or a fraction such as 8/255)",
            "int": "a whole number",
            "bool": "true or false",
            "str": "text",
        }
        parts = [text for name, text in words.items() if name in self.types]
        return " or ".join(parts + [show(choice) for choice in self.choices])


class NotLiteral(Exception):
    """A default that cannot be read without running the code."""


def read_options(config: ast.ClassDef, lines: list[str]) -> dict[str, Option] | None:
    """The fields of the dataclass `config` in a file with `lines`. None when a default is not a literal."""
    if config.bases:
        return None
    options: dict[str, Option] = {}
    for node in config.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        annotation = ast.unparse(node.annotation)
        if annotation.rpartition(".")[2].startswith("ClassVar"):
            continue
        try:
            default = REQUIRED if node.value is None else literal(node.value)
        except NotLiteral:
            return None
        options[node.target.id] = Option(node.target.id, annotation, default, _comment_after(node, lines))
    return options


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Div: operator.truediv,
    ast.Mult: operator.mul,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
}


def literal(node: ast.expr) -> Any:
    """The value of a literal: constants, signs, + - * / of numbers, tuples, lists. Raises NotLiteral."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _number(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        try:
            return _BINARY[type(node.op)](_number(node.left), _number(node.right))
        except ArithmeticError as error:
            raise NotLiteral from error
    if isinstance(node, ast.Tuple):
        return tuple(literal(item) for item in node.elts)
    if isinstance(node, ast.List):
        return [literal(item) for item in node.elts]
    raise NotLiteral


def _number(node: ast.expr) -> int | float:
    value = literal(node)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise NotLiteral


def _comment_after(node: ast.stmt, lines: list[str]) -> str:
    line = lines[(node.end_lineno or 1) - 1].encode()
    rest = line[node.end_col_offset or 0 :].decode(errors="replace").strip()
    return rest.removeprefix("#").strip() if rest.startswith("#") else ""


def _allowed(annotation: str) -> Allowed | None:
    """The values that the annotation allows; None when they cannot be read from it."""
    try:
        members = list(_members(ast.parse(annotation, mode="eval").body))
    except (SyntaxError, NotLiteral):
        return None
    types = frozenset(value for kind, value in members if kind == "type")
    choices = tuple(value for kind, value in members if kind == "choice")
    return Allowed(types, choices) if types <= {"int", "float", "bool", "str"} else None


def _members(node: ast.expr) -> Iterable[tuple[str, Any]]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_members(node.left), *_members(node.right)]
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):  # a quoted annotation
            return _members(ast.parse(node.value, mode="eval").body)
        return [("choice", node.value)]
    if isinstance(node, ast.Subscript):
        name = last_name(node.value)
        inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Literal":
            return [("choice", literal(item)) for item in inside]
        if name == "Optional":
            return [*_members(inside[0]), ("choice", None)]
        if name == "Union":
            return [member for item in inside for member in _members(item)]
        raise NotLiteral
    return [("type", last_name(node))]


def last_name(node: ast.AST) -> str:
    """The name that a name or a dotted name ends in, "" for any other expression."""
    return node.attr if isinstance(node, ast.Attribute) else str(getattr(node, "id", ""))
