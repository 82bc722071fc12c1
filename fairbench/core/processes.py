"""Which machine this is, and whether a process on it still lives."""

import os
import socket
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def machine() -> str:
    """What processes that can see each other have in common: the boot of a host and its space of process ids.

    Two containers may have the name of one host, and one host its process ids anew after a reboot.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def birth(pid: int) -> str | None:
    """When the process began, in its system's own count; None where that cannot be known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def exists(pid: int, born: str | None = None) -> bool:
    """Whether process `pid` of this machine lives, and is the one that was `born` then."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return born is None or birth(pid) in (born, None)


def end_if_copied(original: int) -> None:
    """End this process at once if it is a fork of `original` that went on with its work.

    It shares files and claims with the other, and its threads are gone: nothing good could come of it.
    """
    if os.getpid() != original:
        os.write(2, b"a method called os.fork, and the child went on as if it were the worker: ended\n")
        os._exit(70)
