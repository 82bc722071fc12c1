"""The entries as registry files declare them, unresolved, and the faults found in them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from fairbench.core.home import expanded
from fairbench.registry.faults import Fault, KeyPath, explain, show, unknown_key, unknown_name
from fairbench.registry.fields import NAME, RegistryEntry
from fairbench.registry.source import Source

KINDS = ("method", "dataset", "model", "attack", "protocol", "suite")
SCHEMA_VERSION = 1
RESERVED = {"all": "means every entry", "clean": "means no attack", "tag": "begins a tag"}

AnyEntry = TypeVar("AnyEntry", bound=RegistryEntry)


@dataclass(frozen=True)
class Declared:
    """One entry as it is written in one file."""

    kind: str
    name: str
    source: Source
    value: dict[Any, Any]

    @property
    def path(self) -> KeyPath:
        return (f"{self.kind}s", self.name)

    @property
    def origin(self) -> str:
        return f"{self.source.label}:{self.source.line(self.path)}"

    def beside(self, path: str) -> Path:
        """A path that the entry names, which starts where its file is."""
        return self.source.folder / expanded(path)

    def fault(self, path: KeyPath, message: str) -> Fault:
        """A fault at `path` inside the entry."""
        return self.source.fault((*self.path, *path), message)


class Declarations:
    """All declared entries by kind and name, and the list `faults` that every check appends to."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.faults: list[Fault] = []
        self.entries: dict[str, dict[str, Declared]] = {kind: {} for kind in KINDS}
        for source in sources:
            self.faults += source.faults
            if not (source.faults and source.data is None):
                self._read(source)

    def of(self, kind: str) -> dict[str, Declared]:
        return self.entries[kind]

    def validate(
        self, declared: Declared, model: type[AnyEntry], value: dict[Any, Any], who: str = ""
    ) -> AnyEntry | None:
        """The entry that `value` describes; None when it is not valid, and then its faults are appended."""
        who = who or f"a {declared.kind}"
        try:
            entry = model.model_validate({**value, "name": declared.name})
        except ValidationError as error:
            for path, message in explain(error, model, who, reserved=("name",)):
                self.faults.append(declared.fault(path, message))
            return None
        if "name" in value:
            known = [key for key in model.model_fields if key != "name"]
            self.faults.append(declared.fault(("name",), unknown_key("name", who, known)))
        return entry

    def valid(self, kind: str, model: type[AnyEntry]) -> dict[str, AnyEntry]:
        """The valid entries of a kind, by name; the faults of the others are appended."""
        entries = {name: self.validate(each, model, each.value) for name, each in self.of(kind).items()}
        return {name: entry for name, entry in entries.items() if entry is not None}

    def parents_first(self, kind: str, known: Collection[str]) -> list[Declared]:
        """The entries of a kind, each after the one that it extends.

        An entry is left out, and a fault is appended, when what it extends is none of `known` or leads back
        to the entry itself.
        """
        entries, seen, ordered = self.of(kind), set[str](), dict[str, Declared]()

        def visit(declared: Declared, children: tuple[str, ...]) -> None:
            name, parent = declared.name, declared.value.get("extends")
            if name in seen:
                return
            seen.add(name)
            chain = (*children, name)
            if parent is not None:
                if not self.check_name(declared, ("extends",), kind, str(parent), known):
                    return
                if parent in chain:
                    message = f"extends itself: {' -> '.join((*chain, parent))}"
                    self.faults.append(declared.fault(("extends",), message))
                    return
                if parent in entries:
                    visit(entries[parent], chain)
                    if parent not in ordered:
                        return
            ordered[name] = declared

        for declared in entries.values():
            visit(declared, ())
        return list(ordered.values())

    def check_name(
        self, declared: Declared, path: KeyPath, kind: str, name: str, known: Iterable[str]
    ) -> bool:
        """Whether `name`, used by `declared` at `path`, is one of `known`; if not, a fault is appended."""
        if name in (known := list(known)):
            return True
        self.faults.append(declared.fault(path, unknown_name(kind, name, known)))
        return False

    def _read(self, source: Source) -> None:
        data = source.data
        if not isinstance(data, dict):
            content = "an empty file" if data is None else show(data)
            self.faults.append(
                source.fault((), f"expected 'version: {SCHEMA_VERSION}' and entries, got {content}")
            )
            return
        version = data.get("version")
        if version != SCHEMA_VERSION or isinstance(version, bool):
            message = f"expected 'version: {SCHEMA_VERSION}', got {show(version)}"
            self.faults.append(source.fault(("version",), message))
        kinds = {f"{kind}s": kind for kind in KINDS}
        for category, entries in data.items():
            if category in kinds:
                self._read_category(source, kinds[category], entries)
            elif category != "version":
                message = unknown_key(category, "a registry file", ["version", *kinds])
                self.faults.append(source.fault((category,), message))

    def _read_category(self, source: Source, kind: str, entries: Any) -> None:
        category = f"{kind}s"
        if not isinstance(entries, dict | None):
            self.faults.append(source.fault((category,), f"expected a mapping of names, got {show(entries)}"))
            return
        for name, value in (entries or {}).items():
            path = (category, name)
            if not isinstance(name, str) or not NAME.fullmatch(name):
                message = (
                    "a name is lower-case letters, digits and hyphens, and starts with a letter or digit"
                )
                self.faults.append(source.fault(path, message))
            elif name in RESERVED:
                self.faults.append(source.fault(path, f"{name!r} {RESERVED[name]}; choose another name"))
            elif not isinstance(value, dict | None):
                self.faults.append(source.fault(path, f"expected a mapping, got {show(value)}"))
            else:
                self._declare(Declared(kind, name, source, value or {}))

    def _declare(self, declared: Declared) -> None:
        first = self.of(declared.kind).setdefault(declared.name, declared)
        if first is not declared:
            message = (
                f"{declared.kind} {declared.name!r} is already defined in {first.origin}; choose another name"
            )
            if declared.kind in ("method", "protocol"):
                message += " (`extends` starts from its settings)"
            self.faults.append(declared.fault((), message))
