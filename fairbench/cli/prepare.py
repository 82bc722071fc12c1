"""`fairbench prepare`: download and check data sets, once, on a machine with network."""

from pathlib import Path

import click

from fairbench.cli.options import PATH, open_registry, shared, value
from fairbench.data.manifest import data_root
from fairbench.planning.selection import parse_names


@click.command("prepare", epilog="Example: fairbench prepare --datasets cifar10,cifar100 --root /data")
@value("--datasets", "A,B|all", "Data sets to prepare.", required=True)
@value("--root", "DIR", "Folder to write them to.  [default: $FAIRBENCH_DATA or the user's cache]")
@value(
    "--source",
    "PATH",
    "Folder with the published files, or their archive, as downloaded; nothing is downloaded.",
    type=PATH,
)
@click.option(
    "--unofficial",
    is_flag=True,
    help="Accept images that differ from the official ones; every table says so.",
)
@shared("registry")
def prepare_command(
    datasets: str, root: str | None, source: Path | None, unofficial: bool, registry_files: tuple[Path, ...]
) -> None:
    """Download data sets, check them and store them as plain arrays.

    `run` never uses the network. Prepare the data on a machine that has one; then copy the folder, or name
    it with FAIRBENCH_DATA.
    """
    from fairbench.runner.prepare import prepare_dataset

    registry, folder = open_registry(registry_files), data_root(root)
    for name in parse_names("dataset", datasets, registry, option="--datasets"):
        entry = registry.get("dataset", name)
        manifest = prepare_dataset(entry, folder, source=source, unofficial=unofficial)
        if manifest is None:
            click.echo(f"{name}: comes with scikit-learn, nothing to prepare")
            continue
        note = "" if manifest.official else " (not the official images: tables will say so)"
        click.echo(f"{name}: {manifest.train_size} + {manifest.test_size} images in {folder / name}{note}")
        click.echo("".join(f"note: {name}: {line}\n" for line in manifest.notes), nl=False)
