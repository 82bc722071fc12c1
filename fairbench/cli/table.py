"""`fairbench table`: print tables of the results."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairbench.cli.command import Command
from fairbench.cli.options import read_records, shared, split_names, value
from fairbench.cli.output import echo, painter

if TYPE_CHECKING:
    from fairbench.metrics.rho import Convention
    from fairbench.tables.formats.text import Legend
    from fairbench.tables.published_tables import Rule
    from fairbench.tables.request import TableRequest
    from fairbench.tables.table import ErrorKind, Table

JSON = "json"
FORMATS = ("text", "markdown", "latex", "csv", "html")
VIEWS = ("main", "fairness", "classes", "comparison")


@click.command(
    "table",
    cls=Command,
    epilog="Example: fairbench table --format latex --datasets cifar10 > table.tex",
)
@shared("results")
@click.option("--format", "format", type=click.Choice(FORMATS), default="text", help="Format to print.")
@click.option(
    "--view",
    type=click.Choice(VIEWS),
    default="main",
    help="main: average, worst class, rho; fairness: lowest classes, limits, gap; classes: every class; "
    "comparison: paired differences to the baseline.",
)
@value(
    "--columns",
    "A,B",
    "Columns of the view main or fairness, for example average,balanced,worst,worst-20,gap,rho.",
)
@shared("record")
@click.option(
    "--error",
    type=click.Choice(["t95", "sd"]),
    default="t95",
    help="Meaning of ±: half-width of the 95 % t interval over seeds, or their standard deviation.",
)
@click.option(
    "--rho",
    "convention",
    type=click.Choice(["signed", "trix", "printed"]),
    help="Definition of rho; use trix only to compare with the numbers in the TRIX paper.  "
    "[default: signed; printed with --published]",
)
@click.option(
    "--caption",
    type=click.Choice(["short", "full"]),
    default="short",
    help="short: three lines, and a legend after the last table; full: everything in each caption.",
)
@shared("claims", "json")
@value("--published", "NAME[:TABLE]", "Print a paper's own tables instead, for example trix:1a.")
def table_command(
    results: Path,
    format: str,
    view: str,
    columns: str | None,
    error: "ErrorKind",
    convention: "Convention | None",
    claims: str | None,
    published: str | None,
    baseline: str,
    caption: str,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Print average and worst-class accuracy, clean and robust, and the fairness score rho, over seeds.

    rho adds the relative changes of the worst class and of the average against the baseline.
    """
    if as_json:
        format = JSON
    if published is not None:
        print_published(published, convention, format, full_captions=caption == "full")
        return
    from fairbench.tables.request import TableRequest

    request = TableRequest(
        view=view,
        columns=tuple(split_names(columns, "--columns") or ()),
        baseline=baseline,
        error=error,
        convention=convention or "signed",
    )
    full = caption == "full"
    print_tables(results, request, format=format, claims=claims, full_captions=full, **chosen)


def print_published(name: str, rule: "Rule | None", format: str, *, full_captions: bool = False) -> None:
    """Print the tables of a paper as they were published."""
    from fairbench.tables.published_tables import published_tables

    tables = published_tables(name, rule or "printed")
    echo_tables(tables, format, full_captions=full_captions)


def print_tables(
    results: Path,
    request: "TableRequest",
    *,
    format: str = "text",
    attack: str | None = None,
    claims: str | None = None,
    full_captions: bool = False,
    explained: "Legend" = "sentences",
    **chosen: Any,
) -> None:
    """Print the tables of the records that `chosen` describes, as in `read_records`, with the baseline's."""
    from fairbench.tables.published_results import read_published, with_published
    from fairbench.tables.views import build_tables

    published = None if claims is None else read_published(claims)
    records, _ = read_records(results, baseline=request.baseline, **chosen)
    tables = build_tables(records, request, attack)
    if claims is not None and published is not None:
        tables = [with_published(table, published, claims) for table in tables]
    echo_tables(tables, format, full_captions=full_captions, explained=explained)


def echo_tables(
    tables: "Sequence[Table]", format: str, *, full_captions: bool, explained: "Legend" = "sentences"
) -> None:
    """Print the tables; as text in the width and the colours of the terminal, in 80 columns elsewhere."""
    from fairbench.tables.formats import render, text

    if format != "text" or not tables:
        echo(render(tables, format, full_captions=full_captions), nl=False)
        return
    width, paint = shutil.get_terminal_size(fallback=(80, 24)).columns, painter()
    printed = text.document(
        tables, full_captions=full_captions, width=width, paint=paint, explained=explained
    )
    echo(printed, nl=False, painted=True)
