"""A plan: cells with their states, what each costs, and which of them fit in a budget."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fairbench.planning.cost import Estimate, device_name, estimate, makespan, read_paces, within
from fairbench.planning.prepared import prepare_command, unprepared
from fairbench.planning.status import CellStatus, statuses
from fairbench.planning.training_images import check_images, has_single_image, single_image_notes
from fairbench.records.cell import Cell
from fairbench.registry import Registry
from fairbench.registry.components import is_component


@dataclass(frozen=True)
class Shorter:
    """Options that make a plan shorter, and its time with them."""

    options: str
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    `planned`: every cell with its state, in running order. `notes`: what was added to the selection.
    `devices`: how many are assumed for times; `budget`: seconds on all of them. `costs`: by cell id.
    `left_out`: ids of the cells that do not fit in the budget. `missing_data`: data sets that unfinished
    cells need and that are not prepared; `prepare`: the command that prepares them. `device`: "cpu" or the
    name of the GPU. `skipped`: data sets that `all` or a pattern chose and that are not prepared. `shorter`:
    what is quicker, for a long plan.
    """

    planned: tuple[CellStatus, ...]
    notes: tuple[str, ...]
    results: Path
    devices: int
    budget: float | None
    costs: dict[str, Estimate]
    left_out: frozenset[str]
    missing_data: tuple[str, ...]
    prepare: str
    device: str
    skipped: tuple[str, ...] = ()
    shorter: Shorter | None = None

    @cached_property
    def to_do(self) -> tuple[CellStatus, ...]:
        """The unfinished cells that fit in the budget."""
        return tuple(item for item in unfinished(self.planned) if item.cell.id not in self.left_out)

    @cached_property
    def doubtful(self) -> list[Cell]:
        """The unfinished cells that only their code can check: options set by hand, a single image."""
        cells = {item.cell.entry: item.cell for item in unfinished(self.planned)}.values()
        return [cell for cell in cells if has_own_options(cell) or has_single_image(cell)]

    @property
    def seconds(self) -> float:
        """The time of all that is to be done; 0.0 when nothing is."""
        costs = [self.costs[item.cell.id].seconds for item in self.to_do]
        return makespan(costs, self.devices) if costs else 0.0

    @property
    def guessed(self) -> bool:
        """Whether a cell's time rests on no measurement at all."""
        costs = (self.costs[item.cell.id] for item in self.to_do)
        return not all(cost.measured or cost.scaled for cost in costs)

    @property
    def disk_bytes(self) -> float:
        """Disk space that the work needs: what stays, and the states of the cells at work."""
        costs = [self.costs[item.cell.id] for item in self.to_do]
        at_work = sorted((cost.work_bytes for cost in costs), reverse=True)[: self.devices]
        return sum(cost.kept_bytes for cost in costs) + sum(at_work)

    @property
    def free_bytes(self) -> float:
        """Free disk space where the results folder is, or will be."""
        place = next(path for path in (self.results, *self.results.absolute().parents) if path.exists())
        return shutil.disk_usage(place).free

    @property
    def states(self) -> Counter[str]:
        """How many cells are in which state."""
        return Counter(item.state for item in self.planned)

    @property
    def left_methods(self) -> Counter[str]:
        """How many cells of each method do not fit in the budget."""
        return Counter(item.cell.method for item in self.planned if item.cell.id in self.left_out)


def make_plan(
    cells: Sequence[Cell],
    registry: Registry,
    results: Path,
    data_root: Path,
    *,
    notes: Sequence[str] = (),
    device: str = "auto",
    devices: int = 1,
    budget: float | None = None,
) -> Plan:
    """The plan of these cells in a results folder, for `devices` devices of the kind of --device.

    Raises ConfigError for unfinished cells that their images make impossible.
    """
    planned = tuple(statuses(cells, results))
    entries = list({item.cell.entry: item.cell for item in unfinished(planned)}.values())
    check_images(entries)
    name = device_name(device)
    paces = read_paces(results, registry, name)
    by_entry = {(cell.entry, cell.preparation): cell for cell in cells}  # the seed changes no cost
    by_entry_costs = {
        key: estimate(cell, registry, paces, cuda=name != "cpu") for key, cell in by_entry.items()
    }
    costs = {cell.id: by_entry_costs[cell.entry, cell.preparation] for cell in cells}
    to_do = [item.cell for item in unfinished(planned)]
    left = [] if budget is None else within(to_do, costs, budget, devices)[1]
    missing = unprepared((cell.dataset for cell in to_do), registry, data_root)
    return Plan(
        planned=planned,
        notes=(*notes, *single_image_notes(entries)),
        results=results,
        devices=devices,
        budget=budget,
        costs=costs,
        left_out=frozenset(cell.id for cell in left),
        missing_data=missing,
        prepare=prepare_command(missing, registry, data_root) if missing else "",
        device=name,
    )


def has_own_options(cell: Cell) -> bool:
    """Whether the user set options of the method."""
    return any(not path.startswith("protocol.") and not is_component(path) for path in cell.overrides)


def unfinished(planned: Sequence[CellStatus]) -> list[CellStatus]:
    """The cells that a run would work on."""
    return [item for item in planned if not item.status.finished]
