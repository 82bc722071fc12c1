"""`fairbench run`."""

from pathlib import Path
from typing import Any

import click

from fairbench.cli.execution import end, work_through
from fairbench.cli.options import (
    EXECUTOR_OPTIONS,
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
from fairbench.cli.plan import show_plan
from fairbench.cli.plan_summary import Offer, missing_data, summary, unfinished
from fairbench.data.manifest import data_root, require_manifest
from fairbench.planning.status import RUNS, statuses


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
    for missing in missing_data(planned, registry, root):
        require_manifest(root, missing)
    make_folder(results / RUNS)
    for line in (
        *(f"note: {note}" for note in notes),
        f"{offer.counts()}; {offer.total()}",
        *offer.remarks(),
    ):
        click.echo(line, err=True)
    to_do = [item for item in unfinished(planned) if item.cell.id not in offer.left_out]
    states = {item.cell.id: item.state for item in planned} | work_through(
        to_do, results, registry, device, how
    )
    if as_json:
        print_json([summary(item) for item in statuses(cells, results)])
    else:
        from fairbench.cli.table import print_tables
        from fairbench.tables.request import TableRequest

        print_tables(results, TableRequest(order=tuple(registry.names("method"))), cells=cells)
    end(states)
