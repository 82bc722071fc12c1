"""`fairbench plan`."""

from pathlib import Path
from typing import Any

import click

from fairbench.cli.options import (
    columns,
    data_option,
    device_option,
    json_option,
    open_registry,
    price_options,
    print_json,
    registry_option,
    results_option,
    select,
    selection_options,
)
from fairbench.cli.plan_summary import Offer, missing_data, summary, unfinished, where
from fairbench.cli.progress import duration
from fairbench.data.manifest import data_root
from fairbench.planning.status import FINISHED, statuses


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

        for entry, seconds in measure_paces(unfinished(planned), registry, results, device):
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
    for missing in missing_data(offer.planned, offer.registry, root):
        click.echo(f"data set {missing} is not prepared: fairbench prepare --datasets {missing}")
