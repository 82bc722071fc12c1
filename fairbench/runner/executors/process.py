"""A process that works on one cell: `fairbench cell FOLDER`. What it prints goes to the folder's log."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from fairbench.core.errors import LeaseHeldError, RecordError
from fairbench.core.regular import open_regular
from fairbench.core.stopping import REQUEUE
from fairbench.records.cell import Cell
from fairbench.records.read import UNFINISHED
from fairbench.records.run_folder import RunFolder
from fairbench.records.status import Status, recorded_status

LOG_BYTES = 1 << 20  # of a log that are read
PATIENCE = 60.0  # seconds for a process that was asked to stop


@dataclass(frozen=True)
class End:
    """How an attempt ended, and the status that this gives the cell.

    It left a `record`, or another process has `held` the cell, `memory` ran out, the process was `stopped`,
    its time was over (`limit`), or it `died`.
    """

    kind: Literal["record", "held", "memory", "stopped", "limit", "died"]
    status: Status


class Worker:
    """The process of an attempt at `cell`, which sees of the environment what `env` adds.

    It stops when this process ends, however that comes. `time_limit`: seconds after which it is asked to.
    """

    def __init__(
        self, cell: Cell, run: RunFolder, device: str, env: Mapping[str, str], time_limit: float | None = None
    ) -> None:
        self.cell, self.run, self.time_limit = cell, run, time_limit
        self.before = run.record_stamp()
        self.began = time.monotonic()
        self.asked_at: float | None = None
        command = [sys.executable, "-m", "fairbench.cli", "cell", str(run.path), "--device", device]
        with open(open_regular(run.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as log:
            self.from_here = log.tell()
            self.process = subprocess.Popen(
                [*command, "--until-eof"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,  # Ctrl-C reaches this process, which asks the others to stop
            )

    def over(self) -> bool:
        """Whether it has ended. One that is out of time is asked to stop, and killed if it does not."""
        if self.process.poll() is not None:
            self._clear()
            return True
        now = time.monotonic()
        if self.asked_at is None and self.time_limit is not None and now - self.began > self.time_limit:
            self.ask()
        if self.asked_at is not None and now - self.asked_at > PATIENCE:
            self.process.kill()
        return False

    def ask(self) -> None:
        """Ask it to stop: it saves its state and ends."""
        if self.asked_at is None:
            self.asked_at = time.monotonic()
            self.process.terminate()

    def stop(self) -> None:
        """Wait until a process that was asked to stop has stopped."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._clear()

    def end(self) -> End:
        """How the process ended, read from its exit code, the record and the log."""
        code, log = self.process.returncode, self.run.log_file.name
        recorded = self._recorded()
        if recorded is not None:
            return recorded
        if self.asked_at is not None and self.time_limit is not None:
            why = f"not done after {self.time_limit:.0f} s, its time limit; what it saved is kept"
            return End("limit", Status("failed", why))
        if code == REQUEUE:
            return End("stopped", Status("failed", "stopped by a signal; the same command continues it"))
        lines = self._output()
        if any(line.startswith(LeaseHeldError.__name__) for line in lines[-2:]):
            return End("held", Status("running", "another process works on it."))
        if code == -signal.SIGKILL:
            return End("memory", Status("failed", f"killed, perhaps because memory ran out (see {log})"))
        last = lines[-1] if lines else "no output"
        return End("died", Status("failed", f"{last} (exit code {code}; see {log})"))

    def _recorded(self) -> End | None:
        """The end by the record that this attempt left, or that made it do nothing."""
        if self.run.record_stamp() == self.before and self.process.returncode != 0:
            return None
        try:
            record = self.run.read()
        except RecordError:
            return None
        if record.state == UNFINISHED:
            return None
        status = recorded_status(record, self.cell)
        return End("memory" if record.fault and not status.finished else "record", status)

    def _output(self) -> list[str]:
        with open(open_regular(self.run.log_file), "rb") as log:
            log.seek(max(self.from_here, os.fstat(log.fileno()).st_size - LOG_BYTES))
            return log.read().decode(errors="replace").strip().splitlines()

    def _clear(self) -> None:
        """End what the process has left behind: a method may start processes of its own."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
