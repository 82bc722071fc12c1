"""What every run in a results folder is doing, and for how long still."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from fairbench.records.read import Record
from fairbench.records.results_folder import Problem, scan
from fairbench.records.run_folder import RunFolder
from fairbench.records.status import State, recorded_status
from fairbench.runner.executors.slurm import queue_of

WATCH_SECONDS = 2.0
IDLE_LOOKS = 10  # for a moment between two cells, nothing is running
RECENT = 5  # epochs by which the time of the next ones is estimated


@dataclass(frozen=True)
class RunStatus:
    """One run folder. `worker`: host and process that work on it; `left`: seconds of training to come."""

    record: Record
    state: State
    reason: str
    epoch: int
    worker: str = ""
    left: float | None = None

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
    left = None
    if state == "running" and epochs and record.cell.num_epochs:
        pace = median(row["seconds"] for row in epochs[-RECENT:])
        left = pace * (record.cell.num_epochs - epoch)
        with suppress(OSError):  # the epoch at work began when the last one was written
            since = time.time() - run.epochs_file.stat().st_mtime
            left -= min(max(since, 0.0), pace) if left else 0.0
    return RunStatus(record, state, reason, epoch, worker, left)
