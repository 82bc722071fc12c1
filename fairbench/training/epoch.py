"""One epoch of training: its start, its steps and its end, with the hooks of the method in their order."""

import math
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fairbench.attacks.budget import Budget
from fairbench.attacks.draws import Draws
from fairbench.core.errors import DivergedError
from fairbench.core.seeds import derive_seed
from fairbench.objectives.contract import Context, EpochStats, ValidationStats
from fairbench.objectives.teachers import Ask, Teachers
from fairbench.objectives.validation import robust_validation
from fairbench.registry.protocol import Protocol
from fairbench.training.averaging import WeightAverage
from fairbench.training.class_sampling import Sampler
from fairbench.training.contract_checks import check_epoch, check_share
from fairbench.training.images import Batches
from fairbench.training.networks import is_finite
from fairbench.training.schedule import learning_rate
from fairbench.training.statistics import EpochTotals, numbers
from fairbench.training.step import StepRunner
from fairbench.training.validation import Validate, measure


@dataclass
class EpochProgress:
    """How far an epoch is: `step` of its steps are done, in `seconds`.

    `sums` are those of its `EpochTotals`; `logged` and `warned` what the method passed to `ctx.log` and
    `ctx.warn`.
    """

    epoch: int
    step: int = 0
    seconds: float = 0.0
    logged: dict[str, Any] = field(default_factory=dict)
    warned: list[str] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Contexts:
    """Makes the contexts of a run.

    `lr` returns the learning rate of an epoch, `teacher` a teacher by name, `draws` the draws of a seed.
    That seed is derived from `seed`, purpose, epoch and step, so that a resumed run draws the same numbers.
    """

    seed: int
    num_epochs: int
    budget: Budget
    lr: Callable[[int], float]
    draws: Callable[[int], Draws]
    teacher: Callable[[str], Ask] = Teachers({})

    @classmethod
    def of(cls, protocol: Protocol, seed: int, device: torch.device) -> "Contexts":
        """Those of a run without teachers."""
        budget = protocol.budget
        return cls(
            seed,
            protocol.epochs,
            Budget(float(protocol.threat.eps), float(budget.step_size), budget.num_steps),
            partial(learning_rate, protocol),
            lambda drawn: Draws(drawn, device),
        )

    def at(self, progress: EpochProgress, step: int, num_steps: int, measured_for: str = "") -> Context:
        """The context of a step, or of a held-out batch that is `measured_for` a purpose.

        What the method logs and warns of is added to `progress`.
        """

        def rng(purpose: str) -> Draws:
            name = f"{measured_for}.{purpose}" if measured_for else purpose
            return self.draws(derive_seed(self.seed, name, progress.epoch, step))

        def log(name: str, value: Tensor | float) -> None:
            progress.logged[name] = numbers(value)

        return Context(
            epoch=progress.epoch,
            num_epochs=self.num_epochs,
            step=step,
            num_steps=num_steps,
            budget=self.budget,
            lr=self.lr(progress.epoch),
            rng=rng,
            log=log,
            warn=progress.warned.append,
            teacher=self.teacher,
        )


