"""`fairbench table`: the paper-style tables of a results folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from fairbench.cli.options import results_option
from fairbench.core.errors import ConfigError, FairbenchError, UnknownNameError
from fairbench.records.read import Record
from fairbench.records.results_folder import scan

if TYPE_CHECKING:
    from fairbench.metrics.rho import Convention
    from fairbench.records.cell import Cell
    from fairbench.tables.request import TableRequest
    from fairbench.tables.table import ErrorKind

FORMATS = ("text", "markdown", "latex", "csv", "html")
VIEWS = ("main", "fairness", "classes", "comparison")
BASELINE = "trades"


@click.command("table", epilog="Example: fairbench table --format latex --datasets cifar10 > table.tex")
@results_option
@click.option("--format", "format", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option(
    "--view",
    type=click.Choice(VIEWS),
    default="main",
    show_default=True,
    help="main: average, worst, rho; fairness: tail, limits, gap; classes: every class; "
    "comparison: against the baseline, paired.",
)
@click.option(
    "--columns",
    metavar="A,B",
    help="Columns of main or fairness, for instance average,balanced,worst,worst-20,gap,rho.",
)
@click.option("--methods", metavar="A,B", help="Only these methods.")
@click.option("--datasets", metavar="A,B", help="Only these data sets.")
@click.option("--protocol", metavar="NAME", help="Only this protocol.")
@click.option("--attack", metavar="NAME", help="Only this evaluation attack.")
@click.option("--baseline", default=BASELINE, show_default=True, help="The method that rho compares with.")
@click.option(
    "--error",
    type=click.Choice(["t95", "sd"]),
    default="t95",
    show_default=True,
    help="What ± is: half-width of the 95 % t interval over seeds, or their standard deviation.",
)
@click.option(
    "--rho",
    "convention",
    type=click.Choice(["signed", "trix", "printed"]),
    help="Definition of rho; trix only for comparing with that paper's printed columns.  "
    "[default: signed; printed with --published]",
)
@click.option(
    "--claims",
    metavar="NAMES|FILE",
    help="Show published values beside ours: trix, dafa, trix-2026, all, or a .csv of your own.",
)
@click.option(
    "--published", metavar="NAME[:TABLE]", help="Print a paper's own table instead, for instance trix:1a."
)
def table_command(
    results: Path,
    format: str,
    view: str,
    columns: str | None,
    methods: str | None,
    datasets: str | None,
    protocol: str | None,
    attack: str | None,
    baseline: str,
    error: "ErrorKind",
    convention: str | None,
    claims: str | None,
    published: str | None,
) -> None:
    """Print average and worst-class accuracy, clean and robust, and the fairness score rho, over seeds."""
    if published is not None:
        print_published(published, convention, format)
        return
    if convention == "printed":
        raise ConfigError(
            "--rho printed is for --published.", hint="ours is computed: --rho signed, or --rho trix"
        )
    from fairbench.tables.request import TableRequest

    request = TableRequest(
        view=view,
        columns=tuple(split_names(columns, "--columns") or ()),
        baseline=baseline,
        error=error,
        convention=cast("Convention", convention or "signed"),
    )
    print_tables(
        results,
        request,
        format=format,
        methods=split_names(methods, "--methods"),
        datasets=split_names(datasets, "--datasets"),
        protocol=protocol,
        attack=attack,
        claims=claims,
    )


def print_published(asked: str, convention: str | None, format: str) -> None:
    """Print the tables of a paper as they were published."""
    from fairbench.tables.formats import render
    from fairbench.tables.published_tables import Rule, published_tables

    tables = published_tables(asked, cast(Rule, convention or "printed"))
    click.echo(render(tables, format), nl=False)


def split_names(text: str | None, option: str) -> list[str] | None:
    """The names in "trix, dafa"; None for all. Raises ConfigError when there are none."""
    if text is None:
        return None
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise ConfigError(f"{option} is empty.", hint="give names, or leave the option out for all")
    return names


def print_tables(
    results: Path,
    request: "TableRequest",
    *,
    format: str = "text",
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    protocol: str | None = None,
    attack: str | None = None,
    claims: str | None = None,
    cells: Sequence["Cell"] | None = None,
) -> None:
    """Print the tables of the records that fit, and the baseline's; with `cells`, of those cells only.

    Raises UnknownNameError for a name that no record has.
    """
    from fairbench.tables.formats import render
    from fairbench.tables.published_results import read_published, with_published
    from fairbench.tables.views import build_tables

    published = None if claims is None else read_published(claims)
    chosen, any_record = choose(
        results,
        methods,
        datasets,
        protocol,
        request.baseline,
        None if cells is None else [c.id for c in cells],
    )
    tables = build_tables(chosen, request, attack)
    if claims is not None and published is not None:
        tables = [with_published(table, published, claims) for table in tables]
    if not tables:
        raise FairbenchError(
            f"no runs to tabulate in {results}" + (" fit the options." if any_record else "."),
            hint="see: fairbench status; start with: fairbench run",
        )
    click.echo(render(tables, format), nl=False)


def choose(
    results: Path,
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    protocol: str | None = None,
    baseline: str = BASELINE,
    ids: Sequence[str] | None = None,
) -> tuple[list[Record], bool]:
    """The records of a results folder that fit, with the baseline's, and whether there was any at all.

    Damaged runs are named on standard error. Raises UnknownNameError for a name that no record has.
    """
    records, problems = scan(results)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
    records = [record for record in records if not record.preparation]
    if ids is not None:
        records = [record for record in records if record.id in ids]
    if records:
        check_names("method", "--methods", methods, records)
        check_names("dataset", "--datasets", datasets, records)
        check_names("protocol", "--protocol", None if protocol is None else [protocol], records)
        check_names("method", "--baseline", [baseline] if baseline != BASELINE else None, records)
    chosen = [
        record
        for record in records
        if (methods is None or record.method in (*methods, baseline))
        and (datasets is None or record.dataset in datasets)
        and protocol in (None, record.protocol)
    ]
    return chosen, bool(records)


def check_names(kind: str, option: str, names: Sequence[str] | None, records: Sequence[Record]) -> None:
    """Nothing, or UnknownNameError for a name of `option` that no record has as its `kind`."""
    known = {getattr(record, kind) for record in records}
    for name in names or ():
        if name not in known:
            raise UnknownNameError(kind, name, known, asked_by=f"{option} {','.join(names or ())}")
