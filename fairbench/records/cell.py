"""Cells: method x data set x network x protocol x seed, every setting resolved; what `cell.json` holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from fairbench.core.errors import RecordError
from fairbench.core.identity import ID_DIGITS, canonical_json, digest_bytes
from fairbench.registry.attacks import AttackEntry, impossible, read_attack
from fairbench.registry.components import COMPONENTS, Augment, Averaging, HoldOut, WeightPerturbation
from fairbench.registry.fields import identity_settings
from fairbench.registry.protocol import Protocol, Tier
from fairbench.registry.trained_weights import FineTune, Teacher

SCHEMA = 1
CLEAN = "clean"  # the name and the id of the evaluation without an attack
Part = TypeVar("Part")


class EvaluationAttack(NamedTuple):
    """An attack that a cell is to be evaluated under, and at which checkpoints.

    `settings` are those of the registry's entry, name included; `id` is the hash of them and of the cell.
    """

    name: str
    id: str
    at: Tier
    settings: Mapping[str, Any]

    @property
    def attack(self) -> AttackEntry:
        """The attack itself. Raises ValueError or KeyError when its settings are of no attack."""
        return read_attack(dict(self.settings))

    def possible(self, num_classes: int) -> bool:
        """Whether it can be run on images of so many classes; new plans leave out what cannot."""
        try:
            return not impossible(self.attack, num_classes)
        except (KeyError, ValueError):
            return True

    def epochs(self, selected: Sequence[int], kept: Sequence[int]) -> tuple[int, ...]:
        """The checkpoints that it is for, of the selected and of all kept epochs."""
        if self.at == "last":
            return tuple(selected)[-1:]
        return tuple(kept if self.at == "every" else selected)

    def to_json(self) -> dict[str, Any]:
        """Its entry in `cell.json`."""
        return {**self.settings, "id": self.id, "at": self.at}


class MethodCode(BaseModel):
    """The method of a cell as its identity has it: the class, its options, and the digest of its code."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    name: str
    class_name: str = Field(validation_alias="class", serialization_alias="class")
    config: dict[str, Any]
    fingerprint: str


class ImageFacts(BaseModel):
    """The data set of a cell as its identity has it. `flip`: whether mirrored images keep their class."""

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str | None
    num_classes: int | None
    image_shape: tuple[int, int, int]  # channels, height, width
    flip: bool
    reader: str


class Components(NamedTuple):
    """What fairbench adds to a method's training; None for what is switched off."""

    hold_out: HoldOut | None
    augment: Augment | None
    averaging: Averaging | None
    awp: WeightPerturbation | None
    fine_tune: FineTune | None
    teacher: Teacher | None
    natural_teacher: Teacher | None


def protocol_identity(protocol: Protocol) -> dict[str, Any]:
    """The part of an identity that a protocol makes: what can change weights, and what a table averages over.

    Settings added later are left out while they are neutral: see `identity_settings`.
    """
    return identity_settings(protocol, exclude={"evaluation", "source"})


def cell_ids(identity: Mapping[str, Any]) -> tuple[str, str]:
    """The id of a cell and that of its entry, which cells that differ only in seed share."""
    text = canonical_json(identity)
    before, seed, after = text.partition(f',"seed":{identity.get("seed")}')
    if not seed or '"seed"' in before + after:  # also in a part of it
        before, after = canonical_json({key: value for key, value in identity.items() if key != "seed"}), ""
    return digest_bytes(text.encode(), ID_DIGITS), digest_bytes((before + after).encode(), ID_DIGITS)


