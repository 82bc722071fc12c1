"""`fairbench figure`: the figures of a paper from a results folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from fairbench.cli.options import device_option, open_registry, registry_option, results_option
from fairbench.cli.table import BASELINE, choose, split_names
from fairbench.core.errors import ConfigError, FairbenchError
from fairbench.figures.kinds import FEATURES, KINDS

if TYPE_CHECKING:
    from fairbench.figures.figure import Figure, FigureOptions
    from fairbench.figures.style import Width
    from fairbench.metrics.projection import Projection
    from fairbench.records.read import Record

WITH_BASELINE = ("forest",)  # kinds that mean nothing without it
SIDELESS = ("eps", "weights", "success", FEATURES)  # kinds that are of no single side
HELP = (
    "Draw a figure with its data (.csv) and its caption (.txt) beside it.\n\n\b\nKIND is one of\n"
    + "\n".join(f"  {name:<11}{line}" for name, line in KINDS.items())
    + "\n\nSeveral data sets, networks, protocols or attacks give several files, whose names say which."
)


@click.command(
    "figure", help=HELP, epilog="Example: fairbench figure classes --datasets cifar10 -o classes.pdf"
)
@click.argument("kind", metavar="KIND", type=click.Choice(list(KINDS)))
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A .pdf, .svg or .png, or a folder.  [default: KIND.pdf]",
)
@results_option
@click.option("--methods", metavar="A,B", help="Only these methods, in this order.")
@click.option("--datasets", metavar="A,B", help="Only these data sets.")
@click.option("--protocol", metavar="NAME", help="Only this protocol.")
@click.option("--attack", metavar="NAME", help="Only this evaluation attack.")
@click.option("--side", type=click.Choice(["clean", "robust"]), help="Only without, or only under attack.")
@click.option("--baseline", default=BASELINE, show_default=True, help="The method that forest compares with.")
@click.option("--classes", metavar="A,B", help="The two classes of features.  [default: cat,horse]")
@click.option(
    "--width",
    type=click.Choice(["one", "two"]),
    help="Columns of a two-column paper that the figure spans.  [default: the kind's own]",
)
@registry_option
@device_option
def figure_command(
    kind: str,
    output: Path | None,
    results: Path,
    methods: str | None,
    datasets: str | None,
    protocol: str | None,
    attack: str | None,
    side: str | None,
    baseline: str,
    classes: str | None,
    width: str | None,
    registry_files: tuple[Path, ...],
    device: str,
) -> None:
    """Draw the figures of a kind from the records that fit, and print where they are and what they say."""
    from fairbench.figures.figure import FigureOptions, chosen_path, save_all

    path = chosen_path(kind, output)
    if classes is not None and kind != FEATURES:
        raise ConfigError(f"--classes is for {FEATURES}; {kind} shows all classes.")
    if side is not None and kind in SIDELESS:
        raise ConfigError(f"--side {side}: {kind} is of no single side.", hint="leave --side out")
    names = split_names(methods, "--methods")
    records, any_record = choose(results, names, split_names(datasets, "--datasets"), protocol, baseline)
    if names is not None and kind not in WITH_BASELINE:
        records = [record for record in records if record.method in names]
    if not records:
        raise FairbenchError(
            f"no runs to draw in {results}" + (" fit the options." if any_record else "."),
            hint="see: fairbench status; start with: fairbench run",
        )
    options = FigureOptions(side, attack, baseline, tuple(names or ()), cast("Width | None", width))
    figures = draw(kind, records, options, split_names(classes, "--classes") or (), registry_files, device)
    for figure, files in save_all(figures, path):
        click.echo(", ".join(str(file) for file in files))
        click.echo(figure.caption + "\n")


def draw(
    kind: str,
    records: "Sequence[Record]",
    options: "FigureOptions",
    classes: Sequence[str],
    registry_files: tuple[Path, ...],
    device: str,
) -> "list[Figure]":
    """The figures of a kind; features are computed by `runner.features`, which reads the weights."""
    if kind != FEATURES:
        from fairbench.figures.kinds import build_figures

        return build_figures(kind, records, options)
    from fairbench.figures.features import features_figures
    from fairbench.runner.features import project

    registry = open_registry(registry_files)

    def projected(record: "Record", pair: Sequence[int], attack: str, id: str) -> "Projection":
        return project(record, registry, pair, attack, id, device)

    return features_figures(records, options, projected, classes)
