"""The contract between a method and the trainer.

A method defines how to perturb a batch and which loss to minimise. The trainer does everything else:
BatchNorm modes, backward pass, optimiser, class statistics, logging, checkpoints, resuming. Three rules make
this possible:

* `class_share`, `budget`, `perturb`, `loss` and `validate` are pure: they read `self.state` and change
  nothing. Weight perturbation may call `loss` on a perturbed copy of the model, and a test may call it twice.
* State is changed only in the `on_...` hooks, and is stored only in the declared `State`.
* The model is an argument and is never stored; random numbers come only from `ctx.rng`.
"""

import copy
import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from fairbench.attacks.budget import Budget
from fairbench.attacks.draws import Draws
from fairbench.core.errors import ConfigError, ContractError, EmptyClassError, suggest
from fairbench.data.batch import Batch
from fairbench.objectives.loss_terms import LossTerms
from fairbench.objectives.needs import EPOCH_STATS, READ_WITHOUT_NAMING, Needs
from fairbench.objectives.state import initial_state, load_state, state_tensors
from fairbench.objectives.teachers import Ask, Teachers

Adversary = Tensor | Mapping[str, Tensor]
"""What `perturb` returns: x_adv (B, C, H, W), or several such images by name."""


@dataclass(frozen=True)
class DataInfo:
    """Facts about the training data that a method may use."""

    num_classes: int
    class_count: tuple[int, ...]  # (C,) training images of each class, held-out ones included
    image_shape: tuple[int, int, int]

    @property
    def num_images(self) -> int:
        """Number of training images, held-out ones included."""
        return sum(self.class_count)


@dataclass(frozen=True)
class Context:
    """The current position in training, and the services of the trainer; passed to every method call.

    `epoch` is in 1..num_epochs, `step` in 0..num_steps-1 within the epoch. `budget` is the budget of the
    protocol; in `perturb` and `loss` it is what the method's own `budget` returned.
    """

    epoch: int
    num_epochs: int
    step: int
    num_steps: int
    budget: Budget
    lr: float
    """The learning rate, the same in all steps of an epoch: a step that a GPU repeats may read it."""
    rng: Callable[[str], Draws]
    """`rng("attack")`: draws for that purpose in this step, the same for every method."""
    log: Callable[[str, Tensor | float], None]
    """`log("weight", w)`: store a number or a (C,) vector in the curves of this epoch."""
    warn: Callable[[str], None] = lambda text: None
    """`warn("weights were clamped")`: store a warning that tables with this run print. In hooks only."""
    adversary: Adversary | None = None
    """What `perturb` returned. In `on_step_end` only."""
    teacher: Callable[[str], Ask] = Teachers({})
    """`teacher("teacher")(x)`: logits (B, C) of a network in `Needs(teachers=...)`, without gradient."""


class WatchedValues(dict[str, Tensor]):
    """Class means (C,) of watched values, by name. Raises ContractError for one that is not declared."""

    def __missing__(self, name: str) -> Tensor:
        raise ContractError(
            f"stats.watched[{name!r}] is read, but the method's needs do not name it.",
            hint=f'declare needs = Needs(watched={{"{name}"}}) and return '
            f'LossTerms(..., watch={{"{name}": value}})',
        )


@dataclass(frozen=True, repr=False)
class EpochStats:
    """Class statistics of one training epoch, over all its augmented images.

    Computed from the outputs of `loss` before each update: clean from `logits`, robust from `logits_adv`.
    NaN for a class without samples. Reading a statistic that `Needs.epoch_stats` does not name, or
    a watched value that `Needs.watched` does not, raises ContractError.
    """

    count: Tensor  # (C,) samples seen
    clean_accuracy: Tensor  # (C,)
    robust_accuracy: Tensor  # (C,)
    robust_probability: Tensor  # (C, C) float64: mean softmax(logits_adv) of class i; only if needed
    robust_confusion: Tensor  # (C, C) float64: samples of class i predicted as j; only if needed
    watched: Mapping[str, Tensor] = field(default_factory=dict)  # (C,) class mean of each watched value

    def only(self, names: Collection[str]) -> "EpochStats":
        """These statistics without those that are not in `names`; reading one of those raises."""
        kept = copy.copy(self)
        for name in EPOCH_STATS.difference(names):
            vars(kept).pop(name)
        vars(kept)["watched"] = WatchedValues(self.watched)
        return kept

    def __getattr__(self, name: str) -> Tensor:
        if name not in EPOCH_STATS:
            raise AttributeError(name)
        raise ContractError(
            f"stats.{name} is read, but the method's needs do not name it.",
            hint=f'declare needs = Needs(epoch_stats={{"{name}"}})',
        )

    def of_every_class(self, name: str) -> Tensor:
        """The statistic, or watched value, `name`. Raises EmptyClassError when a class had no sample."""
        absent = (self.count == 0).nonzero().flatten().tolist()
        if absent:
            raise EmptyClassError(f"no training image of class {absent[0]} was seen in this epoch.")
        value: Tensor = self.watched[name] if name in self.watched else getattr(self, name)
        return value


@dataclass(frozen=True)
class ValidationStats:
    """Class statistics over the validation images, from the results of `validate`; has every class."""

    count: Tensor  # (C,) held-out images
    clean_accuracy: Tensor  # (C,), NaN without `logits`
    robust_accuracy: Tensor  # (C,), NaN without `logits_adv`
    terms: Mapping[str, Tensor]  # (C,) class mean of each per-sample term, unweighted
    batch_size: int  # images per validation batch; the last may be smaller
    robust_probability: Tensor = field(default_factory=lambda: torch.zeros(0))
    """(C, C) float64: mean softmax(logits_adv) of class i; empty unless needed."""
    robust_confusion: Tensor = field(default_factory=lambda: torch.zeros(0))
    """(C, C) float64: images of class i predicted as j under attack; empty unless needed."""

    def check_every_class(self) -> None:
        """Raise EmptyClassError when a class has no held-out image."""
        absent = (self.count == 0).nonzero().flatten().tolist()
        if absent:
            raise EmptyClassError(f"no image of class {absent[0]} is held out for validation.")


