"""Read registry files, plugin files and entry points into one validated `Registry`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairbench.core.errors import ConfigError
from fairbench.core.imports import shipped
from fairbench.registry.attacks import ATTACK_KINDS, REFERENCE, AttackEntry
from fairbench.registry.declare import KINDS, Declarations, Declared
from fairbench.registry.faults import KeyPath, fault_error, show
from fairbench.registry.fields import parse_whole
from fairbench.registry.methods import MethodResolver
from fairbench.registry.names import Term, names_of
from fairbench.registry.plugin import parse_target
from fairbench.registry.protocol import AnyProtocol, PerMethodProtocol, Protocol
from fairbench.registry.registry import Registry
from fairbench.registry.schema import DatasetEntry, ModelEntry, SuiteEntry, timm_entry
from fairbench.registry.source import read_source
from fairbench.registry.trained_weights import FINE_TUNE, TEACHERS, ZOO

BUILT_IN_LABEL = "fairbench/registry.yaml"


def load_registry(files: Sequence[Path] = (), *, entry_points: bool = True) -> Registry:
    """The built-in registry, extended by `files` (registry .yaml, or a .py with one method) and entry points.

    Raises one ConfigError that lists every fault of every file, names that are defined twice included. A
    method whose plugin cannot be used raises no error; it is listed in `Registry.broken`.
    """
    plugin_files = [path for path in files if path.suffix == ".py"]
    sources = [read_source(built_in_file(), BUILT_IN_LABEL)]
    sources += [read_source(path) for path in files if path.suffix != ".py"]
    declarations = Declarations(sources)
    methods = MethodResolver(declarations, plugin_files, entry_points)
    methods.resolve()
    registry = Registry(
        methods=methods.entries,
        datasets=_datasets(declarations),
        models=_models(declarations),
        attacks=_attacks(declarations),
        protocols=_protocols(declarations),
        suites=declarations.valid("suite", SuiteEntry),
        plugins=methods.plugins,
        broken=tuple(methods.broken.values()),
        origins={
            **{(kind, name): entry.origin for kind in KINDS for name, entry in declarations.of(kind).items()},
            **{("method", name): origin for name, origin in methods.origins.items()},
        },
        files=tuple(files),
    )
    _check_references(registry, declarations, methods.names())
    if declarations.faults:
        raise fault_error(declarations.faults)
    return registry


def built_in_file() -> Path:
    """Path of the built-in registry.yaml."""
    return shipped("registry.yaml")


def _protocols(declarations: Declarations) -> dict[str, AnyProtocol]:
    declared = declarations.of("protocol")
    protocols: dict[str, AnyProtocol] = {}
    for each in declarations.parents_first("protocol", declared):
        protocol = _protocol(declarations, each, protocols)
        if protocol is not None:
            protocols[each.name] = protocol
    return {name: protocols[name] for name in declared if name in protocols}


def _protocol(
    declarations: Declarations, declared: Declared, others: Mapping[str, AnyProtocol]
) -> AnyProtocol | None:
    """The protocol; None when it, or the one of `others` that it extends, is faulty."""
    value, extended = declared.value, declared.value.get("extends")
    if extended is None and "per_method" in value:
        return declarations.validate(declared, PerMethodProtocol, value, "a per-method protocol")
    if extended is None:
        return declarations.validate(declared, Protocol, value)
    parent = others.get(str(extended))
    if isinstance(parent, PerMethodProtocol):
        message = f"{extended!r} is a per-method protocol: it has no schedule to extend"
        declarations.faults.append(declared.fault(("extends",), message))
        return None
    return None if parent is None else _extend(declarations, declared, parent)


def _extend(declarations: Declarations, declared: Declared, parent: Protocol) -> Protocol | None:
    """`parent` with the child's own keys; a new `epochs` scales the milestones that are not given."""
    own = {key: value for key, value in declared.value.items() if key != "extends"}
    epochs = parse_whole(own.get("epochs", parent.epochs))
    countable = type(epochs) is int and epochs >= 1
    rescaled = countable and "milestones" not in own
    start = parent.published if rescaled else parent.with_epochs(epochs) if countable else parent
    merged = _merge(start.model_dump(exclude={"name"}), own)
    if rescaled:
        merged["epochs"] = start.epochs
    protocol = declarations.validate(declared, Protocol, merged)
    if protocol is None or not rescaled:
        return protocol
    if isinstance(own.get("selection"), dict) and protocol.selection.last > epochs:
        message = f"the last {protocol.selection.last} of {epochs} epochs"
        declarations.faults.append(declared.fault(("selection", "last"), message))
    return protocol.with_epochs(epochs)


def _merge(base: dict[str, Any], own: dict[Any, Any]) -> dict[Any, Any]:
    """`base` updated by `own`. Mappings are merged one level deep; milestones and lists are replaced."""
    merged: dict[Any, Any] = dict(base)
    for key, value in own.items():
        nested = key != "milestones" and isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = {**base[key], **value} if nested else value
    return merged


