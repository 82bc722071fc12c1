"""Toy training: the epochs of the trainer on toy batches, with a stop before any event."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from fairbench.attacks.budget import Budget
from fairbench.attacks.draws import Draws
from fairbench.data.batch import Batch
from fairbench.objectives.classes import class_indicator
from fairbench.objectives.contract import AdversarialObjective, Context, EpochStats, ValidationStats
from fairbench.testing import toys
from fairbench.training.checkpointing import SavedState, TrainingState
from fairbench.training.epoch import Contexts, Epoch, EpochProgress
from fairbench.training.networks import Networks, Speedups
from fairbench.training.statistics import under
from fairbench.training.step import StepRunner, training_step
from fairbench.training.validation import Validate

UNBALANCED = (0, 1, 1, 1, 1, 1, 2, 3)  # classes of different size
EPOCHS = 3

# Row: true class, column: prediction under attack. 0 and 1 have equal accuracy and are confused with each
# other, 2 is never right, 3 is always right. The losses per class fit to it.
AWKWARD_TABLE = ((0.4, 0.1, 0.0, 0.5), (0.1, 0.4, 0.0, 0.5), (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0))
AWKWARD_CLEAN = (0.5, 0.5, 0.9, 1.0)
AWKWARD_LOSS = (1.0, 1.0, 3.0, 0.01)

Event = tuple[int, int | Literal["start", "end"]]
"""Epoch, and a step of it (from 0), its start or its end."""


@dataclass(frozen=True)
class ToyBatches:
    """Batches made in advance."""

    made: list[Batch]

    @property
    def batch_size(self) -> int:
        return len(self.made[0])

    def __len__(self) -> int:
        return len(self.made)

    def batch(self, i: int) -> Batch:
        return self.made[i]


class ToySampler:
    """Puts toy images of drawn classes in place of those of `batches`; `make` returns batch i of some labels.

    Only classes that are in `batches` are drawn. `order` (steps, B) holds the classes, padded with zeros.
    """

    def __init__(self, batches: ToyBatches, num_classes: int, make: Callable[[int, Tensor], Batch]) -> None:
        self.batches, self.make = batches, make
        labels = torch.cat([batch.y for batch in batches.made])
        self.order = pad_sequence([batch.y for batch in batches.made], batch_first=True)
        self.present = class_indicator(labels, num_classes, torch.float64).sum(0) > 0

    def choose(self, i: int, share: Tensor, rng: Draws) -> None:
        weight = torch.where(self.present, share.detach().double(), 0.0)
        drawn = rng.choice(weight.expand(len(self.batches.batch(i)), -1))
        self.order[i, : len(drawn)] = drawn
        self.batches.made[i] = self.make(i, drawn)


class Training:
    """Trains the toy network with a method, event by event; `events` are those still to come.

    `labels` are those of every batch, by default 0, 1, ... in turn. With `awkward` the method gets statistics
    with ties and extremes (4 classes) instead of the measured ones; with `untied` a confusion table in which
    no two entries are equal, so that its singular vectors are unique. `held_out` is the number of images of
    each class in each validation batch. `permutation` (C,) renames the classes.
    """

    def __init__(
        self,
        method: AdversarialObjective,
        *,
        epochs: int = EPOCHS,
        steps: int = 2,
        seed: int = 0,
        labels: Iterable[int] | None = None,
        awkward: bool = False,
        untied: bool = False,
        held_out: Sequence[int] = (1,),
        permutation: Tensor | None = None,
        model: nn.Module | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device = toys.CPU,
        draws: Callable[[int], Draws] | None = None,
        budget: Budget = toys.BUDGET,
    ) -> None:
        self.method = method
        self.num_classes = method.info.num_classes
        self.epochs, self.steps = epochs, steps
        self.labels = None if labels is None else torch.tensor(tuple(labels))
        self.awkward, self.untied, self.permutation = awkward, untied, permutation
        self.dtype, self.device = dtype, device
        self.model = (toys.network(self.num_classes) if model is None else model).to(device, dtype)
        self.optimizer = toys.sgd(self.model)
        self.state = TrainingState(self.model, self.optimizer, {"state": method})
        networks = Networks(self.model, torch.empty(0), "fp32", Speedups.none())
        self.step = StepRunner(networks, method, self.optimizer, step=self._training_step)
        make_draws = (lambda drawn: Draws(drawn, device)) if draws is None else draws
        names = method.resolved_needs().teachers
        teachers = toys.teachers(self.num_classes, names, permutation=permutation, dtype=dtype, device=device)
        self.contexts = Contexts(seed, epochs, budget, toys.learning_rate, make_draws, teachers)
        self.missing: int | None = None  # a class without images in the first batch of every epoch
        self.later_labels: Tensor | None = None  # of every batch from the second epoch on
        self.losses: list[Tensor] = []
        self.events: list[Event] = []
        for epoch in range(1, epochs + 1):
            self.events += [(epoch, "start"), *((epoch, step) for step in range(steps)), (epoch, "end")]
        every = torch.arange(self.num_classes)
        sizes = () if method.resolved_needs().validation is None else held_out
        self.held_out = ToyBatches(
            [self.batch(1000 + i, every.repeat(count)) for i, count in enumerate(sizes)]
        )
        self.epoch = self._epoch(1)

    def run(self, until: Event | None = None) -> "Training":
        """Process the events before `until`, by default all; returns self."""
        while self.events and self.events[0] != until:
            number, event = self.events.pop(0)
            if event == "start":
                self.epoch = self._epoch(number)
                self.epoch.start()
            elif event == "end":
                self.epoch.end()
            else:
                self.epoch.step()
        return self

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the state: weights, momentum, the method's state, the epoch's sums."""
        return toys.copied(self.state.tensors(self.epoch.totals.sums))

    def resume(self, saved: Mapping[str, Tensor], at: Event) -> None:
        """Continue from `tensors` saved before the event `at`."""
        number, event = at
        self.state.load(SavedState(dict(saved), number - 1, None, Path("toy training")))
        self.events = self.events[self.events.index(at) :]
        if event != "start":
            step = self.steps if event == "end" else event
            self.epoch = self._epoch(number, EpochProgress(number, step, sums=under("sums.", saved)))

    def batch(self, seed: int, labels: Tensor | None = None) -> Batch:
        """Images of a seed with their labels, in the new names of the classes."""
        labels = self.labels if labels is None else labels
        given = toys.batch(num_classes=self.num_classes, seed=seed, labels=labels)
        y = given.y if self.permutation is None else self.permutation[given.y]
        return Batch(given.x.to(self.device, self.dtype), y.to(self.device), given.index.to(self.device))

    def context(self, epoch: int, step: int) -> Context:
        """The context of a step of this training."""
        return self.contexts.at(EpochProgress(epoch), step, self.steps)

    def _epoch(self, number: int, saved: EpochProgress | None = None) -> Epoch:
        labels = self.later_labels if number > 1 else None
        batches = ToyBatches([self.batch(10 * number + step, labels) for step in range(self.steps)])
        if self.missing is not None:
            first = batches.batch(0)
            present = first.y != self.missing
            without = Batch(first.x[present], first.y[present], first.index[present])
            batches = ToyBatches([without, *batches.made[1:]])

        def sampled(step: int, y: Tensor) -> Batch:
            labels = y.cpu() if self.permutation is None else self.permutation.argsort()[y.cpu()]
            return self.batch(10 * number + step, labels)

        for group in self.optimizer.param_groups:
            group["lr"] = toys.learning_rate(number)
        parts: dict[str, Any] = {"batches": batches, "held_out": self.held_out, "contexts": self.contexts}
        if self.method.resolved_needs().sampling:
            parts["sampler"] = ToySampler(batches, self.num_classes, sampled)
        if self.awkward or self.untied:
            kind = AwkwardEpoch if self.awkward else UntiedEpoch
            return kind(number=number, steps=self.step, saved=saved, permutation=self.permutation, **parts)
        return Epoch(number=number, steps=self.step, saved=saved, **parts)

    def _training_step(self, *arguments: Any, **options: Any) -> Tensor:
        loss = training_step(*arguments, **options)
        self.losses.append(loss)
        return loss


