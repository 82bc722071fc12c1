"""What is done, what is stale, what is missing: read from the run folders alone."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairbench.core.errors import RecordError, SchemaError
from fairbench.core.files import read_sealed
from fairbench.core.lease import live_owner
from fairbench.planning.cells import Cell, epochs_of, read_cell
from fairbench.records.checks import checked_record

RUNS = "runs"
FINISHED = frozenset({"done", "diverged"})  # the same cell would end the same way again


@dataclass(frozen=True)
class CellStatus:
    """`state`: done, running, partial (started, or attacks missing), failed, diverged, stale or missing."""

    cell: Cell
    folder: Path
    state: str
    reason: str = ""


def statuses(cells: Sequence[Cell], results: Path) -> list[CellStatus]:
    """The state of each cell in the results folder, in order."""
    folders: dict[str, list[str]] = {}
    runs = results / RUNS
    if runs.is_dir():
        for name in sorted(os.listdir(runs)):
            folders.setdefault(name.rpartition(".")[0], []).append(name)
    return [cell_status(cell, runs, folders.get(cell.slot, [])) for cell in cells]


def cell_status(cell: Cell, runs: Path, same_slot: Sequence[str]) -> CellStatus:
    folder = runs / cell.folder_name
    if cell.folder_name in same_slot:
        owner = live_owner(folder / "claim")
        if owner is not None:
            return CellStatus(cell, folder, "running", f"process {owner.get('pid')} on {owner.get('host')}")
        try:
            read_cell(folder)
        except RecordError as error:
            return CellStatus(cell, folder, "failed", error.message)
        return CellStatus(cell, folder, *folder_state(folder, cell))
    for name in same_slot:
        why = stale_reason(cell, runs / name)
        if why:
            return CellStatus(cell, folder, "stale", why)
    return CellStatus(cell, folder, "missing")


def folder_state(folder: Path, cell: Cell) -> tuple[str, str]:
    """State and reason of a run folder that nobody works on, against the attacks that `cell` asks for."""
    path = folder / "record.json"
    if not path.exists():
        return "partial", "interrupted"
    try:
        record = checked_record(path, {"id": cell.id, "entry": cell.entry})
        state, reason = str(record["state"]), str(record.get("reason") or "")
        evaluations = record.get("evaluations") or ()
        evaluated = {(item.get("id"), item["epoch"]) for item in evaluations}
        selected = record["epochs_evaluated"] if state == "done" else ()
        kept = record.get("epochs_kept", selected)
        absent = [
            each["file"] for each in record.get("evaluations") or () if not (folder / each["file"]).exists()
        ]
        lacking = [
            item["name"]
            for item in cell.evaluation
            if not evaluated.issuperset((item["id"], epoch) for epoch in epochs_of(item, selected, kept))
        ]
    except SchemaError as error:
        return "failed", error.message
    except (RecordError, KeyError, TypeError, OSError, ValueError) as error:
        return "failed", f"damaged record: {error}"
    if state == "done" and absent:
        return "partial", f"{absent[0]} is gone"
    if state == "done" and lacking:
        return "partial", f"not yet evaluated: {', '.join(lacking)}"
    return state, reason


def stale_reason(cell: Cell, folder: Path) -> str:
    """Why a folder of the same slot and overrides is not this cell; "" when it is another experiment."""
    try:
        other = read_sealed(folder / "cell.json")
        if other["overrides"] != cell.overrides:
            return ""
        names = dict.fromkeys([*cell.identity, *other["identity"]])
        parts = [part for part in names if other["identity"].get(part) != cell.identity.get(part)]
    except (RecordError, KeyError, TypeError):
        return ""
    return f"{' and '.join(parts)} changed since" if parts else ""
