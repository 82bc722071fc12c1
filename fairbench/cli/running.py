"""`fairbench plan`, `run` and `cell`."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from fairbench.cli.execution import end, work_through
from fairbench.cli.options import (
    EXECUTOR_OPTIONS,
    columns,
    data_option,
    device_option,
    executor_options,
    json_option,
    open_registry,
    price_options,
    print_json,
    registry_option,
    results_option,
    select,
    selection_options,
)
from fairbench.cli.plan_summary import Offer, summary, where
from fairbench.cli.progress import duration, progress
from fairbench.data.manifest import data_root, read_manifest, require_manifest
from fairbench.planning.status import FINISHED, RUNS, CellStatus, statuses
from fairbench.registry import Registry


@click.command("plan")
@selection_options
@results_option
@data_option
@registry_option
@device_option
@price_options
@json_option
@click.option("--measure", is_flag=True, help="Train some steps of each entry here first: better estimates.")
def plan_command(
    results: Path,
    data: str | None,
    registry_files: tuple[Path, ...],
    device: str,
    devices: int,
    budget: float | None,
    as_json: bool,
    measure: bool,
    **chosen: Any,
) -> None:
    """Show the cells that `run` with the same options would do, their state, time and place on disk.

    \b
    States: done, running, partial (continues), stale (code, data or protocol changed
    since), missing, failed (tried again), diverged (not tried again).
    Times are those of cells alike on this kind of device; ~ is reckoned from others, ? a guess.
    """
    registry = open_registry(registry_files)
    cells, notes = select(registry, data_root(data), chosen)
    planned = statuses(cells, results)
    if measure:
        from fairbench.speed.pace import measure_paces

        for entry, seconds in measure_paces(_unfinished(planned), registry, results, device):
            click.echo(f"measured {entry}: {duration(seconds)} an epoch", err=True)
    show_plan(Offer.of(planned, registry, results, device, devices, budget), notes, data_root(data), as_json)


def show_plan(offer: Offer, notes: list[str], root: Path, as_json: bool) -> None:
    """Print the cells, their state and price."""
    if as_json:
        print_json(
            [
                {
                    **summary(item),
                    "estimated_seconds": round(offer.costs[item.cell.id].seconds, 1),
                    "measured": offer.costs[item.cell.id].measured,
                    "estimated_bytes": round(offer.costs[item.cell.id].kept_bytes),
                    "in_budget": item.cell.id not in offer.left_out,
                }
                for item in offer.planned
            ]
        )
        return
    for note in notes:
        click.echo(f"note: {note}")
    rows = []
    for item in offer.planned:
        time = "" if item.state in FINISHED else offer.time_of(item.cell)
        reason = "left: over the budget" if item.cell.id in offer.left_out else item.reason
        rows.append((*where(item.cell), item.state, time, reason))
    click.echo(columns(rows, ("method", "data set", "model", "protocol", "seed", "state", "time", "")))
    click.echo(f"\n{offer.counts()}; {offer.total()}")
    for line in offer.remarks():
        click.echo(line)
    for missing in _missing_data(offer.planned, offer.registry, root):
        click.echo(f"data set {missing} is not prepared: fairbench prepare --datasets {missing}")


@click.command("run")
@selection_options
@results_option
@data_option
@registry_option
@device_option
@executor_options
@price_options
@json_option
@click.option("--dry-run", is_flag=True, help="Show what would be done and its price, as `plan` does.")
def run_command(
    results: Path,
    data: str | None,
    registry_files: tuple[Path, ...],
    device: str,
    devices: int,
    budget: float | None,
    as_json: bool,
    dry_run: bool,
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
      fairbench run --suite table1 --executor slurm --profile cluster.yaml
    """
    from fairbench.core.files import make_folder

    how = {name: chosen.pop(name) for name in EXECUTOR_OPTIONS}
    registry = open_registry(registry_files)
    root = data_root(data)
    cells, notes = select(registry, root, chosen)
    planned = statuses(cells, results)
    offer = Offer.of(planned, registry, results, device, devices, budget)
    if dry_run:
        show_plan(offer, notes, root, as_json)
        return
    for missing in _missing_data(planned, registry, root):
        require_manifest(root, missing)
    make_folder(results / RUNS)
    for line in (
        *(f"note: {note}" for note in notes),
        f"{offer.counts()}; {offer.total()}",
        *offer.remarks(),
    ):
        click.echo(line, err=True)
    unfinished = [item for item in _unfinished(planned) if item.cell.id not in offer.left_out]
    states = {item.cell.id: item.state for item in planned} | work_through(
        unfinished, results, registry, device, how
    )
    if as_json:
        print_json([summary(item) for item in statuses(cells, results)])
    else:
        from fairbench.cli.tables import print_tables
        from fairbench.tables.views import TableRequest

        print_tables(results, TableRequest(order=tuple(registry.names("method"))), cells=cells)
    end(states)


@click.command("cell")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FOLDER...")
@device_option
@registry_option
@click.option("--wait", is_flag=True, help="Wait for whoever works on a cell, and take over from the dead.")
@click.option("--until-eof", is_flag=True, help="Stop when standard input ends.")
def cell_command(
    folders: tuple[Path, ...], device: str, registry_files: tuple[Path, ...], wait: bool, until_eof: bool
) -> None:
    """Start the cell in a run FOLDER, resume it, or do nothing when it is done; several one after the other.

    This is the command that any scheduler has to start. Code is looked up in the registry, never where a
    folder says. SIGTERM and SIGUSR1 save the state of the training
    and end it with exit code 75: start the same command again.
    """
    from fairbench.core.files import read_sealed
    from fairbench.planning.cells import read_cell
    from fairbench.runner.lease_wait import stop_at_eof, with_patience
    from fairbench.runner.worker import run_cell

    if until_eof:
        stop_at_eof()
    registry = open_registry(registry_files)
    cells = [(folder, read_cell(folder)) for folder in folders]
    states = []
    with progress(len(cells)) as shown:
        for folder, cell in cells:
            shown.started(cell)
            state = with_patience(folder, wait, partial(run_cell, folder, shown, registry, device))
            shown.ended(cell, state, str(read_sealed(folder / "record.json").get("reason") or ""))
            states.append(state)
    sys.exit(0 if set(states) == {"done"} else 1)


def _unfinished(planned: list[CellStatus]) -> list[CellStatus]:
    return [item for item in planned if item.state not in FINISHED]


def _missing_data(planned: list[CellStatus], registry: Registry, root: Path) -> list[str]:
    return [
        name
        for name in dict.fromkeys(item.cell.dataset for item in _unfinished(planned))
        if registry.get("dataset", name).reader != "digits" and read_manifest(root, name) is None
    ]
