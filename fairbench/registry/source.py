"""Strict YAML with the line of every key.

A registry file is plain data: mappings, lists and scalars. Tags, anchors, aliases and duplicate keys are
faults: a file cannot run code, cannot become larger when it is read, and has one value per key. Scalars
follow YAML 1.2 where YAML 1.1 is surprising: `5e-4` is a number, `on`, `off`, `yes` and `no` are text, `012`
is twelve.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from fairbench.core.errors import ConfigError
from fairbench.core.regular import read_regular
from fairbench.registry.faults import Fault, Key, KeyPath

MAX_DEPTH = 20
"""Deepest nesting that is read; a registry needs six levels."""

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

MAX_BYTES = 8 << 20  # of a registry file, read in a few seconds; fairbench's own has 28 kB
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Source:
    """One YAML file: its plain data, the line of every key and item, and its faults."""

    label: str  # name of the file in messages
    folder: Path  # relative paths in the file start here
    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line(self, path: KeyPath) -> int:
        """The line of `path`, or of the nearest parent that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def fault(self, path: KeyPath, message: str) -> Fault:
        """A fault at `path` of this file."""
        return Fault(self.label, self.line(path), path, message)


def read_source(path: Path, label: str = "") -> Source:
    """The YAML file at `path`. Raises ConfigError when it cannot be read; other faults are collected."""
    try:
        text = read_regular(path, MAX_BYTES, links=True).decode("utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the registry file {path}: {error.strerror or error}.",
            hint="check its path and permissions",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text.", hint="save it as UTF-8") from error
    return parse_source(text, label or str(path), path.parent.absolute())


def parse_source(text: str, label: str, folder: Path = Path()) -> Source:
    """The YAML document `text`. All its faults, syntax errors included, are in `Source.faults`."""
    source = Source(label, folder)
    data = None
    try:
        data = _Reader(source, yaml.parse(text, Loader=_Loader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(part for part in (error.context, error.problem) if part)
        source.faults.append(Fault(label, mark.line + 1 if mark else 1, (), f"not valid YAML: {message}"))
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        source.faults.append(Fault(label, 1, (), f"not valid YAML: {str(error).splitlines()[0]}"))
    except _TooDeepError as error:
        source.faults.append(Fault(label, error.line, error.path, f"nested deeper than {MAX_DEPTH} levels"))
    return replace(source, data=data)


def read_scalar(text: str) -> Any:
    """Value of the unquoted scalar `text` in a registry file: None, a bool, a number, or the text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


class _TooDeepError(Exception):
    def __init__(self, line: int, path: KeyPath) -> None:
        self.line, self.path = line, path


class _Reader:
    """Builds plain data from YAML events; aliases are not expanded."""

    def __init__(self, source: Source, events: Iterator[yaml.Event]) -> None:
        self.source = source
        self.events = events

    def document(self) -> Any:
        next(self.events)  # the stream starts
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        data = self.value(next(self.events), ())
        next(self.events)  # the document ends
        following = next(self.events)
        if not isinstance(following, yaml.StreamEndEvent):
            self.fault(following, (), "a second YAML document; a registry file has one")
        return data

    def value(self, event: Any, path: KeyPath) -> Any:
        if len(path) > MAX_DEPTH:
            raise _TooDeepError(_line(event), path)
        if isinstance(event, yaml.AliasEvent):
            self.fault(event, path, f"alias '*{event.anchor}'; write the value out, or use `extends`")
            return None
        if event.anchor is not None:
            self.fault(event, path, f"anchor '&{event.anchor}'; write the value out, or use `extends`")
        if event.tag is not None:
            self.fault(event, path, f"tag '{event.tag}'; a registry file holds plain data only")
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(path)
        return read_scalar(event.value) if event.implicit[0] and event.style in (None, "") else event.value

    def mapping(self, path: KeyPath) -> dict[Key, Any]:
        data: dict[Key, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.value(event, (*path, "?"))
            sound = isinstance(key, str | int) and not isinstance(key, bool)
            if not sound:
                self.fault(event, path, "a key must be text or a whole number; put it in quotes")
                key = "?"
            child = (*path, key)
            if sound and key in data:
                first = self.source.lines[child]
                self.fault(event, child, f"duplicate key {key!r}, first given in line {first}")
                self.value(next(self.events), (*path, "?"))
                continue
            self.source.lines[child] = _line(event)
            value = self.value(next(self.events), child)
            if sound:
                data[key] = value
        return data

    def sequence(self, path: KeyPath) -> list[Any]:
        data: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            child = (*path, len(data))
            self.source.lines[child] = _line(event)
            data.append(self.value(event, child))
        return data

    def fault(self, event: Any, path: KeyPath, message: str) -> None:
        self.source.faults.append(Fault(self.source.label, _line(event), path, message))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
