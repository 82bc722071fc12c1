"""`fairbench plan`: what a run would do."""

from pathlib import Path
from typing import Any

import click

from fairbench.cli.experiment import SelectionCommand
from fairbench.cli.options import open_registry, shared, states_listed
from fairbench.cli.output import duration, echo
from fairbench.cli.plan_summary import show_plan
from fairbench.data.manifest import data_root
from fairbench.planning.plan import unfinished
from fairbench.planning.planner import plan_selection
from fairbench.planning.selection import parse_selection


@click.command(
    "plan", cls=SelectionCommand, epilog="Example: fairbench plan --suite table1 --device cuda --budget 12h"
)
@shared("selection", "results", "data", "registry", "device", "price", "json")
@click.option(
    "--measure", is_flag=True, help="First train a few steps of each entry here, for better time estimates."
)
@states_listed
def plan_command(
    results: Path,
    data: str | None,
    registry_files: tuple[Path, ...],
    device: str,
    devices: int,
    budget: float | None,
    as_json: bool,
    measure: bool,
    **selection: Any,
) -> None:
    """List the cells that `run` would do with the same options: state, time, disk.

    {states}

    Times come from such cells on this kind of device. ~ marks an estimate from other cells, ? a guess.
    """
    registry, root = open_registry(registry_files), data_root(data)
    chosen = parse_selection(registry, **selection)
    price: dict[str, Any] = {"device": device, "devices": devices, "budget": budget}
    plan = plan_selection(chosen, registry, results, root, **price)
    if measure:
        from fairbench.speed.pace import measure_paces

        for entry, seconds in measure_paces(unfinished(plan.planned), registry, results, device):
            echo(f"measured {entry}: {duration(seconds)} per epoch", err=True)
        plan = plan_selection(chosen, registry, results, root, **price)
    show_plan(plan, device, as_json)
