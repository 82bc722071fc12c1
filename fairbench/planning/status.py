"""What is done, what is stale, what is missing: planned cells against the run folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairbench.core.errors import RecordError
from fairbench.records.cell import Cell
from fairbench.records.results_folder import ResultsFolder
from fairbench.records.run_folder import RunFolder
from fairbench.records.status import State, Status


@dataclass(frozen=True)
class CellStatus:
    """A planned cell and the status of its run folder, for the attacks that it asks for."""

    cell: Cell
    folder: Path
    status: Status

    @property
    def state(self) -> State:
        return self.status.state

    @property
    def reason(self) -> str:
        return self.status.reason


def statuses(cells: Sequence[Cell], results: Path) -> list[CellStatus]:
    """The state of each cell in the results folder, in order."""
    by_slot: dict[str, list[RunFolder]] = {}
    for run in ResultsFolder(results).run_folders():
        by_slot.setdefault(run.name.rpartition(".")[0], []).append(run)
    folders = (ResultsFolder(results).run(cell) for cell in cells)
    return [
        CellStatus(cell, run.path, _status(cell, run, by_slot.get(cell.slot, ())))
        for cell, run in zip(cells, folders, strict=True)
    ]


def _status(cell: Cell, run: RunFolder, same_slot: Sequence[RunFolder]) -> Status:
    if run in same_slot:
        return run.status(cell)
    stale = next(filter(None, (stale_reason(cell, other) for other in same_slot)), "")
    return Status("stale", stale) if stale else Status("missing")


def stale_reason(cell: Cell, run: RunFolder) -> str:
    """Why a run of the same slot and overrides is not this cell; "" when it is another experiment."""
    try:
        other = run.read().cell
    except RecordError:
        return ""
    if other.overrides != cell.overrides:
        return ""
    names = dict.fromkeys([*cell.identity, *other.identity])
    parts = [part for part in names if other.identity.get(part) != cell.identity.get(part)]
    return f"{' and '.join(parts)} changed since" if parts else ""
