"""The run folder of a cell, made before anybody works on it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairbench.core.errors import RecordError, SchemaError
from fairbench.core.files import make_folder, write_sealed
from fairbench.planning.cells import Cell, read_cell
from fairbench.planning.status import RUNS
from fairbench.registry.protocol import TIERS

logger = logging.getLogger(__name__)


def prepare_folder(cell: Cell, results: Path) -> Path:
    """The cell's run folder, with `cell.json` in it; attacks asked for earlier stay asked for."""
    folder = make_folder(results / RUNS / cell.folder_name)
    path = folder / "cell.json"
    data: dict[str, Any] = cell.to_json()
    if path.exists():
        try:
            before = read_cell(folder)
        except SchemaError:
            raise
        except RecordError as error:  # all of it is known, but for attacks that only it named
            logger.warning("%s It is set aside and written anew.", error.message)
            path.replace(path.with_name(f"{path.name}.damaged"))
        else:
            data["evaluation"] = _union(before.evaluation, cell.evaluation)
            data["preparation"] = before.preparation and cell.preparation  # a row of a table stays one
            if data == before.to_json():
                return folder
    write_sealed(path, data)
    return folder


def _union(before: Sequence[dict[str, Any]], asked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The attacks of both; one in both is for the more checkpoints of the two."""
    found = {item["id"]: item for item in before}
    for item in asked:
        both = (found.get(item["id"], item), item)
        found[item["id"]] = max(both, key=lambda each: TIERS.index(each.get("at", "selected")))
    return list(found.values())
