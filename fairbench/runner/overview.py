"""What every run in a results folder is doing, and for how long still."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairbench.records.read import Record
from fairbench.records.results_folder import Problem, scan
from fairbench.records.run_folder import RunFolder
from fairbench.records.status import State, recorded_status
from fairbench.runner.executors.slurm import queue_of

WATCH_SECONDS = 2.0
IDLE_LOOKS = 10  # for a moment between two cells, nothing is running


@dataclass(frozen=True)
class RunStatus:
    """One run folder. `worker`: host and process that work on it.

    `left`: seconds of training and evaluation to come, None as long as nothing is measured; `at`: how far
    they are.
    """

    record: Record
    state: State
    reason: str
    epoch: int
    worker: str = ""
    left: float | None = None
    at: str = ""

    def to_json(self) -> dict[str, Any]:
        """What `status --json` prints of it."""
        return {
            "folder": self.record.folder.name,
            **self.record.cell.setting,
            "state": self.state,
            "epoch": self.epoch,
            "epochs": self.record.cell.num_epochs,
            "worker": self.worker,
            "left": None if self.left is None else round(self.left, 1),
            "at": self.at,
            "reason": self.reason,
        }


def overview(results: Path) -> tuple[list[RunStatus], list[Problem]]:
    """Every run of a results folder, and the folders that cannot be read.

    Raises ResultsError when the folder cannot be listed.
    """
    records, problems = scan(results)
    queued = queue_of(results)
    return [_status(record, queued) for record in records], problems


def watch(results: Path) -> Iterator[tuple[list[RunStatus], list[Problem]]]:
    """What `overview` returns, every WATCH_SECONDS until nothing has run or been queued for IDLE_LOOKS."""
    idle = 0
    while True:
        runs, problems = overview(results)
        yield runs, problems
        idle = 0 if any(run.state in ("running", "queued") for run in runs) else idle + 1
        if idle == IDLE_LOOKS:
            return
        time.sleep(WATCH_SECONDS)


def _status(record: Record, queued: Mapping[str, str]) -> RunStatus:
    run, status = RunFolder(record.folder), recorded_status(record, record.cell)
    state, reason, worker = status.state, status.reason, ""
    owner = run.owner()
    if owner is not None:
        state, worker = "running", f"{owner.get('host')}:{owner.get('pid')}"
        reason = ""
    elif not status.finished and run.name in queued:
        state, reason = "queued", queued[run.name]
    epochs = run.read_epochs()
    epoch = epochs[-1]["epoch"] if epochs else 0
    progress = run.read_progress() if state == "running" else None
    left, at = (None, "") if progress is None else progress
    return RunStatus(record, state, reason, epoch, worker, left, at)
