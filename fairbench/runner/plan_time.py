"""The time that all cells of a job still take, from those that are done or at work."""

import time
from collections.abc import Callable, Mapping

from fairbench.records.cell import Cell


class PlanTime:
    """Estimates the time left from the `costs` of cells, in seconds by id, compared with what was measured.

    Cells of unknown cost count as the mean of the others. Each worker takes the next cell when it is free.
    """

    def __init__(
        self, cells: list[Cell], costs: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        usual = sum(costs.values()) / len(costs) if costs else 1.0
        self.costs = {cell.id: max(costs.get(cell.id, usual), 1e-3) for cell in cells}
        self.clock = clock
        self.waiting = list(self.costs)
        self.starts: dict[str, float] = {}  # of cells at work
        self.lefts: dict[str, tuple[float, float]] = {}  # of cells at work: seconds, and when that was so
        self.totals: dict[str, float] = {}  # of cells that are done
        self.workers = 1

    def started(self, cell: Cell) -> None:
        """Work on a cell begins."""
        if cell.id in self.waiting:
            self.waiting.remove(cell.id)
        self.starts.setdefault(cell.id, self.clock())
        self.workers = max(self.workers, len(self.starts))

    def ended(self, cell: Cell, *, worked: bool = True) -> None:
        """Work on a cell is over; not `worked`: another process has it."""
        began = self.starts.pop(cell.id, None)
        self.lefts.pop(cell.id, None)
        if cell.id in self.waiting:
            self.waiting.remove(cell.id)
        if began is not None and worked:
            self.totals[cell.id] = self.clock() - began

    def cell_left(self, cell_id: str, seconds: float) -> None:
        """A cell at work takes so long still."""
        self.lefts[cell_id] = (seconds, self.clock())

    def left(self) -> float | None:
        """Seconds until the last cell is done; None as long as nothing is measured."""
        now = self.clock()
        running = {id: max(0.0, left - (now - at)) for id, (left, at) in self.lefts.items()}
        totals = self.totals | {
            id: now - self.starts[id] + left for id, left in running.items() if id in self.starts
        }
        if not totals:
            return None
        scale = sum(totals.values()) / sum(self.costs.get(id, 1.0) for id in totals)
        loads = [
            running.get(id, max(0.0, self.costs.get(id, 1.0) * scale - (now - began)))
            for id, began in self.starts.items()
        ]
        loads += [0.0] * (self.workers - len(loads))
        for id in self.waiting:
            loads[loads.index(min(loads))] += self.costs[id] * scale
        return max(loads)
