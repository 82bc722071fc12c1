"""One worker per run folder, without locks.

A claim is a file made by exclusive creation. Its owner touches it every few seconds; a claim
whose owner is dead (same host, process gone) or silent for `EXPIRY_SECONDS` may be taken over.
This needs no lock service, so it holds on network file systems too.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fairbench.core.errors import ClaimedError, ResultsError

HEARTBEAT_SECONDS = 5.0
EXPIRY_SECONDS = 120.0


class Claim:
    """A claim that is held. `check` raises ClaimedError once somebody else took it over."""

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self.token = token

    def holds(self) -> bool:
        return (read_claim(self.path) or {}).get("token") == self.token

    def check(self) -> None:
        if not self.holds():
            raise ClaimedError(
                f"the claim on {self.path.parent.name} was taken over by another worker.",
                hint=f"this process was silent for over {EXPIRY_SECONDS:.0f} s; the other one goes on",
            )


@contextmanager
def claim(path: Path) -> Iterator[Claim]:
    """Hold the claim file `path` for the duration of the block.

    Raises ClaimedError when a live owner holds it.
    """
    token = secrets.token_hex(8)
    content = json.dumps(
        {"token": token, "host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
    )
    while not _create(path, content):
        owner = read_claim(path)
        if owner is None:
            continue
        if is_live(path, owner):
            raise ClaimedError(
                f"{path.parent.name}: process {owner.get('pid')} on {owner.get('host')} is working on it.",
                hint="it will be done there; `fairbench status` shows its progress",
            )
        _remove_stale(path, owner)
    held = Claim(path, token)
    stop = threading.Event()
    beat = threading.Thread(target=_heartbeat, args=(held, stop), daemon=True)
    beat.start()
    try:
        yield held
    finally:
        stop.set()
        beat.join()
        if held.holds():
            path.unlink(missing_ok=True)


def read_claim(path: Path) -> dict[str, object] | None:
    """The claim's content, None when there is none; an empty one for a claim that is damaged."""
    try:
        owner = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) and isinstance(owner.get("pid"), int) else {}


def is_live(path: Path, owner: dict[str, object]) -> bool:
    """Whether the owner of the claim at `path` still works."""
    if owner.get("host") == socket.gethostname() and not _process_exists(int(str(owner.get("pid", 0)))):
        return False
    try:
        silent = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return False
    return silent < EXPIRY_SECONDS


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _create(path: Path, content: str) -> bool:
    """Exclusive creation with content: written aside, then linked, so no reader sees half of it."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        aside.write_text(content)
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        return True
    except OSError as error:
        raise ResultsError(f"cannot claim {path.parent}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _remove_stale(path: Path, owner: dict[str, object]) -> None:
    """Take a dead claim away. Two workers may try: only the one that moves the dead one wins."""
    moved = path.with_name(f".{path.name}.stale.{secrets.token_hex(4)}")
    try:
        os.rename(path, moved)
    except FileNotFoundError:
        return
    if (read_claim(moved) or {}).get("token") != owner.get("token"):
        # Somebody took over in between: give the live claim back.
        with suppress(FileExistsError):
            os.link(moved, path)
    moved.unlink(missing_ok=True)


def _heartbeat(held: Claim, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):  # a file system that hesitates; the next beat may do
            if held.holds():
                os.utime(held.path)
