"""Run a plan as several processes at a time on one device, each of which works on one cell.

For cells that leave a GPU, or a CPU of many cores, mostly idle. Each process is `fairbench cell FOLDER`, so a
cell ends as it would alone; what it prints goes to `worker.log` in its folder.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fairbench.core.errors import ClaimedError, FairbenchError, RecordError
from fairbench.core.files import read_sealed
from fairbench.plan.cells import Cell
from fairbench.plan.status import CellStatus
from fairbench.runner.folders import prepare_folder

LOG = "worker.log"
PAUSE = 0.1  # seconds between two looks at the processes
PATIENCE = 60.0  # seconds for a process that was asked to stop


def execute_packed(
    planned: Sequence[CellStatus],
    results: Path,
    pack: int,
    *,
    device: str,
    started: Callable[[Cell], None],
    ended: Callable[[Cell, str, str], None],
) -> dict[str, str]:
    """Work through the cells that are not finished, `pack` at a time; the state of each by id.

    A cell that starts from another one's weights waits until that one has ended. A failed cell leaves the
    others alone. When this process is interrupted, so are the others; the next run continues them.
    """
    waiting = [item.cell for item in planned]
    working: dict[str, Worker] = {}  # by the cell's id
    states: dict[str, str] = {}
    try:
        while waiting or working:
            for worker in [each for each in working.values() if each.process.poll() is not None]:
                del working[worker.cell.id]
                states[worker.cell.id], reason = worker.outcome()
                ended(worker.cell, states[worker.cell.id], reason)
            while len(working) < pack and (cell := _ready(waiting, working)) is not None:
                waiting.remove(cell)
                started(cell)
                try:
                    working[cell.id] = Worker(cell, prepare_folder(cell, results), device, threads(pack))
                except FairbenchError as error:
                    states[cell.id] = "failed"
                    ended(cell, "failed", str(error))
            time.sleep(PAUSE)
    finally:
        for worker in working.values():
            worker.process.terminate()
        for worker in working.values():
            worker.stop()
    return states


def _ready(waiting: Sequence[Cell], working: dict[str, "Worker"]) -> Cell | None:
    """The first cell whose start is neither to be trained yet nor being trained."""
    open_ids = {cell.id for cell in waiting} | set(working)
    return next((cell for cell in waiting if cell.start is None or cell.start.id not in open_ids), None)


def threads(pack: int) -> int:
    """CPU threads of each of `pack` processes."""
    return max(1, cores() // pack)


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Worker:
    """A process that works on one cell."""

    def __init__(self, cell: Cell, folder: Path, device: str, num_threads: int) -> None:
        self.cell, self.folder = cell, folder
        before = folder / "record.json"
        self.before = before.stat().st_mtime_ns if before.exists() else None
        command = [sys.executable, "-m", "fairbench.cli", "cell", str(folder), "--device", device]
        with (folder / LOG).open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": str(num_threads)},
                start_new_session=True,  # Ctrl-C reaches this process, which asks the others to stop
            )

    def outcome(self) -> tuple[str, str]:
        """The state and the reason that the process left in the record; without a record it failed."""
        try:
            record = read_sealed(self.folder / "record.json")
            fresh = (self.folder / "record.json").stat().st_mtime_ns != self.before
            state, reason = str(record["state"]), str(record.get("reason") or "")
        except (RecordError, OSError, KeyError, TypeError):
            return self._without_record()
        if not fresh and self.process.returncode != 0:
            return self._without_record()
        return state, reason

    def stop(self) -> None:
        """Wait until a process that was asked to stop has stopped."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _without_record(self) -> tuple[str, str]:
        """The state, and what the process said last; a cell of somebody else is left to them."""
        lines = (self.folder / LOG).read_text(errors="replace").strip().splitlines()
        claimed = any(line.startswith(ClaimedError.__name__) for line in lines[-2:])
        words = f"{lines[-1] if lines else 'no word'} (exit code {self.process.returncode}; see {LOG})"
        return "running" if claimed else "failed", words
