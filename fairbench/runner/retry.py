"""Runs that are to be tried again."""

from collections.abc import Sequence
from pathlib import Path

from fairbench.core.errors import ConfigError
from fairbench.planning.code_locations import located
from fairbench.planning.status import CellStatus
from fairbench.records.results_folder import ResultsFolder, find_run
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
        folders += [run for run in ResultsFolder(results).run_folders() if run.recorded().state == "failed"]
    return [
        CellStatus(located(run.read_cell(), registry), run.path, run.recorded())
        for run in dict.fromkeys(folders)
    ]
