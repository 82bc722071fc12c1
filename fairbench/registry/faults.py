"""Faults in registry files, and messages with their place and how to fix them."""

import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairbench.core.errors import ConfigError, indent, suggest

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

Key = str | int
KeyPath = tuple[Key, ...]


SHOWN = 20  # faults in a message


@dataclass(frozen=True)
class Fault:
    """One mistake: the file, its line (from 1), the path of keys, and what is wrong there."""

    file: str
    line: int
    path: KeyPath
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        dotted = ".".join(str(key) for key in self.path)
        return f"{where}  {dotted}".rstrip() + f"\n{indent(self.message)}"


def fault_error(faults: Iterable[Fault]) -> ConfigError:
    """One ConfigError that lists the first of `faults`, by file and line, and how many more there are."""
    ordered = sorted(set(faults), key=lambda fault: (fault.file, fault.line, str(fault.path), fault.message))
    text = "\n".join(str(fault) for fault in ordered[:SHOWN])
    more = f"\nand {len(ordered) - SHOWN} more faults" if len(ordered) > SHOWN else ""
    return ConfigError(text + more)


def unknown_key(key: Key, who: str, known: Iterable[str]) -> str:
    """The message for a key that `who`, such as "a dataset", does not have."""
    known = list(known)
    close = suggest(str(key), known)
    accepts = f"{who} accepts {', '.join(known)}" if known else f"{who} accepts no keys"
    return f"unknown key {str(key)!r}; {accepts}." + (f" Did you mean {close!r}?" if close else "")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a reference to a `kind` that is not registered."""
    known = sorted(known)
    close = suggest(name, known)
    return f"no {kind} called {name!r}." + (
        f" Did you mean {close!r}?" if close else f" Known: {', '.join(known)}."
    )


def explain(
    error: "ValidationError", model: "type[BaseModel]", who: str, reserved: Sequence[str] = ()
) -> list[tuple[KeyPath, str]]:
    """Path and message of each mistake in `error`.

    `model` raised the error; `who` ("a dataset") is what it describes. `reserved` are top-level fields that a
    file may not contain.
    """
    mistakes: list[tuple[KeyPath, str]] = []
    for detail in error.errors(include_url=False):
        path: KeyPath = tuple(key for key in detail["loc"] if key != "[key]")
        context = detail.get("ctx", {})
        kind, value = detail["type"], detail["input"]
        if kind == "fault":
            path, message = (*path, *context["path"]), context["message"]
        elif kind in ("extra_forbidden", "invalid_key"):
            inside = _submodel(model, path[:-1])
            known = [key for key in inside.model_fields if len(path) > 1 or key not in reserved]
            message = unknown_key(path[-1], who if len(path) == 1 else str(path[-2]), known)
        elif kind == "missing":
            message = f"{path[-1]!r} is missing"
        else:
            message = f"expected {_expected(kind, context, detail['msg'])}, got {show(value)}"
        mistakes.append((path, message))
    return mistakes


def _submodel(model: "type[BaseModel]", path: KeyPath) -> "type[BaseModel]":
    """The model of the nested mapping at `path` of `model`."""
    for key in path:
        annotation = model.model_fields[str(key)].annotation
        parts = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
        model = next(part for part in parts if hasattr(part, "model_fields"))
    return model


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (types.UnionType, typing.Union)


_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number, or a fraction such as 8/255",
    "finite_number": "a finite number",
    "string_type": "text (put it in quotes)",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
}


def _expected(kind: str, context: dict[str, Any], message: str) -> str:
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    for bound, words in (("gt", "above"), ("ge", "of at least"), ("lt", "below"), ("le", "of at most")):
        if bound in context:
            return f"a number {words} {context[bound]}"
    if kind == "literal_error":
        return str(context["expected"])
    if kind in ("too_short", "too_long"):
        least, most = context.get("min_length"), context.get("max_length")
        return f"at least {least} of them" if least is not None else f"at most {most} of them"
    return f"something else ({message[:1].lower()}{message[1:]})"


def show(value: Any) -> str:
    """`value` as it is written in a registry file, cut to 60 characters."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