@dataclass(frozen=True)
class Cell:
    """One trainable unit. `identity` holds what can change the weights, and nothing else: `id` is its hash.

    `entry` is the hash without the seed. `evaluation` lists the attacks on the weights; each has an id of its
    own, so a new attack never retrains. `locations` are paths of files and `titles` how tables print the
    method, data set and model; both are part of no id. `start` is the cell whose weights this one starts
    from, `teachers` are the cells that train its teachers. A `preparation` is no row of a table: it only
    supplies weights for another cell.
    """

    id: str
    entry: str
    method: str
    dataset: str
    model: str
    protocol: str
    seed: int
    overrides: Mapping[str, Any]
    identity: Mapping[str, Any]
    evaluation: tuple[EvaluationAttack, ...]
    locations: Mapping[str, str] = field(default_factory=dict)
    start: "Cell | None" = None
    teachers: Mapping[str, "Cell"] = field(default_factory=dict)
    preparation: bool = False
    titles: Mapping[str, str] = field(default_factory=dict)

    @property
    def slot(self) -> str:
        """Method, data set, network, protocol and seed; several ids may have shared it over time."""
        return f"{self.method}.{self.dataset}.{self.model}.{self.protocol}.seed{self.seed}"

    @property
    def setting(self) -> dict[str, Any]:
        """What a cell is called by, as commands print it in JSON."""
        return {name: getattr(self, name) for name in ("method", "dataset", "model", "protocol", "seed")}

    @property
    def folder_name(self) -> str:
        """The name of its run folder."""
        return f"{self.slot}.{self.id}"

    @property
    def needed(self) -> tuple["Cell", ...]:
        """The cells whose weights this one needs."""
        return (*self.teachers.values(), *(() if self.start is None else (self.start,)))

    @cached_property
    def code(self) -> MethodCode:
        """The method. Raises RecordError, as the other typed parts do, when the identity does not hold it."""
        return self._typed("method", MethodCode.model_validate)

    @cached_property
    def images(self) -> ImageFacts:
        """The data set."""
        return self._typed("dataset", ImageFacts.model_validate)

    @cached_property
    def full_protocol(self) -> Protocol:
        """The protocol, without its evaluation attacks."""
        return self._typed("protocol", lambda part: Protocol.model_validate({**part, "evaluation": []}))

    def part(self, name: str) -> Mapping[str, Any]:
        """A part of the identity as it was hashed, to compare cells; empty when this one does not have it."""
        part = self.identity.get(name)
        return part if isinstance(part, dict) else {}

    @property
    def protocol_name(self) -> str:
        """The protocol that trains it; not `protocol` where that gives each method its own schedule."""
        return str(self.part("protocol").get("name", self.protocol))

    @property
    def protocol_version(self) -> str:
        """The version of the protocol that trains it."""
        return str(self.part("protocol").get("version", ""))

    @property
    def num_epochs(self) -> int | None:
        """The epochs that it trains; without parsing the protocol, for lists of many runs."""
        epochs = self.part("fine_tune").get("epochs", self.part("protocol").get("epochs"))
        return epochs if isinstance(epochs, int) else None

    @property
    def precision(self) -> str:
        """The precision that its protocol asks for; fp32 in cells that are older than this setting."""
        return str(self.part("protocol").get("precision", "fp32"))

    @cached_property
    def components(self) -> Components:
        """What fairbench adds to the method's training."""
        parts: dict[str, Any] = dict.fromkeys(COMPONENTS)
        for name in parts.keys() & self.identity.keys():
            parts[name] = self._typed(name, COMPONENTS[name].model_validate)
        return Components(**parts)

    @cached_property
    def training_protocol(self) -> Protocol:
        """The schedule that is trained: the protocol's, or the shorter one of a fine-tuning."""
        protocol, tune = self.full_protocol, self.components.fine_tune
        if tune is None:
            return protocol
        rate = {"lr": tune.lr, "nesterov": tune.nesterov}
        last = min(protocol.selection.last, tune.epochs)
        return protocol.model_copy(
            update={
                "epochs": tune.epochs,
                "milestones": tune.milestones,
                "optimizer": protocol.optimizer.model_copy(update=rate),
                "selection": protocol.selection.model_copy(update={"last": last}),
            }
        )

    @property
    def selected_epochs(self) -> tuple[int, ...]:
        """The epochs whose mean a table shows, ascending."""
        return self.training_protocol.selection.epochs(self.training_protocol.epochs)

    @property
    def kept_epochs(self) -> tuple[int, ...]:
        """The epochs whose weights are kept, ascending."""
        return self.training_protocol.selection.kept(self.training_protocol.epochs)

    def evaluations(self, num_classes: int) -> list[EvaluationAttack]:
        """What to evaluate with so many classes: the clean images, and the attacks that are possible."""
        attacks = [attack for attack in self.evaluation if attack.possible(num_classes)]
        every = any(attack.at == "every" for attack in attacks)
        return [EvaluationAttack(CLEAN, CLEAN, "every" if every else "selected", {}), *attacks]

    def to_json(self) -> dict[str, Any]:
        """The content of `cell.json`."""
        content: dict[str, Any] = {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "evaluation": [attack.to_json() for attack in self.evaluation],
            "start": None if self.start is None else self.start.to_json(),
            "teachers": {name: cell.to_json() for name, cell in self.teachers.items()},
        }
        if not self.teachers:  # as in cells that are older than teachers
            del content["teachers"]
        return content

    def _typed(self, name: str, parse: Callable[[Any], Part]) -> Part:
        """What `parse` makes of a part of the identity."""
        try:
            return parse(self.identity[name])
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(
                f"{self.slot}: the {name} in its identity cannot be read ({error}).",
                hint="move the folder away and run again",
            ) from error
