"""A results folder: its paths, and all its records."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fairbench.core.errors import ConfigError, RecordError, ResultsError
from fairbench.records.cell import Cell
from fairbench.records.read import Record
from fairbench.records.run_folder import Inside, RunFolder

REPLACED = ".replaced"  # ends the name of a run folder that a merge has moved aside


@dataclass(frozen=True)
class Problem:
    """A run folder that could not be read, and why."""

    folder: Path
    message: str

    def __str__(self) -> str:
        return f"{self.folder.name}: {self.message}"


@dataclass(frozen=True)
class ResultsFolder:
    """The folder that --results names."""

    path: Path

    runs = Inside("runs")
    steps_file = Inside("steps.json")  # what `plan --measure` measured
    jobs = Inside("slurm")  # scripts and logs of jobs that were handed to Slurm
    exports = Inside("exports")
    evaluations = Inside("evaluations")  # outcomes of `fairbench evaluate`

    def run(self, cell: Cell) -> RunFolder:
        """The run folder of a cell, which need not exist."""
        return RunFolder(self.runs / cell.folder_name)

    def prepare(self, cell: Cell, *, drop: bool = True) -> RunFolder:
        """The run folder of a cell, made and with its `cell.json`; `drop` as in `RunFolder.list_attacks`.

        Raises ResultsError or SchemaError.
        """
        run = self.run(cell)
        self._restore(replaced_folder(run.path))
        run.prepare(cell, drop=drop)
        return run

    def restore(self) -> None:
        """Put back the runs that a merge had moved aside when it was killed. Raises ResultsError."""
        for aside in sorted(self.runs.glob(f".*{REPLACED}")):
            self._restore(aside)

    def _restore(self, aside: Path) -> None:
        if is_only_copy(aside):
            try:
                os.rename(aside, run_folder_of(aside))
            except FileNotFoundError:  # another process did it
                return
            except OSError as error:
                raise ResultsError(f"cannot rename {aside}: {error.strerror or error}.") from error

    def run_folders(self) -> list[RunFolder]:
        """All run folders by name; none where there is no folder of runs. Raises ResultsError."""
        if not self.runs.is_dir():
            return []
        try:
            with os.scandir(self.runs) as items:
                names = sorted(item.name for item in items if item.is_dir() and not item.name.startswith("."))
        except OSError as error:
            raise ResultsError(
                f"cannot list {self.runs}: {error.strerror or error}.",
                hint="choose another folder with --results DIR",
            ) from error
        return [RunFolder(self.runs / name) for name in names]


def replaced_folder(run: Path) -> Path:
    """Where a merge moves a run folder that it replaces, until the new one is in its place."""
    return run.with_name(f".{run.name}{REPLACED}")


def run_folder_of(aside: Path) -> Path:
    """The run folder that was moved to `aside`."""
    return aside.with_name(aside.name.removeprefix(".").removesuffix(REPLACED))


def is_only_copy(aside: Path) -> bool:
    """Whether a folder is a run that a merge had moved aside when it was killed."""
    return aside.name.endswith(REPLACED) and aside.is_dir() and not os.path.lexists(run_folder_of(aside))


def scan(results: Path) -> tuple[list[Record], list[Problem]]:
    """All records of a results folder in the order of their folder names, and what could not be read.

    A damaged folder never hides the others: it comes back as a `Problem`. No runs are no problem. Raises
    ResultsError when the folder cannot be listed.
    """
    records: list[Record] = []
    problems: list[Problem] = []
    for folder in (results, ResultsFolder(results).runs):
        if folder.exists() and not folder.is_dir():
            raise ResultsError(
                f"{folder} is not a folder.", hint="name the folder of the runs: --results DIR"
            )
    with no_collection():
        for run in ResultsFolder(results).run_folders():
            try:
                records.append(run.read())
            except RecordError as error:
                problems.append(Problem(run.path, error.message))
    return records, problems


@contextmanager
def no_collection() -> Iterator[None]:
    """Disable Python's cyclic garbage collection inside the block: about 25 % faster reads."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def find_run(text: str, results: Path) -> RunFolder:
    """The run folder at the path `text`, or the one in the results folder whose name begins with it.

    Raises ConfigError when there is none or more than one, RecordError when it holds a link or a device.
    """
    if (here := RunFolder(Path(text))).cell_file.is_file():
        here.require_plain()
        return here
    runs = ResultsFolder(results).runs
    all_runs = [run for run in ResultsFolder(results).run_folders() if run.cell_file.is_file()]
    matching = [run for run in all_runs if run.name.startswith(text)]
    exact = [run for run in matching if run.name == text]
    if len(exact or matching) == 1:
        (run,) = exact or matching
        run.require_plain()
        return run
    if matching:
        shown = "\n".join(run.name for run in matching[:8])
        raise ConfigError(
            f"{len(matching)} runs in {runs} begin with {text!r}.", hint=f"write more:\n{shown}"
        )
    raise ConfigError(
        f"there is no run called {text!r} in {runs}.",
        hint="give a run's folder or name; see: fairbench status",
    )
