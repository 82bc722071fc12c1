"""The cells of a job that are still to be done, and those that other processes work on."""

import time
from collections.abc import Collection

from fairbench.core.errors import FairbenchError
from fairbench.core.lease import LeaseWatch, read_lease
from fairbench.records.cell import Cell
from fairbench.records.progress import ProgressListener
from fairbench.records.run_folder import RunFolder
from fairbench.records.status import Status
from fairbench.runner.executors.executor import Job

LOOK_SECONDS = 1.0  # between two looks at the cells of others


class Queue:
    """Hands out one cell after the other and keeps how each ended in `states`."""

    def __init__(self, job: Job, listener: ProgressListener) -> None:
        self.job, self.listener = job, listener
        self.waiting = [item.cell for item in job.planned]
        self.others: list[Cell] = []
        self.states: dict[str, str] = {}
        self._watch = LeaseWatch()
        self._looked = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing is left to hand out, now or later."""
        return not self.waiting and not self.others

    def next(self, working: Collection[str] = ()) -> Cell | None:
        """The next cell, while those with the ids `working` are at work; None when there is none for now.

        A cell that needs the weights of another one waits until that one has ended.
        """
        self._look_at_others()
        unfinished = {cell.id for cell in (*self.waiting, *self.others)} | set(working)
        for cell in self.waiting:
            if not any(needed.id in unfinished for needed in cell.needed):
                self.waiting.remove(cell)
                return cell
        return None

    def start(self, cell: Cell) -> RunFolder | None:
        """The cell's run folder, made; None, and the cell has failed, when that is not possible."""
        self.listener.started(cell)
        try:
            return self.job.prepare(cell)
        except FairbenchError as error:
            self.ended(cell, Status("failed", str(error)))
            return None

    def ended(self, cell: Cell, status: Status) -> None:
        """`cell` was worked on and is over."""
        self.states[cell.id] = status.state
        self.listener.ended(cell, status.state, status.reason)

    def again(self, cell: Cell, why: str) -> None:
        """`cell` is to be started once more."""
        self.listener.note(f"{cell.slot}: {why}")
        self.waiting.insert(0, cell)

    def left_to_others(self, cell: Cell, reason: str) -> None:
        """Another process works on `cell`."""
        if self.job.wait:
            self.listener.note(f"{cell.slot}: {reason} Waiting.")
            self.others.append(cell)
        else:
            self.ended(cell, Status("running", reason))

    def _look_at_others(self) -> None:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        for cell in list(self.others):
            run = self.job.run(cell)
            if self._watch.remove_dead(run.lease_file):
                self.listener.note(f"{cell.slot}: the process that worked on it is gone; taken over")
            if read_lease(run.lease_file) is None:
                self.others.remove(cell)
                status = run.recorded(cell)
                if status.finished:
                    self.ended(cell, status)
                else:
                    self.waiting.append(cell)
        self._looked = time.monotonic()
