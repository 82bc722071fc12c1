"""`fairbench prepare`: download and check data sets, once, on a machine with network."""

from pathlib import Path

import click

from fairbench.cli.command import Command
from fairbench.cli.completion import complete_names
from fairbench.cli.options import PATH, open_registry, renamed, shared, value
from fairbench.cli.output import echo, print_json
from fairbench.core.errors import ConfigError
from fairbench.data.manifest import data_root
from fairbench.planning.selection import parse_names


@click.command("prepare", cls=Command, epilog="Example: fairbench prepare cifar10 cifar100 --data /data")
@click.argument("names", metavar="DATASET...", nargs=-1, shell_complete=complete_names("dataset"))
@value("--datasets", "A,B|all", "Data sets to prepare, as one text.")
@renamed(
    "--data",
    "--root",
    "DIR",
    "Folder to write them to.  [default: $FAIRBENCH_DATA or the user's cache]",
    name="root",
)
@value(
    "--source",
    "PATH",
    "Folder with the published files, or their archive, as downloaded; nothing is downloaded.",
    type=PATH,
)
@click.option(
    "--unofficial",
    is_flag=True,
    help="Accept images that differ from the official ones; every table will have a note.",
)
@shared("registry", "json")
def prepare_command(
    names: tuple[str, ...],
    datasets: str | None,
    root: str | None,
    source: Path | None,
    unofficial: bool,
    registry_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Download data sets, check them and store them as plain arrays.

    DATASET is a name, all, a pattern or a tag, as in `fairbench run --datasets`. A data set that cannot be
    prepared does not stop the others.

    `run` never uses the network. Prepare the data on a machine that has one; then copy the folder, or name
    it with FAIRBENCH_DATA.
    """
    from fairbench.runner.prepare import prepare_datasets

    registry, folder = open_registry(registry_files), data_root(root)
    if not names and datasets is None:
        raise ConfigError("no data set is named.", hint="for instance: fairbench prepare cifar10 cifar100")
    text = ",".join((*names, *([] if datasets is None else [datasets])))
    chosen = parse_names("dataset", text, registry, option="prepare")
    entries = [registry.get("dataset", name) for name in chosen]
    prepared = prepare_datasets(entries, folder, source=source, unofficial=unofficial)
    if as_json:
        print_json(
            [{"name": name, **(manifest.to_json() if manifest else {})} for name, manifest in prepared]
        )
        return
    for name, manifest in prepared:
        if manifest is None:
            echo(f"{name}: comes with scikit-learn, nothing to prepare")
            continue
        note = "" if manifest.official else " (not the official images: tables will have a note)"
        echo(f"{name}: {manifest.train_size} + {manifest.test_size} images in {folder / name}{note}")
        echo("".join(f"note: {name}: {line}\n" for line in manifest.notes), nl=False)
