"""Run a plan in this process, one cell after the other."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.core.errors import ClaimedError, EnvironmentFault, FairbenchError, ResultsError
from fairbench.core.files import read_sealed
from fairbench.plan.cells import Cell
from fairbench.plan.status import CellStatus, folder_state
from fairbench.runner.folders import prepare_folder

if TYPE_CHECKING:
    from fairbench.runner.worker import Listener


def execute(
    planned: Sequence[CellStatus],
    results: Path,
    listener: "Listener",
    *,
    device: str,
    started: Callable[[Cell], None],
    ended: Callable[[Cell, str, str], None],
) -> dict[str, str]:
    """Work through the cells that are not finished; the state of each by id.

    `started(cell)` and `ended(cell, state, reason)` are told of each. A failed cell leaves the
    others alone; a cell that another process works on is "running" and left to it. Raises ConfigError, before
    anything runs, when a method refuses its options.
    """
    from fairbench.runner.parts import check_options
    from fairbench.runner.worker import run_cell

    for item in planned:
        check_options(item.cell)
    states = {}
    for item in planned:
        cell = item.cell
        started(cell)
        try:
            folder = prepare_folder(cell, results)
            state = run_cell(folder, listener, device)
            reason = str(read_sealed(folder / "record.json").get("reason") or "")
            if state == "failed" and folder_state(folder, cell)[0] == "done":
                state = "done"  # what failed was an attack that an earlier run asked for
        except ClaimedError as error:
            state, reason = "running", error.message
        except (EnvironmentFault, ResultsError):
            raise  # the next cell would meet the same
        except FairbenchError as error:
            state, reason = "failed", str(error)
        states[cell.id] = state
        ended(cell, state, reason)
    return states
