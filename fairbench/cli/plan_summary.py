"""A plan with its price: what each cell takes, all of them on some devices, and what a budget pays for."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairbench.cli.progress import duration
from fairbench.data.manifest import read_manifest
from fairbench.planning.cells import Cell
from fairbench.planning.cost import Estimate, device_name, estimate, makespan, read_paces, within
from fairbench.planning.status import FINISHED, CellStatus
from fairbench.registry import Registry


@dataclass(frozen=True)
class Offer:
    """`costs` by cell id; `left_out`: ids of the cells that `budget` seconds on `devices` do not pay for."""

    planned: list[CellStatus]
    registry: Registry
    results: Path
    device: str
    devices: int
    budget: float | None
    costs: dict[str, Estimate]
    left_out: frozenset[str]

    @classmethod
    def of(
        cls,
        planned: list[CellStatus],
        registry: Registry,
        results: Path,
        device: str,
        devices: int,
        budget: float | None,
    ) -> "Offer":
        """The offer for a plan on `devices` devices of the kind of --device."""
        name = device_name(device)
        paces = read_paces(results, registry, name)
        found: dict[tuple[str, bool], Estimate] = {}  # the seed changes no price
        for item in planned:
            alike = item.cell.entry, item.cell.preparation
            if alike not in found:
                found[alike] = estimate(item.cell, registry, paces, cuda=name != "cpu")
        costs = {item.cell.id: found[item.cell.entry, item.cell.preparation] for item in planned}
        left: list[Cell] = []
        if budget is not None:
            unfinished = [item.cell for item in planned if item.state not in FINISHED]
            _, left = within(unfinished, costs, budget, devices)
        chosen = frozenset(cell.id for cell in left)
        return cls(planned, registry, results, name, devices, budget, costs, chosen)

    @property
    def to_do(self) -> list[Cell]:
        """The unfinished cells that are within the budget."""
        unfinished = (item.cell for item in self.planned if item.state not in FINISHED)
        return [cell for cell in unfinished if cell.id not in self.left_out]

    def time_of(self, cell: Cell) -> str:
        """A cell's time, with how it is known."""
        cost = self.costs[cell.id]
        return ("" if cost.measured else "~" if cost.scaled else "?") + duration(cost.seconds)

    def counts(self) -> str:
        """How many cells are in which state."""
        counts = Counter(item.state for item in self.planned)
        return f"{len(self.planned)} cells: " + ", ".join(
            f"{count} {state}" for state, count in sorted(counts.items())
        )

    def total(self) -> str:
        """The time of all that is to be done."""
        costs = [self.costs[cell.id] for cell in self.to_do]
        if not costs:
            return "nothing to do"
        guess = (
            ""
            if all(c.measured or c.scaled for c in costs)
            else " (a guess until something alike has run here)"
        )
        where = "one device" if self.devices == 1 else f"{self.devices} devices"
        seconds = makespan([cost.seconds for cost in costs], self.devices)
        return f"about {duration(seconds)} on {where}{guess}"

    def remarks(self) -> list[str]:
        """What else is to be known: the budget, and the disk when it matters."""
        found, to_do = [], self.to_do
        if self.budget is not None:
            unfinished = len(to_do) + len(self.left_out)
            found.append(f"budget {duration(self.budget)}: {len(to_do)} of {unfinished} cells fit")
            left = Counter(item.cell.method for item in self.planned if item.cell.id in self.left_out)
            if left:
                found.append("left: " + ", ".join(f"{count} x {method}" for method, count in left.items()))
        costs = [self.costs[cell.id] for cell in to_do]
        if costs:
            need = sum(cost.kept_bytes for cost in costs)
            need += sum(sorted((cost.work_bytes for cost in costs), reverse=True)[: self.devices])
            place = next(path for path in (self.results, *self.results.absolute().parents) if path.exists())
            free = shutil.disk_usage(place).free
            found.append(f"disk: about {as_size(need)}, of {as_size(free)} free")
            if need > free:
                found.append("warning: that is more than there is; see: fairbench clean, or --results DIR")
        return found


def where(cell: Cell) -> tuple[str, str, str, str, str]:
    """Method with its settings, data set, network, protocol and seed, as the terminal has them."""
    label = ", ".join(
        f"{key}={value}" for key, value in cell.overrides.items() if not key.startswith("protocol.")
    )
    return (
        f"{cell.method} ({label})" if label else cell.method,
        cell.dataset,
        cell.model,
        cell.protocol,
        str(cell.seed),
    )


def summary(item: CellStatus) -> dict[str, Any]:
    """What --json prints of a cell."""
    cell = item.cell
    return {
        "id": cell.id,
        "folder": str(item.folder),
        "method": cell.method,
        "dataset": cell.dataset,
        "model": cell.model,
        "protocol": cell.protocol,
        "seed": cell.seed,
        "overrides": cell.overrides,
        "state": item.state,
        "reason": item.reason,
    }


def as_size(count: float) -> str:
    """Bytes as people read them: 512 B, 3.4 MB, 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def unfinished(planned: list[CellStatus]) -> list[CellStatus]:
    """The cells that a run would work on."""
    return [item for item in planned if item.state not in FINISHED]


def missing_data(planned: list[CellStatus], registry: Registry, root: Path) -> list[str]:
    """The data sets that unfinished cells need and that are not prepared."""
    return [
        name
        for name in dict.fromkeys(item.cell.dataset for item in unfinished(planned))
        if registry.get("dataset", name).reader != "digits" and read_manifest(root, name) is None
    ]
