"""From a selection to cells: every setting written out, starts included."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fairbench.core.errors import ConfigError
from fairbench.core.identity import digest, digest_by_number, digest_bytes
from fairbench.data.manifest import read_manifest
from fairbench.planning.cells import Cell
from fairbench.planning.selection import Selection
from fairbench.registry import MethodEntry, PluginSource, Protocol, Registry
from fairbench.registry.components import (
    Augment,
    HoldOut,
    component_of,
    is_component,
    is_off,
    mixed_labels_error,
    resolve_components,
)
from fairbench.registry.faults import explain
from fairbench.registry.plugin import parse_target
from fairbench.registry.protocol import RequestedAttack

NUMERICS = 2  # raised when a change of the house's own code changes results: old ones are then stale
BASELINE = "trades"


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


def evaluation_content(identity: dict[str, Any], attack: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What the id of one attack on one cell's weights is hashed from."""
    return {"identity": identity, "attack": attack, "settings": settings}


def for_seeds(cell: Cell, seeds: Sequence[int]) -> list[Cell]:
    """The cell with each of these seeds; nothing else of it depends on the seed."""

    def identity(seed: int) -> dict[str, Any]:
        return {**cell.identity, "seed": seed}

    def evaluation(item: dict[str, Any]) -> Callable[[int], str]:
        settings = {key: value for key, value in item.items() if key not in ("id", "at")}
        name = item["name"]
        return digest_by_number(lambda seed: evaluation_content(identity(seed), name, settings), 8)

    id_of = digest_by_number(identity)
    evaluation_ids = [evaluation(item) for item in cell.evaluation]
    starts = [None] * len(seeds) if cell.start is None else for_seeds(cell.start, seeds)
    found = []
    for seed, start in zip(seeds, starts, strict=True):
        attacks = zip(cell.evaluation, evaluation_ids, strict=True)
        evaluated = tuple({**item, "id": id_for(seed)} for item, id_for in attacks)
        other = replace(cell, seed=seed, identity=identity(seed), evaluation=evaluated, start=start)
        vars(other).update(id=id_of(seed), entry=cell.entry)  # what it would hash by itself
        found.append(other)
    return found


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
    resolver = Resolver(selection, registry, data_root)
    seeds = selection.seeds or tuple(suite.seeds)
    cells = []
    for dataset in selection.datasets or tuple(suite.datasets):
        for model in selection.models or tuple(suite.models):
            place = CellSetting(dataset, model, protocol_name, seeds[0])
            by_method = [for_seeds(resolver.cell(method, place), seeds) for method in methods]
            cells += [cell for same_seed in zip(*by_method, strict=True) for cell in same_seed]
    asked = {cell.id for cell in cells}
    starts = {cell.start.id: cell.start for cell in cells if cell.start and cell.start.id not in asked}
    users = {cell.method: cell.start.method for cell in cells if cell.start and cell.start.id in starts}
    notes += [f"{method} starts from {start}, which is trained first" for method, start in users.items()]
    # A start that is a row of the table as well comes before those that need it.
    needed = {cell.start.id for cell in cells if cell.start}
    return [*starts.values(), *sorted(cells, key=lambda cell: cell.id not in needed)], notes


@dataclass(frozen=True)
class CellSetting:
    """Where a method is run: everything of a cell but its method."""

    dataset: str
    model: str
    protocol: str
    seed: int


