"""`fairbench export`: write a run's model for use elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fairbench.cli.command import Command
from fairbench.cli.options import PATH, count, open_registry, shared
from fairbench.cli.output import echo, print_json
from fairbench.records.results_folder import find_run

if TYPE_CHECKING:
    from fairbench.runner.export import Format


@click.command(
    "export",
    cls=Command,
    epilog="Example: fairbench export trix.cifar10.resnet18.trix-150.seed0 --to robustbench",
)
@click.argument("run", metavar="RUN")
@click.option(
    "--to",
    type=click.Choice(["robustbench", "safetensors"]),
    required=True,
    help="Format: for the package robustbench, or plain safetensors.",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FOLDER",
    help="Folder to write to.  [default: RESULTS/exports/RUN.epoch-N]",
)
@count("--epoch", "Evaluated epoch to export.  [default: the last]")
@shared("results", "registry", "json")
def export_command(
    run: str,
    to: "Format",
    output: Path | None,
    epoch: int | None,
    results: Path,
    registry_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Write a run's weights, a file that builds its network, and its RobustBench JSON.

    RUN is a run's folder, or the beginning of its name. The exported model classifies every test image as
    recorded.
    """
    registry = open_registry(registry_files)
    from fairbench.runner.export import export

    exported = export(find_run(run, results), to, registry, results, output, epoch)
    if as_json:
        print_json(
            {
                **{part: str(getattr(exported, part)) for part in ("weights", "builder", "info")},
                "notes": list(exported.notes),
            }
        )
        return
    for path in (exported.weights, exported.builder, exported.info):
        echo(path)
    for note in exported.notes:
        echo(f"note: {note}", err=True)
