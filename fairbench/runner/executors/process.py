"""A process that works on one cell: `fairbench cell FOLDER`. What it prints goes to the folder's log."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairbench.core.errors import LeaseHeldError, RecordError
from fairbench.core.files import read_sealed
from fairbench.core.stopping import REQUEUE
from fairbench.planning.cells import Cell
from fairbench.planning.status import folder_state
from fairbench.runner.logs import LOG

PATIENCE = 60.0  # seconds for a process that was asked to stop


@dataclass(frozen=True)
class End:
    """How an attempt ended: with a `record`, or because the cell is `claimed` by others, `memory` ran out,
    the process was `stopped`, its time was over (`limit`), or it `died`."""

    kind: Literal["record", "claimed", "memory", "stopped", "limit", "died"]
    state: str
    reason: str


class Worker:
    """The process of an attempt at `cell`, which sees of the environment what `env` adds.

    It stops when this process ends, however that comes. `time_limit`: seconds after which it is asked to.
    """

    def __init__(
        self, cell: Cell, folder: Path, device: str, env: Mapping[str, str], time_limit: float | None = None
    ) -> None:
        self.cell, self.folder, self.time_limit = cell, folder, time_limit
        self.before = self._stamp()
        self.began = time.monotonic()
        self.asked_at: float | None = None
        command = [sys.executable, "-m", "fairbench.cli", "cell", str(folder), "--device", device]
        with (folder / LOG).open("ab") as log:
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
        """How it ended, by what it left in the folder."""
        code = self.process.returncode
        record = self._record()
        if record is not None:
            state, reason, fault = record
            return End("memory" if fault == "memory" else "record", state, reason)
        if self.asked_at is not None and self.time_limit is not None:
            why = f"not done after {self.time_limit:.0f} s, its time limit; what it saved is kept"
            return End("limit", "failed", why)
        if code == REQUEUE:
            return End("stopped", "failed", "stopped by somebody; the same command continues it")
        lines = self._said()
        if any(line.startswith(LeaseHeldError.__name__) for line in lines[-2:]):
            return End("claimed", "running", "another process works on it.")
        if code == -signal.SIGKILL:
            return End("memory", "failed", f"killed, perhaps because memory ran out (see {LOG})")
        last = lines[-1] if lines else "no word"
        return End("died", "failed", f"{last} (exit code {code}; see {LOG})")

    def _record(self) -> tuple[str, str, str] | None:
        """State, reason and fault in the record that this attempt left, or that made it do nothing."""
        try:
            record = read_sealed(self.folder / "record.json")
            state, reason = str(record["state"]), str(record.get("reason") or "")
        except (RecordError, KeyError, TypeError):
            return None
        if self._stamp() == self.before and self.process.returncode != 0:
            return None
        if state == "done" and reason and folder_state(self.folder, self.cell)[0] != "done":
            state = "failed"  # an attack that was asked for
        return state, reason, str(record.get("fault") or "")

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = (self.folder / "record.json").stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def _said(self) -> list[str]:
        with (self.folder / LOG).open("rb") as log:
            log.seek(self.from_here)
            return log.read().decode(errors="replace").strip().splitlines()

    def _clear(self) -> None:
        """End what the process has left behind: a method may start processes of its own."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
