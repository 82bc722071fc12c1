"""`fairbench run`: train, attack and tabulate."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairbench.cli.experiment import SelectionCommand
from fairbench.cli.options import EXECUTOR_OPTIONS, open_registry, shared
from fairbench.cli.output import echo, print_json
from fairbench.cli.plan_summary import advice, ending, show_plan, status_row, sums
from fairbench.cli.progress import exit_with, work_through
from fairbench.cli.streams import reader_may_end
from fairbench.data.manifest import data_root
from fairbench.planning.planner import plan_selection
from fairbench.planning.prepared import require_prepared
from fairbench.planning.selection import parse_selection
from fairbench.planning.status import statuses
from fairbench.records.results_folder import ResultsFolder

if TYPE_CHECKING:
    from fairbench.records.cell import Cell
    from fairbench.registry import Registry


@click.command("run", cls=SelectionCommand)
@shared("selection", "results", "data", "registry", "device", "executor", "price", "json")
@click.option("--dry-run", is_flag=True, help="Only print what would be done, as `plan` does.")
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
    """Train, attack and print the tables. Run the same command again to continue.

    \b
    Examples
      The quickstart, one or two minutes:
        fairbench run
      Table 1 of the TRIX paper:
        fairbench run --suite table1
      Your own selection:
        fairbench run --methods trix,dafa --datasets cifar10 --seeds 0..4
      An experiment with the options in a file:
        fairbench run experiment.yaml
      Other values of a method's option:
        fairbench run --methods trix --set methods.trix.strength=0.5,1,2
      On a cluster:
        fairbench run --executor slurm --profile cluster.yaml
    """
    from fairbench.core.files import make_folder
    from fairbench.runner.executors.choose import prepare_job

    how = {name: chosen.pop(name) for name in EXECUTOR_OPTIONS}
    registry, root = open_registry(registry_files), data_root(data)
    price: dict[str, Any] = {"device": device, "devices": devices, "budget": budget}
    plan = plan_selection(parse_selection(registry, **chosen), registry, results, root, **price)
    if dry_run:
        show_plan(plan, device, as_json)
        return
    require_prepared(plan.missing_data, registry, root)
    job = prepare_job(plan.to_do, results, registry, device, **how)
    make_folder(ResultsFolder(results).runs)
    job.update_attacks(plan.planned)
    for line in (*advice(plan), *(f"note: {note}" for note in plan.notes), *sums(plan)):
        echo(line, err=True)
    states = {item.cell.id: item.state for item in plan.planned} | work_through(job, plan.costs)
    cells = [item.cell for item in plan.planned]
    with reader_may_end():
        show_results(cells, results, registry, as_json)
    for line in ending(plan):
        echo(line, err=True)
    exit_with(states)


def show_results(cells: "Sequence[Cell]", results: Path, registry: "Registry", as_json: bool) -> None:
    """Print the tables of the cells, or their states as JSON."""
    if as_json:
        print_json([status_row(item) for item in statuses(cells, results)])
        return
    from fairbench.cli.table import print_tables
    from fairbench.tables.request import TableRequest

    request = TableRequest(order=tuple(registry.names("method")))
    print_tables(results, request, ids={cell.id for cell in cells}, explained="pointer")
