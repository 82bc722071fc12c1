"""Cells: method x dataset x model x protocol x seed, fully resolved and frozen."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fairbench.core.errors import ConfigError, PluginError, RecordError
from fairbench.core.files import read_json
from fairbench.core.identity import digest, digest_bytes
from fairbench.data.manifest import read_manifest
from fairbench.plan.selection import Selection
from fairbench.registry import MethodEntry, PluginSource, Protocol, Registry
from fairbench.registry.faults import explain
from fairbench.registry.plugin import parse_target

SCHEMA = 1
NUMERICS = 1  # raised when a change of the house's own code changes results: old ones are then stale
BASELINE = "trades"


@dataclass(frozen=True)
class Cell:
    """One trainable unit. `identity` holds what can change the weights, and nothing else.

    `evaluation` lists the attacks on them; each has an id of its own, so a new attack never
    retrains. `locations` says where files are and is not part of any id.
    """

    method: str
    dataset: str
    model: str
    protocol: str
    seed: int
    overrides: dict[str, Any]
    identity: dict[str, Any]
    evaluation: tuple[dict[str, Any], ...]
    locations: dict[str, str]

    @cached_property
    def id(self) -> str:
        """Hash of the identity."""
        return digest(self.identity)

    @cached_property
    def entry(self) -> str:
        """Hash of the identity without the seed: cells of one table entry share it."""
        return digest({key: value for key, value in self.identity.items() if key != "seed"})

    @property
    def slot(self) -> str:
        """What a reader calls the cell; several ids may have shared it over time."""
        return f"{self.method}.{self.dataset}.{self.model}.{self.protocol}.seed{self.seed}"

    @property
    def folder_name(self) -> str:
        return f"{self.slot}.{self.id}"

    def to_json(self) -> dict[str, Any]:
        """The content of `cell.json`."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "entry": self.entry,
            "method": self.method,
            "dataset": self.dataset,
            "model": self.model,
            "protocol": self.protocol,
            "seed": self.seed,
            "overrides": self.overrides,
            "identity": self.identity,
            "evaluation": list(self.evaluation),
            "locations": self.locations,
        }


def read_cell(folder: Path) -> Cell:
    """The cell of a run folder. Raises RecordError when its file is damaged or its id does not fit."""
    data = read_json(folder / "cell.json")
    try:
        if data["schema"] != SCHEMA:
            raise RecordError(
                f"{folder.name}: cell.json has schema {data['schema']}, this version reads {SCHEMA}."
            )
        cell = Cell(
            **{name: data[name] for name in ("method", "dataset", "model", "protocol", "seed", "overrides")},
            identity=data["identity"],
            evaluation=tuple(data["evaluation"]),
            locations=data["locations"],
        )
    except (KeyError, TypeError) as error:
        raise RecordError(
            f"{folder.name}: cell.json lacks {error}.", hint="move the folder away and run again"
        ) from error
    if cell.id != data["id"]:
        raise RecordError(
            f"{folder.name}: cell.json was changed by hand: its id does not fit its content.",
            hint="move the folder away and run again; change settings with --set",
        )
    return cell


def model_identity(target: str) -> dict[str, str]:
    """What tells a network apart: the name of an installed function, or a file's content and function."""
    place, _, function = target.rpartition(":")
    if not place.endswith(".py"):
        return {"target": target}
    if not Path(place).is_file():
        raise ConfigError(f"there is no file {place}, which a model of the registry names as its target.")
    return {"source": digest_bytes(Path(place).read_bytes()), "function": function}


def import_target(entry: MethodEntry, plugin: PluginSource) -> str:
    """Where the worker finds the class: `module:Class`, or the plugin's file and class."""
    module = parse_target(entry.target or "").place
    place = str(plugin.path) if module.endswith(".py") else module
    return f"{place}:{plugin.class_name}"


def evaluation_id(identity: dict[str, Any], attack: str, settings: dict[str, Any]) -> str:
    """The id of one attack on one cell's weights."""
    return digest({"identity": identity, "attack": attack, "settings": settings}, 8)


def resolve(selection: Selection, registry: Registry, data_root: Path) -> tuple[list[Cell], list[str]]:
    """The cells of a selection in running order, and notes on what was added.

    The baseline that the fairness score needs is added by itself. Raises the errors of a user's
    mistake: unknown names, impossible settings.
    """
    suite = registry.get("suite", selection.suite, asked_by=f"--suite {selection.suite}")
    methods = selection.methods or tuple(suite.methods)
    notes = []
    if BASELINE not in methods:
        methods = (BASELINE, *methods)
        notes.append(f"{BASELINE} was added: the fairness score rho compares with it")
    protocol_name = selection.protocol or suite.protocol
    cells = [
        resolve_cell(registry, data_root, selection, method, dataset, model, protocol_name, seed)
        for dataset in selection.datasets or tuple(suite.datasets)
        for model in selection.models or tuple(suite.models)
        for seed in selection.seeds or tuple(suite.seeds)
        for method in methods
    ]
    return cells, notes


