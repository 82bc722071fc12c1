"""Runs that are to be tried again."""

import os
from collections.abc import Sequence
from pathlib import Path

from fairbench.core.errors import ConfigError
from fairbench.planning.cells import read_cell
from fairbench.planning.code_locations import located
from fairbench.planning.status import CellStatus, folder_state
from fairbench.records.read import find_run, scan
from fairbench.registry import Registry


def runs_to_retry(
    runs: Sequence[str], results: Path, registry: Registry, *, failed: bool = False
) -> list[CellStatus]:
    """The runs of these names or folders, and all that failed, with their cells and states.

    Raises ConfigError when nothing is named and when a name fits no run.
    """
    if not runs and not failed:
        raise ConfigError("nothing to retry.", hint="name runs (see: fairbench status), or add --failed")
    folders = [find_run(run, results) for run in runs]
    if failed:
        folders += [record.folder for record in scan(results)[0] if record.state == "failed"]
    chosen = []
    for folder in dict.fromkeys(folders):
        cell = located(read_cell(folder), registry)
        chosen.append(CellStatus(cell, folder, *folder_state(folder, cell)))
    return chosen


def forget_divergence(folder: Path) -> None:
    """Make a run that diverged start over; its record is kept as record.before.json."""
    os.replace(folder / "record.json", folder / "record.before.json")
    for path in (folder / "checkpoints").glob("resume*.safetensors"):
        path.unlink()
