"""Toy training in which the class statistics are given instead of measured."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fairbench.objectives.contract import AdversarialObjective, EpochStats, ValidationStats
from fairbench.testing.training import Training
from fairbench.training.epoch import Epoch, EpochProgress
from fairbench.training.validation import Validate

Accuracies = Callable[[int], Tensor]
"""The accuracies under attack (C,) of an epoch."""


class GivenTraining(Training):
    """Training whose hooks get the statistics that follow from `accuracy`.

    The class `absent` has no image, whatever its accuracy.
    """

    def __init__(
        self, method: AdversarialObjective, accuracy: Accuracies, *, absent: int | None = None, **options: Any
    ) -> None:
        self.accuracy, self.absent = accuracy, absent
        super().__init__(method, **options)

    def _epoch(self, number: int, saved: EpochProgress | None = None) -> Epoch:
        plain = super()._epoch(number, saved)
        return GivenEpoch(
            number=number,
            steps=self.step,
            batches=plain.batches,
            sampler=plain.sampler,
            held_out=self.held_out,
            contexts=self.contexts,
            accuracy=self.accuracy(number),
            absent=self.absent,
        )


@dataclass(kw_only=True)
class GivenEpoch(Epoch):
    """An epoch with statistics that follow from `accuracy` (C,); errors go to all other classes equally.

    The watched values and the terms of a validation are equal to `accuracy`.
    """

    accuracy: Tensor
    absent: int | None

    def statistics(self) -> EpochStats:
        stats = super().statistics()
        count = self._count(stats.count)
        return replace(
            stats,
            count=count,
            clean_accuracy=self.accuracy / 2 + 0.3,
            robust_accuracy=self.accuracy,
            watched=dict.fromkeys(stats.watched, self.accuracy),
            **self._tables(count, stats),
        )

    def measure(self, validate: Validate, purpose: str) -> ValidationStats:
        stats = super().measure(validate, purpose)
        count = self._count(stats.count)
        return replace(
            stats,
            count=count,
            clean_accuracy=self.accuracy / 2 + 0.3,
            robust_accuracy=self.accuracy,
            terms=dict.fromkeys(stats.terms, self.accuracy),
            **self._tables(count, stats),
        )

    def _count(self, count: Tensor) -> Tensor:
        if self.absent is None:
            return count
        return count.index_fill(0, torch.tensor(self.absent), 0)

    def _tables(self, count: Tensor, stats: EpochStats | ValidationStats) -> dict[str, Any]:
        """The tables (C, C) that the method needs."""
        same = torch.eye(len(self.accuracy), dtype=torch.float64)
        row = self.accuracy[:, None]
        rates = torch.where(same > 0, row, (1 - row) / (len(row) - 1))
        tables = {
            "robust_probability": rates,
            "robust_confusion": rates.nan_to_num(0) * count[:, None],
        }
        return {name: table for name, table in tables.items() if len(getattr(stats, name))}
