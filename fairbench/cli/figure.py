"""`fairbench figure`: draw figures of the results."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairbench.cli.command import Command
from fairbench.cli.options import PATH, open_registry, read_records, shared, split_names, value
from fairbench.cli.output import echo, print_json
from fairbench.figures.kinds import FEATURES, KINDS, draw_figures

if TYPE_CHECKING:
    from fairbench.figures.style import Width

HELP = (
    "Draw figures; the data (.csv) and the caption (.txt) are written beside each.\n\n\b\nKIND is one of\n"
    + "\n".join(f"  {name:<11}{line}" for name, line in KINDS.items())
    + "\n\nResults of several data sets, networks, protocols or attacks give several files; they are named "
    "after these. Methods are drawn in the order of --methods."
)


@click.command(
    "figure",
    cls=Command,
    help=HELP,
    epilog="Example: fairbench figure classes --datasets cifar10 -o classes.pdf",
)
@click.argument("kind", metavar="KIND", type=click.Choice(list(KINDS)))
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=PATH,
    help="A .pdf, .svg or .png file, or a folder.  [default: KIND.pdf]",
)
@shared("results", "record")
@click.option(
    "--side", type=click.Choice(["clean", "robust"]), help="Show only clean or only robust accuracy."
)
@value("--classes", "A,B", "The two classes of the kind features.  [default: cat,horse]")
@click.option(
    "--width",
    type=click.Choice(["one", "two"]),
    help="Width in columns of a two-column paper.  [default: depends on KIND]",
)
@shared("registry", "device", "json")
def figure_command(
    kind: str,
    output: Path | None,
    results: Path,
    methods: str | None,
    attack: str | None,
    baseline: str,
    side: str | None,
    classes: str | None,
    width: "Width | None",
    registry_files: tuple[Path, ...],
    device: str,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Draw the figures of a kind; print where they are, and their captions."""
    from fairbench.figures.figure import FigureOptions, chosen_path, save_all
    from fairbench.tables.record_choice import names_in

    path = chosen_path(kind, output)
    pair = split_names(classes, "--classes") or ()
    records, _ = read_records(results, methods=methods, baseline=baseline, **chosen)
    known = (record.method for record in records)
    order = () if methods is None else names_in(known, "method", methods, "--methods")
    options = FigureOptions(side, attack, baseline, order, width)
    registry = open_registry(registry_files) if kind == FEATURES else None
    figures = draw_figures(kind, records, options, classes=pair, registry=registry, device=device)
    saved = save_all(figures, path)
    if as_json:
        print_json([{"files": [str(f) for f in files], "caption": each.caption} for each, files in saved])
        return
    for figure, files in saved:
        echo(", ".join(str(file) for file in files))
        echo(figure.caption + "\n")
