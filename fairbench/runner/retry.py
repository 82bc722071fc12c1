"""Runs that are to be tried again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fairbench.core.errors import ConfigError
from fairbench.planning.code_locations import located
from fairbench.planning.status import CellStatus
from fairbench.records.results_folder import ResultsFolder, find_run
from fairbench.records.run_folder import RunFolder
from fairbench.registry import Registry


def runs_to_retry(
    runs: Sequence[str], results: Path, registry: Registry, *, failed: bool = False
) -> tuple[list[CellStatus], list[CellStatus]]:
    """The runs of these names or folders, with `failed` also all that failed: those to do, and those done.

    Raises ConfigError when nothing is named and when a name fits no run.
    """
    if not runs and not failed:
        raise ConfigError("nothing to retry.", hint="name runs (see: fairbench status), or add --failed")
    folders = [find_run(run, results) for run in runs]
    if failed:
        folders += [run for run in ResultsFolder(results).run_folders() if run.recorded().state == "failed"]
    chosen = [
        CellStatus(located(run.read_cell(), registry), run.path, run.recorded())
        for run in dict.fromkeys(folders)
    ]
    done = [item for item in chosen if item.state == "done"]
    return [item for item in chosen if item.state != "done"], done


def begin_anew(runs: Sequence[CellStatus]) -> None:
    """Let the runs that diverged start over. Raises LeaseHeldError for one that a process works on."""
    for item in runs:
        if item.state == "diverged":
            run = RunFolder(item.folder)
            with run.lease():
                run.begin_anew()


def as_recorded(runs: Sequence[CellStatus]) -> list[CellStatus]:
    """The runs with the states that their folders have now."""
    return [replace(item, status=RunFolder(item.folder).recorded()) for item in runs]
