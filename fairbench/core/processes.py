"""Identify this machine, and check whether a process on it is running."""

import os
import socket
import subprocess
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def machine() -> str:
    """An id of this host's boot and process-id namespace; two processes with the same id can see each other.

    The host name is not enough: containers may share it, and process ids are reused after a reboot.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def birth(pid: int) -> str | None:
    """Start time of process `pid` in clock ticks since boot; None where the system does not provide it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def exists(pid: int, born: str | None = None) -> bool:
    """Whether process `pid` is running on this machine and, with `born`, has that start time."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return born is None or birth(pid) in (born, None)


def query_gpus(field: str) -> list[str]:
    """What nvidia-smi prints for each GPU, for instance its "index" or "name"; empty without GPUs."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.splitlines() if line.strip()]


def end_if_copied(original: int) -> None:
    """Exit immediately if this process is a fork of process `original`.

    A fork shares the parent's open files and its lease but not its threads, so it must not continue the work.
    """
    if os.getpid() != original:
        os.write(2, b"a method called os.fork and the child process returned to fairbench: child stopped\n")
        os._exit(70)
