"""Protocols: how methods are trained, which checkpoints are evaluated, and under which attacks."""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from fairbench.core.errors import ConfigError
from fairbench.registry.fields import (
    Milestones,
    Model,
    Number,
    PixelNumber,
    RegistryEntry,
    added_later,
    distinct,
    parse_norm,
    wrong,
)


class Threat(Model):
    """Threat model of training: the set of allowed perturbations."""

    norm: Annotated[Literal["linf"], BeforeValidator(parse_norm)] = "linf"
    eps: PixelNumber = Field(description="radius, pixel units of [0, 1]")


class BudgetSettings(Model):
    """Steps of the attack in training."""

    step_size: PixelNumber = Field(description="pixel units of [0, 1]")
    num_steps: int = Field(ge=1)


class Optimizer(Model):
    """SGD settings; weight decay applies to every parameter."""

    lr: Number = Field(gt=0, description="learning rate before the first milestone")
    momentum: Number = Field(default=0.9, ge=0, lt=1)
    weight_decay: Number = Field(default=5e-4, ge=0)
    nesterov: bool = True

    @field_validator("nesterov")
    @classmethod
    def _needs_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("momentum") == 0:
            raise wrong("Nesterov needs a momentum above 0")
        return nesterov


class CropFlipSettings(Model):
    """Augmentation of training images; images are mirrored only if the data set allows it (`flip`)."""

    crop_padding: int = Field(
        default=4, ge=0, description="pixels on each side before a random crop of the original size"
    )
    padding: Literal["zero", "reflect"] = "zero"
    flip: bool = Field(default=True, description="mirror half of the images")


class CheckpointSelection(Model):
    """Which epochs are evaluated; tables show the mean over those of `last`."""

    last: int = Field(default=5, ge=1, description="the last k epochs")
    every: int | None = added_later(
        None,
        ge=1,
        description="also every k-th epoch, for attacks with @every",
    )

    def epochs(self, num_epochs: int) -> tuple[int, ...]:
        """The last k of `num_epochs` epochs, in ascending order."""
        return tuple(range(num_epochs - self.last + 1, num_epochs + 1))

    def kept(self, num_epochs: int) -> tuple[int, ...]:
        """All epochs whose weights are kept, in ascending order."""
        regular = range(self.every, num_epochs + 1, self.every) if self.every else ()
        return tuple(sorted({*regular, *self.epochs(num_epochs)}))


Tier = Literal["last", "selected", "every"]
TIERS: tuple[Tier, ...] = get_args(Tier)


class RequestedAttack(Model):
    """An attack and the checkpoints it runs on; in YAML `NAME`, or `NAME@last` for the final one only."""

    attack: str
    at: Tier = Field(
        default="selected",
        description="last: the final epoch; selected: those of `selection.last`; every: all that are kept",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        attack, at, tier = value.partition("@")
        if at and tier not in TIERS:
            raise wrong(f"expected {attack}@{' or @'.join(TIERS)}, got {value!r}")
        return {"attack": attack, "at": tier or "selected"}

    @model_serializer
    def _to_text(self) -> str:
        return self.attack if self.at == "selected" else f"{self.attack}@{self.at}"


Precision = Literal["torch", "fp32", "tf32", "bf16"]


class Subset(Model):
    """Only the first images of each class: a fast test of the pipeline, not a result."""

    train_per_class: int = Field(ge=1)
    test_per_class: int = Field(ge=1)


class Protocol(RegistryEntry):
    """Threat model, budget, schedule, augmentation, selection rule and evaluation attacks."""

    version: int = Field(ge=1, description="increased when the same name trains or evaluates differently")
    source: str | None = Field(default=None, description="where the values were published")
    threat: Threat
    budget: BudgetSettings
    epochs: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=2)
    optimizer: Optimizer
    milestones: Milestones = Field(
        {}, description="{epoch: factor}; from that epoch on the learning rate is lr times the factor"
    )
    augmentation: CropFlipSettings = CropFlipSettings()
    selection: CheckpointSelection = CheckpointSelection()
    evaluation: Annotated[tuple[RequestedAttack, ...], Field(strict=False)] = Field(
        default=(), description="attacks; `clean` is always evaluated"
    )
    subset: Subset | None = None
    precision: Precision = added_later(
        "torch",
        description="of the network in training (torch: convolutions in TF32 where the GPU has it, else "
        "float32); weights, losses, attack steps and evaluation use float32",
    )

    _published: "Protocol | None" = PrivateAttr(None)

    @field_validator("milestones")
    @classmethod
    def _inside_the_run(cls, milestones: dict[int, float], info: ValidationInfo) -> dict[int, float]:
        epochs = info.data.get("epochs")
        for epoch in milestones:
            if epochs is not None and not 1 <= epoch <= epochs:
                raise wrong(f"milestone {epoch} is outside of the epochs 1..{epochs}", epoch)
        return dict(sorted(milestones.items()))

    @field_validator("selection")
    @classmethod
    def _selected_epochs_exist(
        cls, selection: CheckpointSelection, info: ValidationInfo
    ) -> CheckpointSelection:
        epochs = info.data.get("epochs")
        if epochs is not None and selection.last > epochs:
            raise wrong(f"the last {selection.last} of {epochs} epochs", "last")
        return selection

    @field_validator("evaluation")
    @classmethod
    def _each_attack_once(cls, evaluation: tuple[RequestedAttack, ...]) -> tuple[RequestedAttack, ...]:
        distinct(tuple(item.attack for item in evaluation))
        return evaluation

    @property
    def published(self) -> "Protocol":
        """This protocol with its published number of epochs."""
        return self._published or self

    @property
    def published_epochs(self) -> int:
        """The published number of epochs."""
        return self.published.epochs

    def with_epochs(self, epochs: int) -> "Protocol":
        """This protocol with `epochs` epochs: milestones are scaled, and at most that many epochs selected.

        The published schedule is scaled, so `with_epochs(a).with_epochs(b)` is `with_epochs(b)`. A milestone
        is rounded to the nearest epoch, at least 1; if two milestones fall on one epoch, the factor of the
        later one is used. Raises ConfigError for less than one epoch.
        """
        if epochs < 1:
            raise ConfigError(f"protocol {self.name!r} cannot have {epochs} epochs: at least 1 is needed.")
        published = self.published
        if epochs == published.epochs:
            return published
        milestones = {
            max(1, round(epoch * epochs / published.epochs)): factor
            for epoch, factor in published.milestones.items()
        }
        selection = published.selection.model_copy(update={"last": min(published.selection.last, epochs)})
        scaled = published.model_copy(
            update={"epochs": epochs, "milestones": milestones, "selection": selection}
        )
        scaled._published = published
        return scaled


class PerMethodProtocol(RegistryEntry):
    """Each method is trained under its own `official.protocol`."""

    version: int = Field(ge=1)
    source: str | None = None
    per_method: Literal[True]


AnyProtocol = Protocol | PerMethodProtocol
