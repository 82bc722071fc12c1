"""Progress of runs: the callbacks that report it, and how far an attack is."""

from dataclasses import dataclass
from typing import Any

from fairbench.records.cell import Cell


@dataclass(frozen=True)
class Progress:
    """Progress of one attack on one checkpoint.

    stage   the part that is running, "" for an attack with one part
    done    share of the stage's work that is done, in [0, 1]
    robust  share of all test images that no part has broken so far, None if unknown
    left    seconds for the rest of the attack, None if unknown
    """

    stage: str
    done: float
    robust: float | None = None
    left: float | None = None


class ProgressListener:
    """Callbacks while cells are worked on; each does nothing unless a class overrides it.

    `step`, `epoch`, `evaluation` and `time_left` are called only for cells that run in this process.
    """

    def started(self, cell: Cell) -> None:
        """Work on the cell begins, perhaps once more."""

    def ended(self, cell: Cell, state: str, reason: str) -> None:
        """Work on the cell is over."""

    def note(self, text: str) -> None:
        """Something else happened that a user should see."""

    def step(self, epoch: int, num_epochs: int, step: int, num_steps: int, loss: float | None) -> None:
        """A training step is done; `loss` is the mean of the epoch so far, or None when it was not read."""

    def epoch(self, row: dict[str, Any]) -> None:
        """A training epoch is done; `row` is what is recorded of it."""

    def evaluation(self, attack: str, epoch: int, progress: Progress) -> None:
        """`attack` ("clean" for none) at the checkpoint of `epoch` is this far."""

    def time_left(self, seconds: float, text: str) -> None:
        """The cell at work takes so long still, training and evaluation; `text`: how far it is."""
