"""What a selection leaves open: the network, protocol and attacks of each data set, and where they come from.

An option beats a suite that was named, a named suite beats the defaults of a data set. Without a named suite
the methods, data sets and seeds that are left open are those of the suite `quickstart`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose

from fairbench.core.errors import ConfigError
from fairbench.planning.selection import QUICKSTART, Selection, suite_names
from fairbench.registry import Protocol, Registry
from fairbench.registry.protocol import RequestedAttack
from fairbench.registry.schema import DatasetEntry, SuiteEntry

SAME_RADIUS = 0.1  # relative: 0.031 and 8/255 are one radius
FAR_RADIUS = 4.0  # times larger or smaller: not a usual radius for the same images


@dataclass(frozen=True)
class DatasetChoice:
    """What is run on one data set. `attacks`: () takes the protocol's. `by_default`: what was not named."""

    dataset: str
    models: tuple[str, ...]
    protocol: str
    attacks: tuple[RequestedAttack, ...]
    by_default: tuple[str, ...]  # of "model", "protocol", "attacks"


@dataclass(frozen=True)
class Choice:
    """A selection with nothing left open."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    datasets: tuple[DatasetChoice, ...]
    by_default: tuple[str, ...]  # of "methods", "datasets", "seeds"


def complete(selection: Selection, registry: Registry) -> Choice:
    """The selection with a named suite and the defaults filled in.

    Raises ConfigError for data sets without defaults for which network or protocol are not named.
    """
    named = selection.suite is not None
    suite: SuiteEntry = registry.get(
        "suite", selection.suite or QUICKSTART, asked_by=f"--suite {selection.suite}"
    )
    if selection.protocol is not None:
        registry.get("protocol", selection.protocol, asked_by=f"--protocol {selection.protocol}")
    open_parts = [part for part in ("methods", "datasets", "seeds") if not getattr(selection, part)]
    datasets = selection.datasets or suite_names(suite, "dataset", registry)
    _require_defaults(selection, datasets, registry)
    return Choice(
        methods=selection.methods or suite_names(suite, "method", registry),
        seeds=selection.seeds or suite.seeds,
        datasets=tuple(_on_dataset(selection, suite, name, registry) for name in datasets),
        by_default=() if named else tuple(open_parts),
    )


def _on_dataset(selection: Selection, suite: SuiteEntry, name: str, registry: Registry) -> DatasetChoice:
    dataset: DatasetEntry = registry.get("dataset", name)
    defaults = dataset.defaults
    protocol = selection.protocol
    if selection.suite is not None:
        protocol = protocol or suite.protocol
        # A suite's attacks fit its own protocol.
        attacks = suite.evaluation if protocol == suite.protocol else ()
        models, by_default = selection.models or suite_names(suite, "model", registry), []
    else:
        by_default = [] if selection.models else ["model"]
        models = selection.models or (defaults.model if defaults else "",)
        if protocol is None:
            by_default.append("protocol")
        protocol = protocol or (defaults.protocol if defaults else "")
        attacks = defaults.attacks if defaults and protocol == defaults.protocol else ()
        if not selection.attacks and "protocol" in by_default:
            by_default.append("attacks")
    return DatasetChoice(dataset.name, models, protocol, selection.attacks or attacks, tuple(by_default))


def _require_defaults(selection: Selection, datasets: Sequence[str], registry: Registry) -> None:
    """Raise ConfigError when a data set without defaults needs them."""
    options = [f"--{part}" for part in ("models", "protocol") if not getattr(selection, part)]
    without = [name for name in datasets if registry.get("dataset", name).defaults is None]
    if selection.suite is not None or not options or not without:
        return
    names, have = ", ".join(without), "has" if len(without) == 1 else "have"
    missing = " and ".join(option.strip("-").removesuffix("s") for option in options)
    example = {"--models": "--models resnet18", "--protocol": "--protocol budget-30"}
    typed = " ".join(example[option] for option in options)
    defaults = "defaults: {model: resnet18, protocol: budget-30}"
    raise ConfigError(
        f"no {missing} is named, and {names} {have} no default.",
        hint=f"name {'it' if len(options) == 1 else 'them'}, for instance: {typed}\n"
        f"or write in the registry entry of the data set: {defaults}",
    )


def describe_defaults(choice: Choice, registry: Registry) -> list[str]:
    """One line with what was chosen by default; none when everything was named."""
    parts = []
    if "methods" in choice.by_default:
        parts.append(f"methods {', '.join(choice.methods)}")
    if "datasets" in choice.by_default:
        parts.append(f"data set {', '.join(item.dataset for item in choice.datasets)}")
    if "seeds" in choice.by_default:
        parts.append(f"seeds {', '.join(map(str, choice.seeds))}")
    by_text: dict[str, list[str]] = {}
    for item in choice.datasets:
        if text := _default_text(item, registry):
            by_text.setdefault(text, []).append(item.dataset)
    parts += [f"on {', '.join(names)}: {text}" for text, names in by_text.items()]
    return [f"chosen by default: {'; '.join(parts)}"] if parts else []


def _default_text(item: DatasetChoice, registry: Registry) -> str:
    attacks = requested_attacks(item.attacks, item.protocol, registry)
    values = {
        "model": f"network {', '.join(item.models)}",
        "protocol": f"protocol {item.protocol}",
        "attacks": f"attacks {', '.join(str(attack.model_dump()) for attack in attacks)}",
    }
    return ", ".join(values[part] for part in item.by_default)


def requested_attacks(
    attacks: tuple[RequestedAttack, ...], protocol_name: str, registry: Registry
) -> tuple[RequestedAttack, ...]:
    """`attacks`, or those of the protocol where there are none; () for a protocol of schedules per method."""
    if attacks:
        return attacks
    protocol = registry.get("protocol", protocol_name)
    return protocol.evaluation if isinstance(protocol, Protocol) else ()


def foreign_radii(selection: Selection, choice: Choice, registry: Registry) -> list[str]:
    """Notes on protocols and attacks whose radius is meant for other images than those of their data set.

    A radius that was typed (`--set protocol.threat.eps=...`) is not noted.
    """
    datasets: dict[tuple[str, float, str, float], list[str]] = {}  # by source, radius, its owners, own radius
    for item in choice.datasets:
        own = own_radius(registry, item.dataset)
        for what, eps in _radii(selection, choice, item, registry).items():
            owners = None if own is None else _owners(eps, own, registry)
            if own is not None and owners is not None:
                datasets.setdefault((what, eps, owners, own), []).append(item.dataset)
    sources: dict[tuple[float, str, str, float], list[str]] = {}
    for (what, eps, owners, own), names in datasets.items():
        sources.setdefault((eps, owners, ", ".join(names), own), []).append(what)
    return [
        f"the radius {eps:g} of {', '.join(whats)} is {owners}; the radius of {names} is {own:g}"
        for (eps, owners, names, own), whats in sources.items()
    ]


def own_radius(registry: Registry, dataset: str) -> float | None:
    """The radius of the default protocol of a data set; None when it has none."""
    defaults = registry.get("dataset", dataset).defaults
    protocol = None if defaults is None else registry.get("protocol", defaults.protocol)
    return protocol.threat.eps if isinstance(protocol, Protocol) else None


def _radii(selection: Selection, choice: Choice, item: DatasetChoice, registry: Registry) -> dict[str, float]:
    """The radius of the protocol and of each attack that has another one, by what has it; L2 is left out."""
    radii: dict[str, float] = {}
    if "threat.eps" not in selection.overrides.get("protocol", {}):
        for method in choice.methods:
            protocol = registry.protocol_for(item.protocol, method)
            radii[f"protocol {protocol.name}"] = protocol.threat.eps
    trained = tuple(radii.values())
    for requested in requested_attacks(item.attacks, item.protocol, registry):
        attack = registry.get("attack", requested.attack)
        if attack.norm == "linf" and not any(_same(attack.eps, eps) for eps in trained):
            radii[f"attack {attack.name}"] = attack.eps
    return radii


def _owners(eps: float, own: float, registry: Registry) -> str | None:
    """For which images a radius is meant, in words; None when it is a usual one for those of radius `own`."""
    if _same(eps, own):
        return None
    names = registry.names("dataset")
    owners = [name for name in names if _same(eps, own_radius(registry, name) or -1)]
    if owners:
        return f"that of {owners[0]}" + (f" and {len(owners) - 1} more" if len(owners) > 1 else "")
    return None if own / FAR_RADIUS <= eps <= own * FAR_RADIUS else "far from it"


def _same(radius: float, other: float) -> bool:
    return isclose(radius, other, rel_tol=SAME_RADIUS)
