"""Where a number comes from: versions, machine, code, command. No torch needed to read it."""

import importlib.metadata
import logging
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fairbench
from fairbench.core.errors import RecordError
from fairbench.core.files import read_json, write_json
from fairbench.core.identity import digest_bytes
from fairbench.planning.cells import Cell

logger = logging.getLogger(__name__)

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


def write_provenance(folder: Path, cell: Cell, plugin: Path, device: dict[str, Any]) -> None:
    """Say in `provenance.json` how this attempt at the cell works; what earlier ones said is kept in it."""
    path = folder / "provenance.json"
    earlier: list[dict[str, Any]] = []
    if path.exists():
        try:
            last = dict(read_json(path))
            earlier = [*last.pop("earlier", []), last]
        except (RecordError, TypeError, ValueError):
            logger.warning("%s is damaged: what it said of earlier attempts is lost", path)
    write_json(path, {**provenance(cell, plugin, device), "earlier": earlier})


def provenance(cell: Cell, plugin: Path, device: dict[str, Any]) -> dict[str, Any]:
    """What a record says of its making."""
    return {
        "schema": 1,
        "versions": versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "commit": source_commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "plugin_source": digest_bytes(plugin.read_bytes()),
        "data_digest": cell.identity["dataset"]["digest"],
        "started": now(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that can change a result."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def source_commit() -> str | None:
    """The commit of fairbench's own checkout, with "+" when it has changes; None when installed."""
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
