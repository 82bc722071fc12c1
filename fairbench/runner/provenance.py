"""The provenance of a run: versions, machine, code and command. Does not import torch."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fairbench
from fairbench.core.identity import digest_bytes
from fairbench.core.imports import version_of
from fairbench.records.cell import Cell

PACKAGES = (
    "fairbench-at",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "pyautoattack",
    "safetensors",
)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def provenance(cell: Cell, device: dict[str, Any]) -> dict[str, Any]:
    """The provenance of an attempt at a cell, for provenance.json. Reads the file of the method's code.

    device: as `describe_device` returns it.
    """
    return {
        "schema": 1,
        "versions": versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "commit": source_commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "plugin_source": digest_bytes(Path(cell.locations["plugin"]).read_bytes()),
        "data_digest": cell.images.digest,
        "started": now(),
    }


def versions() -> dict[str, str]:
    """Versions of the installed packages that can change a result."""
    return {name: version for name in PACKAGES if (version := version_of(name))}


def source_commit() -> str | None:
    """The commit of fairbench's checkout, with "+" for uncommitted changes; None without a checkout."""
    folder = Path(fairbench.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None