@dataclass(frozen=True)
class Resolver:
    """Makes cells with every setting written out."""

    selection: Selection
    registry: Registry
    data_root: Path

    def cell(self, method: str, place: CellSetting) -> Cell:
        """The cell of `method`. Raises ConfigError or PluginError for settings that cannot be."""
        overrides = self.selection.overrides.get("protocol", {})
        return self._cell(method, place, resolve_protocol(self.registry, method, place.protocol, overrides))

    def _cell(
        self,
        method: str,
        place: CellSetting,
        protocol: Protocol,
        *,
        preparation: bool = False,
        hold_out: dict[str, Any] | None = None,
    ) -> Cell:
        """A `preparation` supplies the start of another cell, and leaves out that cell's `hold_out`."""
        overrides = self._overrides(method)
        blocks = self._blocks(method, place, protocol, overrides)
        published = self.registry.method_components(method, place.dataset)
        overrides = {
            path: value  # what switches off a block that was not on changes nothing
            for path, value in overrides.items()
            if not is_component(path) or component_of(path) in published or component_of(path) in blocks
        }
        if hold_out is not None and blocks.get("hold_out") != hold_out:
            blocks["hold_out"] = hold_out
            overrides = {**overrides, "hold_out": hold_out["share"]}
        start = None
        if "fine_tune" in blocks:
            start = self._start(method, place, protocol, blocks)
        identity = self._identity(method, place, protocol, overrides)
        identity |= blocks
        if start is not None:
            identity["start"] = start.entry  # without the seed, which both have in common
        evaluation = []
        for asked in () if preparation else self._attacks() or protocol.evaluation:
            settings = self.registry.get("attack", asked.attack).model_dump(mode="json")
            key = digest(evaluation_content(identity, asked.attack, settings), 8)
            evaluation.append({**settings, "id": key, "at": asked.at})
        plugin = self.registry.plugin(method)
        changes = self.selection.overrides.get("protocol", {})
        return Cell(
            method=method,
            dataset=place.dataset,
            model=place.model,
            protocol=place.protocol,
            seed=place.seed,
            overrides=dict(overrides) | {f"protocol.{key}": value for key, value in changes.items()},
            identity=identity,
            evaluation=tuple(evaluation),
            locations={
                "data_root": str(self.data_root.resolve()),
                "plugin": str(plugin.path),
                "target": import_target(self.registry.get("method", method), plugin),
                "model": self.registry.get("model", place.model).target,
            },
            start=start,
            preparation=preparation,
            titles={
                kind: self.registry.get(kind, name).title or name
                for kind, name in (("method", method), ("dataset", place.dataset), ("model", place.model))
            },
        )

    def _attacks(self) -> tuple[RequestedAttack, ...]:
        """The attacks asked for, or those of the suite when its own protocol is run."""
        suite = self.registry.get("suite", self.selection.suite)
        own = suite.evaluation if self.selection.protocol in (None, suite.protocol) else ()
        return self.selection.attacks or own

    def _overrides(self, method: str) -> dict[str, Any]:
        chosen = self.selection.overrides
        return {**chosen.get("house", {}), **chosen.get(f"methods.{method}", {})}

    def _blocks(
        self, method: str, place: CellSetting, protocol: Protocol, overrides: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """The blocks of a method, those it cannot do without included, in the length of its training."""
        who, published = f"methods.{method}", self.registry.method_components(method, place.dataset)
        changes = {path: value for path, value in overrides.items() if is_component(path)}

        def resolved(share: float) -> dict[str, dict[str, Any]]:
            return resolve_components(published, changes, who, lambda block: scaled_epochs(block, share))

        share = protocol.epochs / protocol.published_epochs
        blocks = resolved(share)
        if "fine_tune" in blocks:  # averages and perturbations begin in proportion to the tuning
            tuned = resolved(blocks["fine_tune"]["epochs"] / protocol.published_epochs)
            blocks = {**tuned, "fine_tune": blocks["fine_tune"]}
        measured = "validation" in self.registry.plugin(method).needs
        if (measured or blocks.get("averaging", {}).get("kind") == "fawa") and "hold_out" not in blocks:
            if is_off("hold_out", changes.get("hold_out", 0.06)):
                needing = method if measured else "fawa"
                raise ConfigError(
                    f"{who}.hold_out: {needing} measures held-out images, so some have to be held out.",
                    hint=f"choose their share: --set {who}.hold_out=0.02",
                )
            blocks["hold_out"] = HoldOut().model_dump(mode="json")
        if "augment" in blocks:
            augment = self._augment(method, place, Augment.model_validate(blocks.pop("augment")))
            blocks |= (
                {} if augment.neutral else {"augment": augment.model_dump(mode="json", exclude_none=True)}
            )
        return blocks

    def _augment(self, method: str, place: CellSetting, augment: Augment) -> Augment:
        """The augmentation for the place's images. Raises ConfigError when the method does not go with it."""
        need = self.registry.plugin(method).needs.get("one_label", "")
        config = {**self.registry.method_config(method, place.dataset), **self._overrides(method)}
        if augment.mixes and (need == "yes" or config.get(need.removeprefix("as option ")) is True):
            # A need that depends on several options is checked when the run starts.
            raise mixed_labels_error(method, augment.kind)
        images = self.registry.get("dataset", place.dataset)
        return augment.fitted(images.reader, images.image_shape)

    def _start(
        self, method: str, place: CellSetting, protocol: Protocol, blocks: dict[str, dict[str, Any]]
    ) -> Cell:
        """The cell whose weights `method` starts from, under the same protocol."""
        tune = blocks["fine_tune"]
        self.registry.get("method", tune["start"], asked_by=f"methods.{method}.fine_tune.start")
        if "fine_tune" in self._blocks(tune["start"], place, protocol, self._overrides(tune["start"])):
            raise ConfigError(
                f"method {method!r} starts from {tune['start']!r}, which itself starts from another method.",
                hint=f"choose one that trains from scratch: --set methods.{method}.fine_tune.start=trades",
            )
        hold_out = blocks.get("hold_out") if tune["hold_out"] else None
        return self._cell(tune["start"], place, protocol, preparation=True, hold_out=hold_out)

    def _identity(
        self, method: str, place: CellSetting, protocol: Protocol, overrides: dict[str, Any]
    ) -> dict[str, Any]:
        plugin = self.registry.readable_plugin(method)
        share = protocol.epochs / protocol.published_epochs
        config = scaled_epochs(self.registry.method_config(method, place.dataset), share)
        images = self.registry.get("dataset", place.dataset)
        manifest = None if images.reader == "digits" else read_manifest(self.data_root, place.dataset)
        facts = manifest or images
        return {
            "numerics": NUMERICS,
            "method": {
                "name": method,
                "class": plugin.class_name,
                "config": {**config, **{key: v for key, v in overrides.items() if not is_component(key)}},
                "fingerprint": plugin.fingerprint,
            },
            "dataset": {
                "name": place.dataset,
                "digest": facts.digest,
                "num_classes": facts.num_classes,
                "image_shape": list(facts.image_shape),
                "flip": images.flip,
                "reader": images.reader,
            },
            "model": {
                "name": place.model,
                **model_identity(self.registry.get("model", place.model).target),
            },
            "protocol": _training_settings(protocol),
            "seed": place.seed,
        }


def _training_settings(protocol: Protocol) -> dict[str, Any]:
    """What of a protocol can change weights, and what a table averages over."""
    settings = protocol.model_dump(mode="json", exclude={"evaluation": True, "source": True})
    if settings["selection"]["every"] is None:
        del settings["selection"]["every"]
    if settings["precision"] == "fp32":  # cells planned before there was a choice
        del settings["precision"]
    return settings


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


def scaled_epochs(config: dict[str, Any], share: float) -> dict[str, Any]:
    """A method's options, or a block of the house, with its epochs times `share`, the length of the run.

    Options whose name ends in `_epochs` or `_epoch` are given for the protocol's published length
    (DAFA's warm-up: 70 of 150); a shorter run scales them like the milestones of the learning rate.
    What a user sets by hand is taken as it is.
    """
    if share == 1:
        return config

    def scaled(name: str, value: Any) -> Any:
        if name == "milestones":
            return {max(1, round(int(epoch) * share)): factor for epoch, factor in value.items()}
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        if name.endswith("_epochs") or name == "epochs":  # a duration
            return max(1, round(value * share))
        if name.endswith("_epoch"):  # a position, counted from 1: the first epoch stays the first
            return 1 + round((value - 1) * share)
        return value

    return {name: scaled(name, value) for name, value in config.items()}
