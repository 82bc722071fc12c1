"""The run folder of a cell, made before anybody works on it."""

from pathlib import Path
from typing import Any

from fairbench.core.files import make_folder, write_json
from fairbench.plan.cells import Cell, read_cell
from fairbench.plan.status import RUNS


def prepare_folder(cell: Cell, results: Path) -> Path:
    """The cell's run folder, with `cell.json` in it; attacks asked for earlier stay asked for."""
    folder = make_folder(results / RUNS / cell.folder_name)
    path = folder / "cell.json"
    data: dict[str, Any] = cell.to_json()
    if path.exists():
        before = read_cell(folder)
        known = {item["id"] for item in before.evaluation}
        added = [item for item in cell.evaluation if item["id"] not in known]
        data["evaluation"] = [*before.evaluation, *added]
        data["preparation"] = before.preparation and cell.preparation  # a row of a table stays one
        if data == before.to_json():
            return folder
    write_json(path, data)
    return folder