class AdversarialObjective:
    """A method of adversarial training: subclass, decorate with `@method`, define `perturb` and `loss`."""

    name: ClassVar[str]
    tags: ClassVar[tuple[str, ...]]

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Hyper-parameters: a frozen dataclass of numbers, strings and flags with defaults."""

    @dataclass
    class State:
        """What is saved and restored when training resumes: `per_class` and like fields, numbers, flags."""

    needs: ClassVar[Needs | Callable[[Any], Needs]] = Needs()
    """A `Needs`, or a static function of the configuration that returns one."""

    config: Any
    state: Any

    def __init__(self, config: Any, info: DataInfo, device: torch.device) -> None:
        self.config = config
        self.info = info
        self.state = initial_state(type(self).State, info.num_classes, info.num_images, device)

    def class_share(self, ctx: Context) -> Tensor:
        """Before each step: the shares (C,) >= 0 by which classes are drawn, if `needs.sampling` is set.

        Their sum does not matter. Classes without an image to train on are never drawn.
        """
        raise ContractError(f"method {self.name!r} does not define class_share().")

    def budget(self, y: Tensor, ctx: Context) -> Budget:
        """The budget of samples with labels `y` (B,); by default that of the protocol."""
        return ctx.budget

    def perturb(self, model: nn.Module, batch: Batch, ctx: Context) -> Adversary:
        """Adversarial images within `ctx.budget` and [0, 1]. Parameters get no gradient here."""
        raise ContractError(f"method {self.name!r} does not define perturb().")

    def loss(self, model: nn.Module, batch: Batch, adversary: Any, ctx: Context) -> LossTerms:
        """The loss terms. In train mode: the order of forward passes determines BatchNorm's statistics."""
        raise ContractError(f"method {self.name!r} does not define loss().")

    def validate(self, model: nn.Module, batch: Batch, ctx: Context) -> LossTerms:
        """Terms and logits of a batch of held-out images; the model is frozen and in eval mode.

        By default as in training: `perturb`, then `loss`.
        """
        inside = replace(ctx, budget=self.budget(batch.y, ctx))
        return self.loss(model, batch, self.perturb(model, batch, inside), inside)

    def on_validation(self, stats: ValidationStats, ctx: Context) -> None:
        """Called after the held-out images were evaluated, if `needs.validation` is set."""

    def on_epoch_start(self, ctx: Context) -> None:
        """Called before the first batch of an epoch."""

    def on_step_end(self, batch: Batch, terms: LossTerms, ctx: Context) -> None:
        """Called after the optimiser step, without gradients; `terms` are those of the weights before it.

        Tensors of the state that are changed in place (`self.state.w.add_(x)`) let a GPU repeat the step as a
        CUDA graph.
        """

    def on_epoch_end(self, stats: EpochStats, ctx: Context) -> None:
        """Called after the last batch of an epoch."""

    def resolved_needs(self) -> Needs:
        """What this configuration needs. Raises ContractError for an unknown epoch statistic."""
        return type(self).needs_of(self.config)

    @classmethod
    def needs_of(cls, config: Any) -> Needs:
        """As `resolved_needs`, for a configuration without an instance."""
        needs = cls.needs
        resolved = needs if isinstance(needs, Needs) else needs(config)
        for name in sorted(set(resolved.epoch_stats) - EPOCH_STATS):
            raise ContractError(
                f"method {cls.name!r} needs the epoch statistic {name!r}, which does not exist.",
                hint=f"one of: {', '.join(sorted(EPOCH_STATS))}",
            )
        unnamed = READ_WITHOUT_NAMING.get(cls.__module__)
        if unnamed is not None:
            resolved = replace(resolved, epoch_stats=unnamed.union(resolved.epoch_stats))
        return resolved

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors; numbers become 0-dimensional."""
        return state_tensors(self.state)

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Restore a saved state. Raises ContractError when its fields are not the declared ones."""
        load_state(self.state, saved, self.name)


Method = TypeVar("Method", bound=type[AdversarialObjective])


def method(name: str, *, tags: tuple[str, ...] = ()) -> Callable[[Method], Method]:
    """Class decorator that gives a method its name and tags. Raises ContractError for other classes."""

    def decorate(cls: Method) -> Method:
        if not (isinstance(cls, type) and issubclass(cls, AdversarialObjective)):
            raise ContractError(f"method {name!r}: {cls!r} is not a subclass of AdversarialObjective.")
        for part in ("Config", "State"):
            if "__dataclass_fields__" not in vars(getattr(cls, part)):
                raise ContractError(
                    f"method {name!r}: {part} is not a dataclass.", hint="decorate it with @dataclass"
                )
        cls.name, cls.tags = name, tags
        return cls

    return decorate


def build_config(cls: type[AdversarialObjective], options: Mapping[str, Any]) -> Any:
    """`cls.Config(**options)`. Raises ConfigError for an unknown option, with the known ones."""
    known = [f.name for f in dataclasses.fields(cls.Config)]
    for name in options:
        if name not in known:
            close = suggest(name, known)
            raise ConfigError(
                f"method {cls.name!r} has no option {name!r}.",
                hint=f"it accepts: {', '.join(known) or 'none'}"
                + (f"\ndid you mean: {close}" if close else ""),
            )
    try:
        return cls.Config(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"method {cls.name!r} refuses its options: {error}.") from error
