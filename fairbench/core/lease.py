"""One worker per run folder, without locks.

A lease is a file made by exclusive creation. Its owner updates the file's time every few seconds. A lease is
stale, and may be taken over, when its process has ended on this machine or when its time was not updated for
`EXPIRY_SECONDS`. Clocks of machines differ and jump, so the second is only trusted after watching the file
for some heartbeats. This needs no lock service, so it works on network file systems too.
"""

import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from fairbench.core import processes
from fairbench.core.errors import LeaseHeldError, ResultsError
from fairbench.core.files import gone, parse_json
from fairbench.core.regular import read_regular

HEARTBEAT_SECONDS = 5.0
EXPIRY_SECONDS = 120.0  # longer than a network file system caches the attributes of a file (usually 60)
BEATS_WATCHED = 3
MAX_BYTES = 65536

Owner = dict[str, Any]
"""The content of a lease file: token, host, pid, machine, born, since; empty when it is damaged."""


class Lease:
    """A lease that this process holds. `check` raises LeaseHeldError after another process took it over."""

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self.token = token
        self.pid = os.getpid()

    def holds(self) -> bool:
        """Whether this process holds it; a fork of it does not."""
        return os.getpid() == self.pid and (read_lease(self.path) or {}).get("token") == self.token

    def check(self) -> None:
        if self.holds():
            return
        if os.getpid() != self.pid:
            raise LeaseHeldError(
                f"a copy of the process that works on {self.path.parent.name} was made and went on with it.",
                hint="the method calls os.fork: a child process must not return to fairbench",
            )
        if not self.path.parent.is_dir():
            raise gone(self.path.parent)
        raise LeaseHeldError(
            f"the lease on {self.path.parent.name} was taken over by another worker.",
            hint=f"this process was silent for over {EXPIRY_SECONDS:.0f} s; the other one goes on",
        )


