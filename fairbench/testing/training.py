"""The trainer's order of events on toy data, which can be stopped and continued between any two of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from fairbench.attacks.draws import Draws
from fairbench.data.batch import Batch
from fairbench.objectives.contract import AdversarialObjective, Context, EpochStats, ValidationStats
from fairbench.testing import toys
from fairbench.training.step import training_step
from fairbench.training.validation import measure

UNBALANCED = (0, 1, 1, 1, 1, 1, 2, 3)  # classes of different size
EPOCHS = 3

# Rows are classes under attack: 0 and 1 tie and are taken for each other, 2 fails, 3 is so easy that rules
# overshoot. Losses per class go with it.
AWKWARD_TABLE = ((0.4, 0.1, 0.0, 0.5), (0.1, 0.4, 0.0, 0.5), (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0))
AWKWARD_CLEAN = (0.5, 0.5, 0.9, 1.0)
AWKWARD_LOSS = (1.0, 1.0, 3.0, 0.01)

Event = tuple[int, int | Literal["start", "end"]]
"""A step of an epoch, or what surrounds its steps."""


class Training:
    """Trains the toy network with a method in the house's order of events; `run` does those still to come.

    `labels` are those of every batch, by default all classes alike. `awkward` replaces what was measured in
    an epoch by statistics with ties and extremes (4 classes). `held_out` are images of each class in the
    validation batches. `permutation` (C,) renames the classes.
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
        held_out: Sequence[int] = (1,),
        permutation: Tensor | None = None,
        model: nn.Module | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device = toys.CPU,
        draws: Callable[[int], Draws] | None = None,
    ) -> None:
        self.method = method
        self.num_classes = method.info.num_classes
        self.epochs, self.steps, self.seed = epochs, steps, seed
        self.labels = None if labels is None else torch.tensor(tuple(labels))
        self.awkward, self.held_out, self.permutation = awkward, held_out, permutation
        self.dtype, self.device, self.draws = dtype, device, draws
        self.model = (toys.network(self.num_classes) if model is None else model).to(device, dtype)
        self.optimizer = toys.sgd(self.model)
        self.totals = toys.totals(method, device)
        self.losses: list[Tensor] = []
        self.events: list[Event] = []
        for epoch in range(1, epochs + 1):
            self.events += [(epoch, "start"), *((epoch, step) for step in range(steps)), (epoch, "end")]

    def run(self, until: Event | None = None) -> "Training":
        """Do the events to come, up to and without `until`; itself."""
        while self.events and self.events[0] != until:
            epoch, what = self.events.pop(0)
            if what == "start":
                self._start(epoch)
            elif what == "end":
                self._end(epoch)
            else:
                self._step(epoch, what)
        return self

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resume needs: weights, momentum, the method's state, the epoch's sums."""
        found = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                found[f"momentum.{name}"] = momentum
        found |= {f"state.{name}": value for name, value in self.method.state_dict().items()}
        found |= {f"epoch.{name}": value for name, value in self.totals.sums.items()}
        return toys.copied(found)

    def resume(self, saved: Mapping[str, Tensor], at: Event) -> None:
        """Continue from `tensors` saved before the event `at`."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): value for name, value in saved.items() if name.startswith(prefix)
            }

        self.model.load_state_dict(under("model."))
        momentum = under("momentum.")
        for name, parameter in self.model.named_parameters():
            if name in momentum:
                self.optimizer.state[parameter]["momentum_buffer"] = momentum[name]
        self.method.load_state_dict(under("state."))
        self.totals.sums = under("epoch.")
        self.events = self.events[self.events.index(at) :]

    def batch(self, seed: int, labels: Tensor | None = None) -> Batch:
        """The images and labels of a seed, in the classes' new names."""
        labels = self.labels if labels is None else labels
        given = toys.batch(num_classes=self.num_classes, seed=seed, labels=labels)
        y = given.y if self.permutation is None else self.permutation[given.y]
        return Batch(given.x.to(self.device, self.dtype), y.to(self.device), given.index.to(self.device))

    def context(self, epoch: int, step: int, stage: str = "training") -> Context:
        """A place in this training."""
        return toys.context(
            epoch,
            step,
            self.seed,
            device=self.device,
            num_epochs=self.epochs,
            num_steps=self.steps,
            stage=stage,
            draws=self.draws,
        )

    def _start(self, epoch: int) -> None:
        self.totals = toys.totals(self.method, self.device)
        self._validate(epoch, "start")
        self.method.on_epoch_start(self.context(epoch, 0))

    def _step(self, epoch: int, step: int) -> None:
        given, ctx = self.batch(10 * epoch + step), self.context(epoch, step)
        loss = training_step(self.model, self.method, self.optimizer, given, ctx, self.totals)
        self.losses.append(loss)

    def _end(self, epoch: int) -> None:
        stats = self.totals.stats()
        if self.awkward:
            stats = self._awkward_epoch(stats, epoch)
        self.method.on_epoch_end(stats, self.context(epoch, self.steps))
        self._validate(epoch, "end")

    def _validate(self, epoch: int, when: str) -> None:
        if self.method.resolved_needs().validation != when:
            return
        every = torch.arange(self.num_classes)
        batches = [every.repeat(count) for count in self.held_out]
        stage = f"validation at the {when}"
        stats = measure(
            self.model,
            self.method.validate,
            [
                (self.batch(1000 + number, labels), self.context(epoch, number, stage))
                for number, labels in enumerate(batches)
            ],
            num_classes=self.num_classes,
            batch_size=len(batches[0]),
        )
        if self.awkward:
            stats = self._awkward_validation(stats, epoch)
        self.method.on_validation(stats, self.context(epoch, 0 if when == "start" else self.steps))

    def _awkward(self, values: object, epoch: int) -> Tensor:
        """Values per class or pair of classes, from epoch to epoch with the roles of the classes moved on."""
        table = torch.tensor(values, dtype=torch.float64, device=self.device)
        axes = tuple(range(table.dim()))
        table = table.roll((epoch - 1,) * len(axes), axes)
        if self.permutation is not None:
            for axis in axes:
                table = table.index_select(axis, self.permutation.argsort())
        return table

    def _awkward_epoch(self, stats: EpochStats, epoch: int) -> EpochStats:
        table = self._awkward(AWKWARD_TABLE, epoch)
        wanted = {name for name in ("robust_probability", "robust_confusion") if len(getattr(stats, name))}
        return replace(
            stats,
            clean_accuracy=self._awkward(AWKWARD_CLEAN, epoch),
            robust_accuracy=table.diagonal().clone(),
            robust_probability=table if "robust_probability" in wanted else stats.robust_probability,
            robust_confusion=(
                table * stats.count[:, None] if "robust_confusion" in wanted else stats.robust_confusion
            ),
        )

    def _awkward_validation(self, stats: ValidationStats, epoch: int) -> ValidationStats:
        return replace(
            stats,
            clean_accuracy=self._awkward(AWKWARD_CLEAN, epoch),
            robust_accuracy=self._awkward(AWKWARD_TABLE, epoch).diagonal().clone(),
            terms={name: self._awkward(AWKWARD_LOSS, epoch) for name in stats.terms},
        )