@dataclass(kw_only=True)
class Epoch:
    """Trains on `batches` with `steps`: call `start`, `step` for each batch, `check` if wanted, then `end`.

    `held_out` are the images for validation, unless the method has `validation` images of its own. `average`
    follows the weights. A mixed image counts in class statistics if the share of its label is at least
    `min_share`. `sampler` chooses the images of each batch if the method needs it. An epoch that was saved in
    the middle continues from its `saved` progress.
    """

    number: int
    steps: StepRunner
    batches: Batches
    held_out: Batches
    validation: Batches | None = None
    contexts: Contexts
    average: WeightAverage | None = None
    min_share: float = 0.0
    sampler: Sampler | None = None
    saved: InitVar[EpochProgress | None] = None
    progress: EpochProgress = field(init=False)
    totals: EpochTotals = field(init=False)

    def __post_init__(self, saved: EpochProgress | None) -> None:
        self.continues = saved is not None
        self.progress = EpochProgress(self.number) if saved is None else saved
        self.objective, self.model = self.steps.objective, self.steps.networks.model
        device = next(self.model.parameters()).device
        needs = self.objective.resolved_needs()
        self.totals = EpochTotals(
            self.objective.info.num_classes,
            needs.epoch_stats,
            device,
            watched=needs.watched,
            min_share=self.min_share,
        )
        self.totals.sums |= self.progress.sums
        self.progress.sums = self.totals.sums
        if self.sampler is not None:
            self.sampler.order.copy_(self.totals.sums.get("order", self.sampler.order))
            self.totals.sums["order"] = self.sampler.order  # saved in the middle of an epoch, for the digest
        self.steps.begin(self.number, self.totals, len(self.batches) - self.progress.step)

    def start(self) -> None:
        """Call the method's hooks before the first step; nothing when the epoch continues."""
        if self.continues:
            return
        if self.objective.resolved_needs().validation == "start":
            self.validate()
        self.objective.on_epoch_start(self.context(0))

    def step(self, *, check: bool = False) -> None:
        """Train on the next batch; `check` verifies the contract at once, at the cost of host syncs."""
        step = self.progress.step
        ctx = self.context(step)
        if self.sampler is not None:
            share = self.objective.class_share(ctx)
            if check:
                check_share(self.objective, share)
            self.sampler.choose(step, share, ctx.rng("sampler"))
        self.steps(self.batches.batch(step), ctx, check)
        if self.average is not None:
            self.average.after_step(self.model, self.number)
        self.progress.step = step + 1

    def check(self) -> None:
        """Raise DivergedError when loss or weights are not finite, ContractError for a budget exceeded."""
        if not (math.isfinite(self.totals.mean_loss()) and is_finite(self.model)):
            raise DivergedError(self.number)
        check_epoch(self.objective, self.totals, self.number)

    def end(self) -> dict[str, Any]:
        """Call the method's hooks after the last step and update the average; the record of the epoch."""
        stats, needs = self.statistics(), self.objective.resolved_needs()
        self.objective.on_epoch_end(stats.only(needs.epoch_stats), self.context(len(self.batches)))
        if needs.validation == "end":
            self.validate()
        averaged = {}
        if self.average is not None:
            averaged = self.average.after_epoch(self.model, self.number, self._worst_robust_accuracy)
        return {
            "loss": self.totals.mean_loss(),
            "terms": self.totals.mean_terms(),
            **({"skipped_steps": skipped} if (skipped := self.totals.skipped_steps()) else {}),
            "train_clean_accuracy": numbers(stats.clean_accuracy),
            "train_robust_accuracy": numbers(stats.robust_accuracy),
            "logged": self.progress.logged,
            **({"average": averaged} if averaged else {}),
            "warnings": list(dict.fromkeys(self.progress.warned)),
        }

    def statistics(self) -> EpochStats:
        """The class statistics of the steps so far."""
        return self.totals.stats()

    def measure(self, validate: Validate, purpose: str) -> ValidationStats:
        """The class means of `validate` over the validation images; each `purpose` has its own draws."""
        networks, for_method = self.steps.networks, purpose == "validation"
        images = self.validation if for_method and self.validation is not None else self.held_out
        count = len(images)
        batches = (
            (networks.laid_out(images.batch(i)), self.contexts.at(self.progress, i, count, purpose))
            for i in range(count)
        )
        with networks.trained():  # the precision of the network itself, where it has no folded copy
            return measure(
                networks.attacked(),
                validate,
                batches,
                num_classes=self.objective.info.num_classes,
                batch_size=images.batch_size,
                tables=sorted(self.objective.resolved_needs().validation_stats) if for_method else (),
            )

    def context(self, step: int) -> Context:
        """The context of a step."""
        return self.contexts.at(self.progress, step, len(self.batches))

    def validate(self) -> None:
        """Measure the held-out images and pass their class means to the method."""
        stats = self.measure(self.objective.validate, "validation")
        self.objective.on_validation(stats, self.contexts.at(self.progress, 0, 0))

    def _worst_robust_accuracy(self) -> float:
        """Robust accuracy of the worst class of the held-out images."""
        return float(self.measure(robust_validation, "averaging").robust_accuracy.min())
