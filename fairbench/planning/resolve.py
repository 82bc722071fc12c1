"""From a selection to cells: every setting written out, starts included."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fairbench.core.errors import ConfigError
from fairbench.core.identity import digest, digest_by_number, digest_bytes
from fairbench.data.manifest import Manifest, manifest_of, require_training_images
from fairbench.metrics.rho import BASELINE
from fairbench.planning.defaults import complete, describe_defaults, foreign_radii
from fairbench.planning.method_components import method_components, take_files, teachers_of
from fairbench.planning.overrides import variants
from fairbench.planning.prerequisites import with_prerequisites
from fairbench.planning.protocols import resolve_protocol, scaled_epochs
from fairbench.planning.selection import Selection
from fairbench.records.cell import (
    Cell,
    EvaluationAttack,
    ImageFacts,
    MethodCode,
    cell_ids,
    protocol_identity,
)
from fairbench.registry import AttackEntry, DatasetEntry, MethodEntry, PluginSource, Protocol, Registry
from fairbench.registry.attacks import impossible
from fairbench.registry.components import (
    component_of,
    is_component,
)
from fairbench.registry.fields import identity_settings
from fairbench.registry.plugin import parse_target
from fairbench.registry.protocol import RequestedAttack
from fairbench.registry.schema import ModelEntry
from fairbench.registry.trained_weights import FINE_TUNE, TEACHERS, ZOO

NUMERICS = 2  # raised when a change of fairbench's own code changes results: old ones are then stale


def model_identity(target: str) -> dict[str, str]:
    """What identifies a network: the name of an installed function, or a file's content and function."""
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


