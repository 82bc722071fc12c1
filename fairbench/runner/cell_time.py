"""The time that a cell still takes, from the steps and evaluations that were measured so far."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from typing import Any

from fairbench.core.errors import FairbenchError
from fairbench.planning.cost import epoch_passes, evaluation_passes
from fairbench.records.cell import CLEAN, Cell
from fairbench.records.progress import Progress, ProgressListener
from fairbench.records.run_folder import RunFolder
from fairbench.registry import Registry

MEASURED = 1.0  # seconds of steps that are enough for the first estimate
POINT_SECONDS = 0.5  # between two measurements
TELL_SECONDS = 0.5
WRITE_SECONDS = 10.0
RECENT = 5  # epochs of earlier attempts


class CellTime(ProgressListener):
    """Passes all callbacks on, and adds the time left; it is also stored in the run folder.

    A step takes as long as in the second half of the time measured so far, which leaves out the start. Until
    an evaluation is measured, its passes are priced like those of the training.
    """

    def __init__(
        self,
        cell: Cell,
        run: RunFolder,
        listener: ProgressListener,
        registry: Registry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run, self.listener, self.clock = run, listener, clock
        self.passes, self.evaluations = 1.0, dict[tuple[str, int], float]()
        with suppress(FairbenchError, KeyError, ValueError):  # unknown here: only what is measured counts
            self.passes = max(epoch_passes(cell, registry), 1.0)
            self.evaluations = evaluation_passes(cell, registry)
        self.earlier = [row["seconds"] for row in run.read_epochs()][-RECENT:]
        self.pass_seconds = median(self.earlier) / self.passes if self.earlier else None
        self.points = deque[tuple[float, int]]()  # time, steps done
        self.began = self.last = clock()
        self.current: tuple[str, int] | None = None
        self.seconds: dict[str, list[float]] = {}  # of finished evaluations, by attack
        self.told = self.written = float("-inf")

    def note(self, text: str) -> None:
        self.listener.note(text)

    def epoch(self, row: dict[str, Any]) -> None:
        self.listener.epoch(row)
        self.last = self.clock()

    def step(self, epoch: int, num_epochs: int, step: int, num_steps: int, loss: float | None) -> None:
        self.listener.step(epoch, num_epochs, step, num_steps, loss)
        self.last, done = self.clock(), (epoch - 1) * num_steps + step
        pace = self._pace(done)
        if pace is not None:
            self.pass_seconds = pace * num_steps / self.passes
        if self.pass_seconds is not None:
            pace = self.pass_seconds * self.passes / num_steps
            evaluations = sum(self.evaluations.values()) * self.pass_seconds
            left = pace * (num_epochs * num_steps - done) + evaluations
            self._tell(left, f"epoch {epoch}/{num_epochs}")

    def _pace(self, done: int) -> float | None:
        """Seconds of a step after `done` of them, at this time; None as long as too little is measured."""
        now = self.last
        if not self.points:
            self.began = now
        if not self.points or now - self.points[-1][0] >= POINT_SECONDS:
            self.points.append((now, done))
        half = min((self.began + now) / 2, now - MEASURED)
        while len(self.points) > 2 and self.points[1][0] <= half:
            self.points.popleft()
        since, before = self.points[0]
        return (now - since) / (done - before) if now - since >= MEASURED else None

    def evaluation(self, attack: str, epoch: int, progress: Progress) -> None:
        self.listener.evaluation(attack, epoch, progress)
        if self.current != (attack, epoch):
            if self.current is not None:
                self.seconds.setdefault(self.current[0], []).append(self.last - self.began)
            self.current, self.began = (attack, epoch), self.last
        self.last = self.clock()
        elapsed, left = self.last - self.began, progress.left
        if left is None and self.pass_seconds is not None:
            left = max(0.0, self.evaluations.get(self.current, 0.0) * self.pass_seconds - elapsed)
        coming = self._coming(None if left is None else elapsed + left)
        if left is not None and coming is not None:
            self._tell(left + coming, f"{attack} at epoch {epoch}")

    def _coming(self, current: float | None) -> float | None:
        """Seconds of the evaluations after the current one, which takes `current` seconds in all."""
        assert self.current is not None
        keys = list(self.evaluations)
        position = keys.index(self.current) if self.current in keys else len(keys)
        seconds = {name: list(values) for name, values in self.seconds.items()}
        if current is not None:
            seconds.setdefault(self.current[0], []).append(current)
        price = self.pass_seconds
        measured = [key for key in keys[: position + 1] if key[0] != CLEAN and key[0] in seconds]
        if measured:  # clean images alone cost few passes, and time besides
            spent = sum(sum(values) for name, values in seconds.items() if name != CLEAN)
            count = sum(len(values) for name, values in seconds.items() if name != CLEAN)
            price = spent / (sum(self.evaluations[key] for key in measured) * count / len(measured))
        total = 0.0
        for name, epoch in keys[position + 1 :]:
            if name in seconds:
                total += sum(seconds[name]) / len(seconds[name])
            elif price is not None:
                total += self.evaluations[name, epoch] * price
            else:
                return None
        return total

    def _tell(self, left: float, text: str) -> None:
        if self.last - self.told >= TELL_SECONDS:
            self.told = self.last
            self.listener.time_left(left, text)
        if self.last - self.written >= WRITE_SECONDS:
            self.written = self.last
            self.run.write_progress(left, text)
