"""An experiment in one YAML file: the options of `run` and `plan` as keys.

A key is an option without its dashes. A list is what commas separate in the option. `set` is a list of
`PATH=VALUE`, or a mapping of paths or of their parts. Paths of files start where the experiment's file is.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairbench.core.errors import ConfigError
from fairbench.core.home import expanded
from fairbench.registry.declare import KINDS
from fairbench.registry.faults import fault_error, show, unknown_key
from fairbench.registry.source import read_source

OptionKind = Literal["text", "path", "flag", "several"]
_EXECUTOR_FILE = re.compile(r"[^:]+\.py:\w+")
SETTINGS = "set"


@dataclass(frozen=True)
class Typed:
    """One option of an experiment: the words of the command line, and where they are written."""

    option: str
    words: tuple[str, ...]
    where: str


def read_experiment(path: Path, options: Mapping[str, OptionKind]) -> list[Typed]:
    """The content of the file, in its order, as words of the command line.

    `options`: every option without its dashes. Raises one ConfigError for all faults of the file.
    """
    if not path.is_file():
        raise ConfigError(
            f"there is no file {path} with an experiment.",
            hint="names are separated by commas, without spaces: --methods trix,dafa",
        )
    source = read_source(path)
    data = source.data
    faults = list(source.faults)
    typed: list[Typed] = []
    if not faults and not isinstance(data, dict):
        faults.append(source.fault((), "expected options of `fairbench run` as keys, such as methods: trix"))
    elif not faults and is_registry(data):
        message = f"this is a registry file; use it by: --registry {source.label}"
        faults.append(source.fault((next(iter(data)),), message))
    for key, value in data.items() if isinstance(data, dict) and not faults else ():
        option = str(key).replace("_", "-")
        if option not in options:
            faults.append(source.fault((key,), unknown_key(key, "an experiment", options)))
            continue
        try:
            words = tuple(_words(option, options[option], value, source.folder))
            typed.append(Typed(option, words, f"{source.label}:{source.line((key,))}  {key}"))
        except ValueError as error:
            faults.append(source.fault((key,), str(error)))
    if faults:
        raise fault_error(faults)
    return typed


def is_registry(data: Mapping[Any, Any]) -> bool:
    """Whether the keys are those of a registry file."""
    return "version" in data and set(data) <= {"version", *(f"{kind}s" for kind in KINDS)}


def _words(option: str, kind: OptionKind, value: Any, folder: Path) -> Iterator[str]:
    """The words of one option. Raises ValueError for a value that it cannot have."""
    if kind == "flag":
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false, got {show(value)}")
        if value:
            yield f"--{option}"
    elif option == SETTINGS:
        for setting in _settings(value):
            yield from (f"--{option}", setting)
    else:
        texts = value if isinstance(value, list) and kind == "several" else [value]
        for text in map(_text, texts):
            place = kind == "path" or option == "registry" or _EXECUTOR_FILE.fullmatch(text)
            yield from (f"--{option}", str(folder / expanded(text)) if place else text)


def _settings(value: Any, prefix: str = "") -> Iterator[str]:
    """The settings of a list of PATH=VALUE, or of a mapping, as PATH=VALUE."""
    if isinstance(value, dict):
        for key, inner in value.items():
            path = f"{prefix}.{key}" if prefix else str(key)
            yield from _settings(inner, path) if isinstance(inner, dict) else [f"{path}={_text(inner)}"]
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        yield from value
    else:
        yield _text(value)


def _text(value: Any, nested: bool = False) -> str:
    """A value as it is typed: the items of a list with commas between them, text with a comma in quotes."""
    if isinstance(value, list):
        inner = ",".join(_text(item, nested=True) for item in value)
        return f"[{inner}]" if nested else inner
    if value is None:
        return "none"
    if isinstance(value, dict):
        raise ValueError(f"expected a value or a list, got {show(value)}")
    if isinstance(value, bool):
        return show(value)
    return f"'{value}'" if nested and isinstance(value, str) and "," in value else str(value)