@contextmanager
def hold_lease(path: Path) -> Iterator[Lease]:
    """Hold the lease file `path` for the duration of the block.

    Raises LeaseHeldError when a live owner holds it, ResultsError when the folder cannot be written.
    """
    token = secrets.token_hex(8)
    me = os.getpid()
    content = json.dumps(
        {
            "token": token,
            "host": socket.gethostname(),
            "pid": me,
            "machine": processes.machine(),
            "born": processes.birth(me),
            "since": time.time(),
        }
    )
    while not _create(path, content):
        owner = read_lease(path)
        if owner is None:
            continue
        if is_live(path, owner) or _beats(path, owner):
            raise LeaseHeldError(
                f"{path.parent.name}: process {owner.get('pid')} on {owner.get('host')} is working on it.",
                hint="it will be done there; `fairbench status` shows its progress",
            )
        _remove_stale(path, owner)
    lease = Lease(path, token)
    stop = threading.Event()
    beat = threading.Thread(target=_heartbeat, args=(lease, stop), daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        stop.set()
        if lease.pid == os.getpid():  # threads are not forked
            beat.join()
        if lease.holds():
            path.unlink(missing_ok=True)


class LeaseSnapshot(NamedTuple):
    """A lease file at one moment: its content, and its time by the clock of the file system."""

    owner: Owner
    touched: float


def read_lease(path: Path) -> Owner | None:
    """The content of a lease file; None when there is none, empty when it is damaged."""
    look = _look(path)
    return None if look is None else look.owner


def is_live(path: Path, owner: Owner) -> bool:
    """Whether the owner of the lease at `path` still runs, judged by one read of it."""
    if _is_here(owner) and not _process_lives(owner):
        return False
    look = _look(path)
    if look is None:
        return False
    if time.time() - look.touched < EXPIRY_SECONDS:
        return True
    return not _is_here(owner) and _time_at(path.parent) - look.touched < EXPIRY_SECONDS


def _time_at(folder: Path) -> float:
    """The time by the clock of the file system, as leases have it; by this machine's if it is read-only."""
    probe = folder / f".{secrets.token_hex(4)}.tmp"
    try:
        probe.touch(exist_ok=False)
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
    except OSError:
        return time.time()


def live_owner(path: Path) -> Owner | None:
    """The owner of the lease at `path` if it still runs, judged by one read of it; else None."""
    owner = read_lease(path)
    return owner if owner is not None and is_live(path, owner) else None


class LeaseWatch:
    """Removes stale leases, judged by this process's own clock, which never jumps."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[LeaseSnapshot, float]] = {}

    def remove_dead(self, path: Path) -> bool:
        """Whether the lease at `path` was stale and is removed now. To be called again and again."""
        look = _look(path)
        if look is None:
            self._seen.pop(path, None)
            return False
        dead = _is_here(look.owner) and not _process_lives(look.owner)
        if not dead:
            before, since = self._seen.get(path, (None, 0.0))
            if look != before:
                self._seen[path] = look, time.monotonic()
                return False
            dead = time.monotonic() - since > EXPIRY_SECONDS
        if dead:
            _remove_stale(path, look.owner)
        return dead


def _look(path: Path) -> LeaseSnapshot | None:
    """Opened, not only asked for its times: that makes a network file system look for itself.

    A lease that cannot be read, or is no regular file, counts as damaged.
    """
    try:
        content = read_regular(path, MAX_BYTES)
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return None
    except OSError as error:
        try:
            return LeaseSnapshot({}, path.lstat().st_mtime)
        except FileNotFoundError:
            return None
        except OSError:
            raise ResultsError(f"cannot read the lease {path}: {error.strerror or error}.") from error
    try:
        owner = parse_json(content)
    except ValueError:
        owner = {}
    return LeaseSnapshot(
        owner if isinstance(owner, dict) and isinstance(owner.get("pid"), int) else {}, touched
    )


def _is_here(owner: Owner) -> bool:
    """Whether the owner's process can be seen from here."""
    if "machine" in owner:
        return bool(owner["machine"] == processes.machine())
    return bool(owner) and owner.get("host") == socket.gethostname()


def _process_lives(owner: Owner) -> bool:
    return processes.exists(int(owner["pid"]), owner.get("born"))


def _beats(path: Path, owner: Owner) -> bool:
    """Whether a lease that looks stale is updated after all: clocks that differ make live ones look stale."""
    if _is_here(owner) and not _process_lives(owner):
        return False
    first = _look(path)
    end = time.monotonic() + BEATS_WATCHED * HEARTBEAT_SECONDS
    while time.monotonic() < end:
        time.sleep(HEARTBEAT_SECONDS / 4)
        look = _look(path)
        if look is None or look.owner.get("token") != owner.get("token"):
            return look is not None
        if first is not None and look.touched != first.touched:
            return True
    return False


def _create(path: Path, content: str) -> bool:
    """Exclusive creation with content: written aside, then linked, so no reader sees half of it."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        aside.write_text(content)
        try:
            os.link(aside, path)
        except FileExistsError:
            # A network file system may answer so when its first answer was lost: then the file is ours.
            return aside.stat().st_nlink == 2
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            return _create_in_place(path, content)  # a file system without links
        return True
    except OSError as error:
        raise ResultsError(
            f"cannot take the lease on {path.parent}: {error.strerror or error}.",
            hint="check the folder's permissions and free space, or choose another with --results DIR",
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _create_in_place(path: Path, content: str) -> bool:
    try:
        with path.open("x") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _remove_stale(path: Path, owner: dict[str, object]) -> None:
    """Remove a stale lease. Of two workers that try, only the one that moves the file wins."""
    moved = path.with_name(f".{path.name}.stale.{secrets.token_hex(4)}")
    try:
        os.rename(path, moved)
    except FileNotFoundError:
        return
    if (read_lease(moved) or {}).get("token") != owner.get("token"):
        # Another process took it over in between: give the live lease back.
        with suppress(FileExistsError):
            os.link(moved, path)
    moved.unlink(missing_ok=True)


def _heartbeat(lease: Lease, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):  # a file system that hesitates; the next beat may do
            if lease.holds():
                os.utime(lease.path)
