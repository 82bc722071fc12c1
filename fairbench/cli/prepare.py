"""`fairbench prepare`: fetch and check data sets, once, on a machine with network."""

from pathlib import Path

import click

from fairbench.cli.options import open_registry, registry_option
from fairbench.data.manifest import data_root
from fairbench.planning.selection import parse_names


@click.command(
    "prepare",
    epilog="Example: fairbench prepare --datasets cifar10,cifar100 --root /data/fairbench",
)
@click.option("--datasets", required=True, metavar="A,B|all", help="Which data sets.")
@click.option("--root", metavar="DIR", help="Data folder.  [default: $FAIRBENCH_DATA or the user's cache]")
@click.option(
    "--source", type=click.Path(path_type=Path), metavar="DIR", help="Published files that are here already."
)
@click.option(
    "--unofficial", is_flag=True, help="Accept other images than the official ones, and mark every table."
)
@registry_option
def prepare_command(
    datasets: str, root: str | None, source: Path | None, unofficial: bool, registry_files: tuple[Path, ...]
) -> None:
    """Fetch data sets, check them and store them as plain arrays.

    `run` never touches the network: prepare on a machine that has one, and copy the folder or name it
    with FAIRBENCH_DATA.
    """
    from fairbench.data.prepare import prepare

    registry = open_registry(registry_files)
    folder = data_root(root)
    for name in parse_names("dataset", datasets, registry, option="--datasets"):
        entry = registry.get("dataset", name)
        if entry.reader == "digits":
            click.echo(f"{name}: comes with scikit-learn, nothing to prepare")
            continue
        manifest = prepare(
            name,
            reader=entry.reader,
            image_shape=entry.image_shape,
            num_classes=entry.num_classes,
            classes=entry.classes,
            expected_digest=entry.digest,
            source=source or (Path(entry.path) if entry.path else None),
            root=folder,
            download=source is None,
            unofficial=unofficial,
        )
        note = "" if manifest.official else " (not the official images: tables will say so)"
        click.echo(f"{name}: {manifest.train_size} + {manifest.test_size} images in {folder / name}{note}")
