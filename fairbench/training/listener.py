"""Whoever is told how training goes."""

from typing import Any
from typing import Protocol as Interface


class Listener(Interface):
    """Whoever shows progress."""

    def step(self, epoch: int, num_epochs: int, step: int, num_steps: int, loss: float | None) -> None:
        """A step is done; `loss` is the epoch's mean so far, or None when it was not read."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done; `row` is its record."""
