"""`fairbench plan`, `run` and `cell`."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from fairbench.cli.options import (
    columns,
    data_option,
    device_option,
    json_option,
    open_registry,
    print_json,
    registry_option,
    results_option,
    select,
    selection_options,
)
from fairbench.cli.progress import Several, duration, progress
from fairbench.data.manifest import data_root, read_manifest, require_manifest
from fairbench.plan.cells import Cell
from fairbench.plan.cost import Estimate, estimate, measured_epochs
from fairbench.plan.status import FINISHED, RUNS, CellStatus, statuses
from fairbench.registry import Registry


@click.command("plan")
@selection_options
@results_option
@data_option
@registry_option
@device_option
@json_option
def plan_command(
    results: Path,
    data: str | None,
    registry_files: tuple[Path, ...],
    device: str,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Show the cells that `run` with the same options would do, their state and estimated time.

    \b
    States: done, running, partial (continues), stale (code, data or protocol changed
    since), missing, failed (tried again), diverged (not tried again).
    """
    registry = open_registry(registry_files)
    cells, notes = select(registry, data_root(data), chosen)
    show_plan(statuses(cells, results), notes, registry, data_root(data), results, device, as_json)


def show_plan(
    planned: list[CellStatus],
    notes: list[str],
    registry: Registry,
    root: Path,
    results: Path,
    device: str,
    as_json: bool,
) -> None:
    """Print the cells, their state and price."""
    costs = _costs(planned, registry, results, device)
    if as_json:
        print_json(
            [
                {
                    **_summary(item),
                    "estimated_seconds": round(costs[item.cell.id].seconds, 1),
                    "measured": costs[item.cell.id].measured,
                }
                for item in planned
            ]
        )
        return
    for note in notes:
        click.echo(f"note: {note}")
    rows = []
    for item in planned:
        cost = costs[item.cell.id]
        time = "" if item.state in FINISHED else ("" if cost.measured else "~") + duration(cost.seconds)
        rows.append((*_where(item.cell), item.state, time, item.reason))
    click.echo(columns(rows, ("method", "data set", "model", "protocol", "seed", "state", "time", "")))
    click.echo(f"\n{_counts(planned)}; {_remaining(planned, costs)}")
    for missing in _missing_data(planned, registry, root):
        click.echo(f"data set {missing} is not prepared: fairbench prepare --datasets {missing}")


@click.command("run")
@selection_options
@results_option
@data_option
@registry_option
@device_option
@json_option
@click.option(
    "--pack",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Cells at a time on the one device, each in a process of its own.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done and its price, as `plan` does.")
def run_command(
    results: Path,
    data: str | None,
    registry_files: tuple[Path, ...],
    device: str,
    as_json: bool,
    dry_run: bool,
    pack: int,
    **chosen: Any,
) -> None:
    """Train, attack and tabulate. The same command again continues where it stopped.

    \b
    Examples:
      fairbench run                                       the quickstart, a minute or two
      fairbench run --suite table1                        Table 1 of the TRIX paper
      fairbench run --methods trix,dafa --datasets cifar10 --models resnet18 --seeds 0..4 \\
                    --protocol trix-150 --device cuda
      fairbench run --methods trix --set methods.trix.strength=1.5
    """
    from fairbench.core.files import make_folder
    from fairbench.runner.inline import execute
    from fairbench.runner.packed import execute_packed

    registry = open_registry(registry_files)
    root = data_root(data)
    cells, notes = select(registry, root, chosen)
    planned = statuses(cells, results)
    if dry_run:
        show_plan(planned, notes, registry, root, results, device, as_json)
        return
    for missing in _missing_data(planned, registry, root):
        require_manifest(root, missing)
    make_folder(results / RUNS)
    unfinished = [item for item in planned if item.state not in FINISHED]
    costs = _costs(planned, registry, results, device)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    at_a_time = f", {pack} at a time" if pack > 1 else ""
    click.echo(f"{_counts(planned)}; {_remaining(planned, costs)}{at_a_time}", err=True)
    states = {item.cell.id: item.state for item in planned}
    if unfinished and pack > 1:
        told = Several(len(unfinished))
        states |= execute_packed(
            unfinished, results, pack, device=device, started=told.started, ended=told.ended
        )
    elif unfinished:
        with progress(len(unfinished)) as shown:
            states |= execute(
                unfinished, results, shown, device=device, started=shown.started, ended=shown.ended
            )
    if as_json:
        print_json([_summary(item) for item in statuses(cells, results)])
    else:
        from fairbench.cli.tables import print_tables
        from fairbench.reporting.views import Request

        print_tables(results, Request(order=tuple(registry.names("method"))), cells=cells)
    counts = Counter(states.values())
    if counts["running"]:
        click.echo(
            f"{counts['running']} cells are being worked on by another process; see: fairbench status",
            err=True,
        )
    sys.exit(1 if counts["failed"] or counts["diverged"] else 0)


@click.command("cell")
@click.argument("folder", type=click.Path(path_type=Path))
@device_option
def cell_command(folder: Path, device: str) -> None:
    """Start the cell in a run FOLDER, resume it, or do nothing when it is done.

    This is the command that any scheduler has to start; `run` starts the same work in its own process.
    """
    from fairbench.core.files import read_sealed
    from fairbench.plan.cells import read_cell
    from fairbench.runner.worker import run_cell

    cell = read_cell(folder)
    with progress(1) as shown:
        shown.started(cell)
        state = run_cell(folder, shown, device)
        shown.ended(cell, state, str(read_sealed(folder / "record.json").get("reason") or ""))
    sys.exit(0 if state == "done" else 1)


def _where(cell: Cell) -> tuple[str, str, str, str, str]:
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


def _summary(item: CellStatus) -> dict[str, Any]:
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


def _costs(planned: list[CellStatus], registry: Registry, results: Path, device: str) -> dict[str, Estimate]:
    runs = results / RUNS
    measured = measured_epochs(runs.iterdir()) if runs.is_dir() else {}
    found: dict[tuple[str, bool], Estimate] = {}  # the seed changes no price
    for item in planned:
        alike = item.cell.entry, item.cell.preparation
        if alike not in found:
            found[alike] = estimate(item.cell, registry, measured, cuda=device == "cuda")
    return {item.cell.id: found[item.cell.entry, item.cell.preparation] for item in planned}


def _counts(planned: list[CellStatus]) -> str:
    counts = Counter(item.state for item in planned)
    return f"{len(planned)} cells: " + ", ".join(
        f"{count} {state}" for state, count in sorted(counts.items())
    )


def _remaining(planned: list[CellStatus], costs: dict[str, Estimate]) -> str:
    left = [costs[item.cell.id] for item in planned if item.state not in FINISHED]
    if not left:
        return "nothing to do"
    guess = "" if all(cost.measured for cost in left) else " (a guess until something alike has run here)"
    return f"about {duration(sum(cost.seconds for cost in left))} on one device{guess}"


def _missing_data(planned: list[CellStatus], registry: Registry, root: Path) -> list[str]:
    needed = dict.fromkeys(item.cell.dataset for item in planned if item.state not in FINISHED)
    return [
        name
        for name in needed
        if registry.get("dataset", name).reader != "digits" and read_manifest(root, name) is None
    ]