def _datasets(declarations: Declarations) -> dict[str, DatasetEntry]:
    entries = declarations.valid("dataset", DatasetEntry)
    for name, entry in entries.items():
        if entry.path is not None:
            path = declarations.of("dataset")[name].beside(entry.path)
            entries[name] = entry.model_copy(update={"path": str(path)})
    return entries


def _models(declarations: Declarations) -> dict[str, ModelEntry]:
    entries = declarations.valid("model", ModelEntry)
    for name, entry in entries.items():
        target = parse_target(entry.target)
        if target.is_file:
            path = declarations.of("model")[name].beside(target.place)
            entries[name] = entry.model_copy(update={"target": f"{path}:{target.class_name}"})
    return entries


def _attacks(declarations: Declarations) -> dict[str, AttackEntry]:
    entries: dict[str, AttackEntry] = {}
    for name, declared in declarations.of("attack").items():
        kind = declared.value.get("kind")
        model = ATTACK_KINDS.get(kind) if isinstance(kind, str) else None
        if model is None:
            message = f"expected {' or '.join(ATTACK_KINDS)}, got {show(kind)}"
            declarations.faults.append(declared.fault(("kind",), message))
            continue
        if name.startswith("autoattack") and kind != "autoattack":
            message = (
                f"a name that begins with autoattack is for the kind autoattack, not {kind}; "
                "choose another name"
            )
            declarations.faults.append(declared.fault((), message))
            continue
        article = "a" if kind == "pgd" else "an"
        entry = declarations.validate(declared, model, declared.value, f"{article} {kind} attack")
        if entry is not None:
            entries[name] = entry
    return entries


def _check_references(registry: Registry, declarations: Declarations, methods: list[str]) -> None:
    """Append a fault for every reference to a name that is not declared."""
    known = {kind: list(declarations.of(kind)) for kind in KINDS} | {"method": methods}

    def check(declared: Declared, path: tuple[str | int, ...], kind: str, name: str) -> bool:
        timm = kind == "model" and timm_entry(name) is not None
        return timm or declarations.check_name(declared, path, kind, name, known[kind])

    for name, declared in declarations.of("method").items():
        entry = registry.methods.get(name)
        if entry is None:
            continue
        for dataset in declared.value.get("datasets", {}):
            check(declared, ("datasets", dataset), "dataset", dataset)
        for component in (FINE_TUNE, *TEACHERS):
            used = getattr(entry, component) if component in declared.value else None
            if used is not None and used.start is not None:
                check(declared, (component, "start"), "method", used.start)
            model = getattr(used, "model", None)
            if model is not None and not model.startswith(ZOO):
                check(declared, (component, "model"), "model", model)
        own = (declared.value.get("official") or {}).get("protocol")
        if own is None or not check(declared, ("official", "protocol"), "protocol", own):
            continue
        if isinstance(registry.protocols.get(own), PerMethodProtocol):
            message = f"{own!r} stands for each method's official protocol; name a protocol with a schedule"
            declarations.faults.append(declared.fault(("official", "protocol"), message))
    for name, declared in declarations.of("protocol").items():
        protocol = registry.protocols.get(name)
        if isinstance(protocol, Protocol) and "evaluation" in declared.value:
            for index, item in enumerate(protocol.evaluation):
                check(declared, ("evaluation", index), "attack", item.attack.removesuffix(REFERENCE))
    for name, dataset in registry.datasets.items():
        if dataset.defaults is not None:
            declared = declarations.of("dataset")[name]
            check(declared, ("defaults", "model"), "model", dataset.defaults.model)
            check(declared, ("defaults", "protocol"), "protocol", dataset.defaults.protocol)
            for index, item in enumerate(dataset.defaults.attacks):
                attack = item.attack.removesuffix(REFERENCE)
                check(declared, ("defaults", "attacks", index), "attack", attack)
    for name, suite in registry.suites.items():
        declared = declarations.of("suite")[name]
        for kind in ("method", "dataset", "model"):
            for index, member in enumerate(getattr(suite, f"{kind}s")):
                path = (f"{kind}s", index)
                term = names_of(registry, kind).read(member, kind)
                if term.is_name:
                    check(declared, path, kind, term.text)
                else:
                    _check_pattern(registry, declarations, declared, path, term)
        check(declared, ("protocol",), "protocol", suite.protocol)
        for index, item in enumerate(suite.evaluation):
            check(declared, ("evaluation", index), "attack", item.attack.removesuffix(REFERENCE))


def _check_pattern(
    registry: Registry, declarations: Declarations, declared: Declared, path: KeyPath, term: Term
) -> None:
    """Append a fault when a pattern or tag of a suite chooses nothing; `path` begins with its kind."""
    kind = str(path[0]).removesuffix("s")
    try:
        names_of(registry, kind).matches(term, declared.name)
    except ConfigError as error:
        declarations.faults.append(declared.fault(path, str(error)))