def resolve_cell(
    registry: Registry,
    data_root: Path,
    selection: Selection,
    method: str,
    dataset: str,
    model: str,
    protocol_name: str,
    seed: int,
) -> Cell:
    """One cell with every setting written out."""
    protocol = resolve_protocol(registry, method, protocol_name, selection.overrides.get("protocol", {}))
    images = registry.get("dataset", dataset)
    overrides = selection.overrides.get(f"methods.{method}", {})
    config = {**scaled_epochs(registry.method_config(method, dataset), protocol), **overrides}
    plugin = registry.plugin(method)
    if plugin.options is None:
        raise PluginError(
            f"method {method!r}: its Config cannot be read without running {plugin.path.name}.",
            hint="write its options as plain fields with literal defaults in the class's own Config",
        )
    network = registry.get("model", model).target
    manifest = None if images.reader == "digits" else read_manifest(data_root, dataset)
    facts = manifest or images
    attacks = selection.attacks or tuple(protocol.evaluation)
    identity: dict[str, Any] = {
        "numerics": NUMERICS,
        "method": {
            "name": method,
            "class": plugin.class_name,
            "config": config,
            "fingerprint": plugin.fingerprint,
        },
        "dataset": {
            "name": dataset,
            "digest": facts.digest,
            "num_classes": facts.num_classes,
            "image_shape": list(facts.image_shape),
            "flip": images.flip,
            "reader": images.reader,
        },
        "model": {"name": model, **model_identity(network)},
        "protocol": protocol.model_dump(mode="json", exclude={"evaluation", "source"}),
        "seed": seed,
    }
    evaluation = []
    for attack in attacks:
        settings = registry.get("attack", attack).model_dump(mode="json", exclude={"source"})
        evaluation.append({"name": attack, "id": evaluation_id(identity, attack, settings), **settings})
    shown = dict(overrides) | {
        f"protocol.{key}": value for key, value in selection.overrides.get("protocol", {}).items()
    }
    return Cell(
        method=method,
        dataset=dataset,
        model=model,
        protocol=protocol_name,
        seed=seed,
        overrides=shown,
        identity=identity,
        evaluation=tuple(evaluation),
        locations={
            "data_root": str(data_root.resolve()),
            "plugin": str(plugin.path),
            "target": import_target(registry.get("method", method), plugin),
            "model": network,
        },
    )


def resolve_protocol(registry: Registry, method: str, name: str, overrides: Mapping[str, Any]) -> Protocol:
    """The protocol of a method under `name`, with the user's overrides by dotted option name.

    Raises ConfigError when an override does not fit.
    """
    registry.get("protocol", name, asked_by=f"--protocol {name}")
    chosen = registry.protocol_for(name, method)
    changed = dict(overrides)
    epochs = changed.pop("epochs", chosen.epochs)
    if isinstance(epochs, bool) or not isinstance(epochs, int):
        raise ConfigError(f"protocol.epochs: expected a whole number, got {epochs!r}.")
    chosen = chosen.with_epochs(epochs)
    if changed:  # in the epochs of this run: what a user sets by hand is not scaled
        data = chosen.model_dump()
        for path, value in changed.items():
            set_path(data, path, value)
        try:
            valid = Protocol.model_validate(data)
        except ValidationError as error:
            lines = [
                f"protocol.{'.'.join(map(str, path))}: {message}"
                for path, message in explain(error, Protocol, name)
            ]
            raise ConfigError("\n".join(lines), hint="set with: --set protocol.OPTION=VALUE") from error
        chosen = chosen.model_copy(update={name: getattr(valid, name) for name in Protocol.model_fields})
    return chosen


def set_path(data: dict[str, Any], path: str, value: Any) -> None:
    """Set the option at a dotted path of nested mappings, creating what is None on the way."""
    *parents, last = path.split(".")
    for key in parents:
        inner = data.get(key)
        if inner is None and key in data:
            inner = data[key] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"protocol.{path}: a protocol has no option {key!r} with options inside.")
        data = inner
    data[last] = value


def scaled_epochs(config: dict[str, Any], protocol: Protocol) -> dict[str, Any]:
    """A method's options with its epochs in proportion to the length of the run.

    Options whose name ends in `_epochs` or `_epoch` are given for the protocol's published length
    (DAFA's warm-up: 70 of 150); a shorter run scales them like the milestones of the learning rate.
    What a user sets by hand is taken as it is.
    """
    if protocol.epochs == protocol.published_epochs:
        return config
    share = protocol.epochs / protocol.published_epochs

    def scaled(name: str, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        if name.endswith("_epochs"):  # a duration
            return max(1, round(value * share))
        if name.endswith("_epoch"):  # a position, counted from 1: the first epoch stays the first
            return 1 + round((value - 1) * share)
        return value

    return {name: scaled(name, value) for name, value in config.items()}
