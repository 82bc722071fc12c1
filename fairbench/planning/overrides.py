"""Settings that a user changes: `--set PATH=VALUE`, and several values of one setting.

A value is read as in a registry file. `0.5,1,2` are three values: each gives cells of its own. `[16, 32]` is
one value, a list; so is `16,32` for an option of a method whose type is a list. Commas in quotes do not
separate values.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from fairbench.core.errors import ConfigError
from fairbench.registry import Registry, read_scalar
from fairbench.registry.components import EXAMPLES, SHORTHAND, component_faults, is_off

MOST_VARIANTS = 1000
QUOTES = "\"'"
_TOKEN = re.compile(r"""\[[^\]]*\]|"[^"]*"|'[^']*'|.""", re.DOTALL)


@dataclass(frozen=True)
class Grid:
    """Several values of one setting."""

    values: tuple[Any, ...]


def variants(overrides: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, dict[str, Any]]]:
    """The overrides with one value for each setting, in every combination; the last setting changes first.

    Raises ConfigError when there are too many combinations.
    """
    paths = [
        (section, option, value.values)
        for section, options in overrides.items()
        for option, value in options.items()
        if isinstance(value, Grid)
    ]
    count = prod(len(values) for _, _, values in paths)
    if count > MOST_VARIANTS:
        raise ConfigError(
            f"the values of --set have {count} combinations; at most {MOST_VARIANTS} can be planned at once.",
            hint="give fewer values, or make several plans",
        )
    for chosen in product(*(values for _, _, values in paths)):
        variant = {section: dict(options) for section, options in overrides.items()}
        for (section, option, _), value in zip(paths, chosen, strict=True):
            variant[section][option] = value
        yield variant


def split_values(text: str) -> list[str]:
    """The parts of "0.5,1,2" between commas that are not in brackets or quotes."""
    parts = [""]
    for token in _TOKEN.findall(text):
        if token == ",":
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts]


def read_value(text: str) -> Any:
    """The value of one part: a list in brackets, text in quotes, or a scalar as in a registry file."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in QUOTES:
        return text[1:-1]
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1].strip()
        return [read_value(part) for part in split_values(inner)] if inner else []
    return read_scalar(text)


def one_or_grid(values: Sequence[Any]) -> Any:
    """The value itself where there is one, else a grid of the different ones."""
    different = [value for index, value in enumerate(values) if value not in values[:index]]
    return different[0] if len(different) == 1 else Grid(tuple(different))


def parse_overrides(items: Sequence[str], registry: Registry) -> dict[str, dict[str, Any]]:
    """`methods.trix.strength=1.5` and `protocol.epochs=3` as {"methods.trix": {"strength": 1.5}, ...}.

    Several values give a Grid. Raises ConfigError or UnknownNameError.
    """
    overrides: dict[str, dict[str, Any]] = {}
    for item in items:
        path, equals, text = item.partition("=")
        parts = path.strip().split(".")
        if not equals or len(parts) < 2 or not all(parts):
            raise ConfigError(
                f"--set {item!r} is not an override.",
                hint="write methods.trix.strength=1.5 or protocol.epochs=30",
            )
        if parts[0] == "methods" and len(parts) >= 3:
            registry.get("method", parts[1], asked_by=f"--set {item}")
            option = ".".join(parts[2:])
            overrides.setdefault(f"methods.{parts[1]}", {})[option] = _method_value(
                registry, parts[1], option, text.strip()
            )
        elif parts[0] == "protocol" and parts[1] in ("name", "version", "source"):
            raise ConfigError(
                f"--set {item!r}: protocol.{parts[1]} identifies the protocol and cannot be changed."
            )
        elif parts[0] == "protocol" and parts[1] == "evaluation":
            raise ConfigError(f"--set {item!r}: evaluation attacks are chosen by --attacks.")
        elif parts[0] == "protocol":
            values = [read_value(part) for part in split_values(text.strip())]
            overrides.setdefault("protocol", {})[".".join(parts[1:])] = one_or_grid(values)
        else:
            raise ConfigError(
                f"--set {item!r}: only methods.NAME.OPTION and protocol.OPTION can be set.",
                hint="for instance methods.trix.strength=1.5 or protocol.batch_size=64",
            )
    return overrides


def _method_value(registry: Registry, method: str, option: str, text: str) -> Any:
    """The value or the grid of a method's option, in the type of the option."""
    declared = (registry.plugin(method).options or {}).get(option)
    if declared is not None and declared.is_list and not text.startswith("["):
        return registry.check_override(method, option, [read_value(part) for part in split_values(text)])
    parts = split_values(text)
    if declared is not None and declared.allowed is None and not declared.is_list:
        parts = [text]  # of a type of its own: what a comma means there is not known
    values = [part if part[:1] not in (*QUOTES, "[") else read_value(part) for part in parts]
    return one_or_grid([registry.check_override(method, option, value) for value in values])


def parse_component(name: str, text: str) -> Any:
    """The value of --augment, --averaging or --awp. Raises ConfigError for one that the component refuses."""
    value = read_scalar(text)
    settings = {} if value is True else {SHORTHAND[name]: value}
    for _, message in () if is_off(name, value) else component_faults(name, settings):
        example = EXAMPLES[name].replace("=", " ")
        raise ConfigError(f"--{name} {text}: {message}.", hint=f"for example: --{example}")
    return value