def evaluation_content(
    identity: Mapping[str, Any], attack: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What the id of one attack on one cell's weights is hashed from."""
    return {"identity": identity, "attack": attack, "settings": settings}


def for_seeds(cell: Cell, seeds: Sequence[int]) -> list[Cell]:
    """The cell with each of these seeds; nothing else of it depends on the seed."""

    def identity(seed: int) -> dict[str, Any]:
        return {**cell.identity, "seed": seed}

    def evaluation_id(attack: EvaluationAttack) -> Callable[[int], str]:
        return digest_by_number(
            lambda seed: evaluation_content(identity(seed), attack.name, attack.settings), 8
        )

    id_of = digest_by_number(identity)
    ids = [evaluation_id(attack) for attack in cell.evaluation]
    starts = [None] * len(seeds) if cell.start is None else for_seeds(cell.start, seeds)
    teachers = {name: for_seeds(teacher, seeds) for name, teacher in cell.teachers.items()}
    return [
        replace(
            cell,
            id=id_of(seed),
            seed=seed,
            identity=identity(seed),
            evaluation=tuple(
                attack._replace(id=id(seed)) for attack, id in zip(cell.evaluation, ids, strict=True)
            ),
            start=start,
            teachers={name: by_seed[index] for name, by_seed in teachers.items()},
        )
        for index, (seed, start) in enumerate(zip(seeds, starts, strict=True))
    ]


def resolve(selection: Selection, registry: Registry, data_root: Path) -> tuple[list[Cell], list[str]]:
    """The cells of a selection in running order, and notes on what was added.

    The baseline that the fairness score needs is added by itself, and attacks that are impossible for a data
    set are left out. Raises the errors of a user's mistake: unknown names, impossible settings, a data set on
    which no attack is possible.
    """
    choice = complete(selection, registry)
    methods, notes = choice.methods, describe_defaults(choice, registry)
    if BASELINE not in methods:
        methods = (BASELINE, *methods)
        notes.append(f"{BASELINE} was added: the fairness score rho compares with it")
    notes += foreign_radii(selection, choice, registry)
    resolver = Resolver(selection, registry, data_root)
    resolvers = [
        replace(resolver, selection=replace(selection, overrides=overrides))
        for overrides in variants(selection.overrides)
    ]
    cells = []
    misfits = []
    for chosen in choice.datasets:
        for model in chosen.models:
            misfit = resolver.misfit(chosen.dataset, model)
            if misfit:
                misfits.append(f"{model} is left out for {chosen.dataset}: {misfit}")
                continue
            place = CellSetting(chosen.dataset, model, chosen.protocol, choice.seeds[0], chosen.attacks)
            different = _different(resolvers, methods, place)
            by_entry = [for_seeds(cell, choice.seeds) for cell in different]
            cells += [cell for same_seed in zip(*by_entry, strict=True) for cell in same_seed]
    if not cells:
        raise ConfigError(
            "no network of the selection takes the images of its data sets.",
            hint="\n".join((*misfits, "choose another one: --models NAME; see: fairbench list models")),
        )
    notes += misfits
    notes += [
        f"{attack} is left out for {dataset}: {reason}"
        for (attack, dataset), reason in resolver.left_out.items()
    ]
    cells, added = with_prerequisites(cells)
    return cells, notes + added


def _different(resolvers: "Sequence[Resolver]", methods: Sequence[str], place: "CellSetting") -> list[Cell]:
    """The cells of each method under each variant of the overrides, each once."""
    cells: dict[str, Cell] = {}
    for method in methods:
        for resolver in resolvers:
            cell = resolver.cell(method, place)
            cells.setdefault(cell.id, cell)
    return list(cells.values())


@dataclass(frozen=True)
class CellSetting:
    """Where a method is run: everything of a cell but its method. `attacks`: () takes the protocol's."""

    dataset: str
    model: str
    protocol: str
    seed: int
    attacks: tuple[RequestedAttack, ...] = ()


@dataclass(frozen=True)
class Resolver:
    """Makes cells with every setting written out."""

    selection: Selection
    registry: Registry
    data_root: Path
    left_out: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why an attack is left out for a data set."""

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
        """A `preparation` supplies weights for another cell, and leaves out that cell's `hold_out`."""
        overrides, components = self._chosen(method, place, protocol, hold_out)
        files = take_files(method, components)
        start = self._start(method, place, protocol, components)
        teachers = self._teachers(method, place, protocol, components)
        identity = self._identity(method, place, protocol, overrides) | components
        if start is not None:
            identity["start"] = start.entry  # without the seed, which both have in common
        taught: dict[str, Any] = {name: cell.entry for name, cell in teachers.items()}
        taught |= {name: self._file_teacher(components[name]) for name in TEACHERS if name in files}
        if taught:
            identity["teachers"] = taught
        attacks = () if preparation else place.attacks or protocol.evaluation
        id, entry = cell_ids(identity)
        changes = self.selection.overrides.get("protocol", {})
        return Cell(
            id=id,
            entry=entry,
            method=method,
            dataset=place.dataset,
            model=place.model,
            protocol=place.protocol,
            seed=place.seed,
            overrides=overrides | {f"protocol.{key}": value for key, value in changes.items()},
            identity=identity,
            evaluation=self._evaluation(attacks, place.dataset, identity),
            locations={**self._locations(method, place.model), **files},
            start=start,
            teachers=teachers,
            preparation=preparation,
            titles=self._titles(method, place),
        )

    def _chosen(
        self, method: str, place: CellSetting, protocol: Protocol, hold_out: dict[str, Any] | None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """The overrides of a method that change something, and its components, with `hold_out` if given."""
        overrides = self._overrides(method)
        components = self._components(method, place, protocol, overrides)
        published = self.registry.method_components(method, place.dataset)
        overrides = {
            path: value  # what switches off a component that was not on changes nothing
            for path, value in overrides.items()
            if not is_component(path) or component_of(path) in {*published, *components}
        }
        if hold_out is not None and components.get("hold_out") != hold_out:
            components["hold_out"] = hold_out
            overrides["hold_out"] = hold_out["share"]
        return overrides, components

    def _locations(self, method: str, model: str) -> dict[str, str]:
        """Where the images and the code of a cell are."""
        plugin = self.registry.plugin(method)
        return {
            "data_root": str(self.data_root.resolve()),
            "plugin": str(plugin.path),
            "target": import_target(self.registry.get("method", method), plugin),
            "model": self.registry.get("model", model).target,
        }

    def _titles(self, method: str, place: CellSetting) -> dict[str, str]:
        """How tables print the method, the data set and the network, and that a method is reconstructed."""
        named = (("method", method), ("dataset", place.dataset), ("model", place.model))
        titles = {kind: self.registry.get(kind, name).title or name for kind, name in named}
        if self.registry.get("method", method).reconstructed:
            titles["reconstructed"] = "yes"
        return titles

    def _evaluation(
        self, attacks: Sequence[RequestedAttack], dataset: str, identity: Mapping[str, Any]
    ) -> tuple[EvaluationAttack, ...]:
        """The attacks that are possible for the data set; `left_out` has the reason for each other one.

        Raises ConfigError when all are impossible.
        """
        num_classes, reasons, possible = self._facts(dataset).num_classes, {}, []
        for item in attacks:
            attack: AttackEntry = self.registry.get("attack", item.attack)
            if reason := impossible(attack, num_classes):
                reasons[item.attack] = reason
                continue
            settings = identity_settings(attack)
            id = digest(evaluation_content(identity, item.attack, settings), 8)
            possible.append(EvaluationAttack(item.attack, id, item.at, settings))
        if reasons and not possible:
            listed = "; ".join(f"{attack}: {reason}" for attack, reason in reasons.items())
            raise ConfigError(
                f"no evaluation attack can be run on {dataset} ({listed}).",
                hint=f"choose others with --attacks (see: fairbench list attacks), or leave {dataset} out of "
                "--datasets",
            )
        self.left_out.update({(attack, dataset): reason for attack, reason in reasons.items()})
        return tuple(possible)

    def misfit(self, dataset: str, model: str) -> str:
        """Why a network cannot take the images of a data set; "" when it can or when that is not known."""
        entry: ModelEntry = self.registry.get("model", model)
        if entry.pooling is None:
            return ""
        shape = self._facts(dataset).image_shape
        reason = entry.pooling.misfit(shape)
        return reason and f"for images of {shape[1]}x{shape[2]} {reason}"

    def _facts(self, dataset: str) -> DatasetEntry | Manifest:
        """Classes, shape and digest of a data set: of its prepared images, else of the registry."""
        entry: DatasetEntry = self.registry.get("dataset", dataset)
        manifest = manifest_of(self.data_root, dataset, entry.reader)
        if manifest is not None:
            require_training_images(manifest)
        return manifest or entry

    def _overrides(self, method: str) -> dict[str, Any]:
        chosen = self.selection.overrides
        return {**chosen.get("all_methods", {}), **chosen.get(f"methods.{method}", {})}

    def _components(
        self, method: str, place: CellSetting, protocol: Protocol, overrides: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        return method_components(self.registry, method, place.dataset, protocol, overrides)

    def _start(
        self, method: str, place: CellSetting, protocol: Protocol, components: dict[str, dict[str, Any]]
    ) -> Cell | None:
        """The cell whose weights `method` starts from, under the same protocol; None without one."""
        tune = components.get(FINE_TUNE, {})
        if "start" not in tune:
            return None
        self.registry.get("method", tune["start"], asked_by=f"methods.{method}.fine_tune.start")
        if FINE_TUNE in self._components(tune["start"], place, protocol, self._overrides(tune["start"])):
            raise ConfigError(
                f"method {method!r} starts from {tune['start']!r}, which itself starts from another method.",
                hint=f"choose one that trains from scratch: --set methods.{method}.fine_tune.start=trades",
            )
        hold_out = components.get("hold_out") if tune["hold_out"] else None
        return self._cell(tune["start"], place, protocol, preparation=True, hold_out=hold_out)

    def _teachers(
        self, method: str, place: CellSetting, protocol: Protocol, components: dict[str, dict[str, Any]]
    ) -> dict[str, Cell]:
        """The cells that train the teachers of `method`, under the same protocol, on the same images.

        The network of each teacher is filled in in `components`.
        """
        cells = {}
        for name in TEACHERS:
            if name not in components:
                continue
            teacher = components[name] = {"model": place.model, **components[name]}
            owner = f"methods.{method}.{name}"
            if not ("weights" in teacher and teacher["model"].startswith(ZOO)):
                self.registry.get("model", teacher["model"], asked_by=f"{owner}.model")
            if "weights" in teacher:
                continue
            misfit = self.misfit(place.dataset, teacher["model"])
            if misfit:
                raise ConfigError(
                    f"{owner}.model: {teacher['model']} cannot be trained on {place.dataset}: {misfit}.",
                    hint=f"choose another one: --set {owner}.model=NAME; see: fairbench list models",
                )
            trainer = teacher["start"]
            self.registry.get("method", trainer, asked_by=f"{owner}.start")
            if teachers_of(self.registry.plugin(trainer).needs)[0]:
                raise ConfigError(
                    f"method {method!r} learns from {trainer!r}, which itself learns from another network.",
                    hint=f"choose one that does not: --set {owner}=trades",
                )
            elsewhere = replace(place, model=teacher["model"])
            hold_out = components.get("hold_out")
            cells[name] = self._cell(trainer, elsewhere, protocol, preparation=True, hold_out=hold_out)
        return cells

    def _file_teacher(self, teacher: Mapping[str, str]) -> dict[str, Any]:
        """The identity of a teacher whose weights are in a file: their digest and the code of its network."""
        name = teacher["model"]
        code = {} if name.startswith(ZOO) else model_identity(self.registry.get("model", name).target)
        return {"weights": teacher["weights"], "model": {"name": name, **code}}

    def _identity(
        self, method: str, place: CellSetting, protocol: Protocol, overrides: dict[str, Any]
    ) -> dict[str, Any]:
        plugin = self.registry.readable_plugin(method)
        share = protocol.epochs / protocol.published_epochs
        config = scaled_epochs(self.registry.method_config(method, place.dataset), share)
        config |= {key: value for key, value in overrides.items() if not is_component(key)}
        images, facts = self.registry.get("dataset", place.dataset), self._facts(place.dataset)
        return {
            "numerics": NUMERICS,
            "method": MethodCode(
                name=method,
                class_name=plugin.class_name,
                config=config,
                fingerprint=plugin.fingerprint,
            ).model_dump(by_alias=True),
            "dataset": ImageFacts(
                name=place.dataset,
                digest=facts.digest,
                num_classes=facts.num_classes,
                image_shape=facts.image_shape,
                flip=images.flip,
                reader=images.reader,
            ).model_dump(mode="json"),
            "model": {
                "name": place.model,
                **model_identity(self.registry.get("model", place.model).target),
            },
            "protocol": protocol_identity(protocol),
            "seed": place.seed,
        }