@dataclass(kw_only=True)
class AwkwardEpoch(Epoch):
    """An epoch with statistics of 4 classes that have ties and extremes, other ones in each epoch.

    Those of a class without images are NaN.
    """

    permutation: Tensor | None

    def statistics(self) -> EpochStats:
        stats, table = super().statistics(), self._rolled(AWKWARD_TABLE)
        absent = torch.where(stats.count > 0, 0.0, math.nan).double()
        table, confusion = table + absent[:, None], table * stats.count[:, None]
        return replace(
            stats,
            clean_accuracy=self._rolled(AWKWARD_CLEAN) + absent,
            robust_accuracy=table.diagonal().clone(),
            robust_probability=table if len(stats.robust_probability) else stats.robust_probability,
            robust_confusion=confusion if len(stats.robust_confusion) else stats.robust_confusion,
            watched={name: self._rolled(AWKWARD_LOSS) + absent for name in stats.watched},
        )

    def measure(self, validate: Validate, purpose: str) -> ValidationStats:
        stats = super().measure(validate, purpose)
        return replace(
            stats,
            clean_accuracy=self._rolled(AWKWARD_CLEAN),
            robust_accuracy=self._rolled(AWKWARD_TABLE).diagonal().clone(),
            terms={name: self._rolled(AWKWARD_LOSS) for name in stats.terms},
        )

    def _rolled(self, values: object) -> Tensor:
        """Values per class or pair of classes, rolled by the epoch, in the new names of the classes."""
        table = torch.tensor(values, dtype=torch.float64, device=self.totals.sums["count"].device)
        axes = tuple(range(table.dim()))
        table = table.roll((self.number - 1,) * len(axes), axes)
        if self.permutation is not None:
            for axis in axes:
                table = table.index_select(axis, self.permutation.argsort())
        return table


@dataclass(kw_only=True)
class UntiedEpoch(Epoch):
    """An epoch with the measured statistics, but a part of an image more in each entry of the confusion.

    The counts of a few toy images have ties, where a spectral method has no unique answer.
    """

    permutation: Tensor | None

    def statistics(self) -> EpochStats:
        stats = super().statistics()
        return replace(stats, robust_confusion=self._untied(stats.robust_confusion))

    def measure(self, validate: Validate, purpose: str) -> ValidationStats:
        stats = super().measure(validate, purpose)
        return replace(stats, robust_confusion=self._untied(stats.robust_confusion))

    def _untied(self, confusion: Tensor) -> Tensor:
        """`confusion` (C, C) plus fractions that are the same for every class, whatever its number."""
        if not len(confusion):
            return confusion
        fractions = torch.rand(confusion.shape, generator=torch.Generator().manual_seed(self.number)).double()
        if self.permutation is not None:
            old_names = self.permutation.argsort()
            fractions = fractions[old_names][:, old_names]
        return confusion + fractions
