"""`fairbench table`: the paper-style tables of a results folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fairbench.cli.options import results_option
from fairbench.core.errors import ConfigError, FairbenchError, UnknownNameError
from fairbench.records.read import Record, scan

if TYPE_CHECKING:
    from fairbench.metrics.rho import Convention
    from fairbench.plan.cells import Cell
    from fairbench.reporting.table import ErrorKind

FORMATS = ("text", "markdown", "latex", "csv")
BASELINE = "trades"


@click.command("table", epilog="Example: fairbench table --format latex --datasets cifar10 > table.tex")
@results_option
@click.option("--format", "format", type=click.Choice(FORMATS), default="text", show_default=True)
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
    type=click.Choice(["signed", "trix"]),
    default="signed",
    show_default=True,
    help="Definition of rho; trix only for comparing with that paper's printed columns.",
)
def table_command(
    results: Path,
    format: str,
    methods: str | None,
    datasets: str | None,
    protocol: str | None,
    attack: str | None,
    baseline: str,
    error: "ErrorKind",
    convention: "Convention",
) -> None:
    """Print average and worst-class accuracy, clean and robust, and the fairness score rho, over seeds."""
    print_tables(
        results,
        format=format,
        methods=split_names(methods, "--methods"),
        datasets=split_names(datasets, "--datasets"),
        protocol=protocol,
        attack=attack,
        baseline=baseline,
        error=error,
        convention=convention,
    )


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
    *,
    format: str = "text",
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    protocol: str | None = None,
    attack: str | None = None,
    baseline: str = BASELINE,
    error: "ErrorKind" = "t95",
    convention: "Convention" = "signed",
    cells: Sequence["Cell"] | None = None,
    order: Sequence[str] = (),
) -> None:
    """Print the tables of the records that fit, and the baseline's; with `cells`, of those cells only.

    Raises UnknownNameError for a name that no record has.
    """
    from fairbench.reporting.formats import render
    from fairbench.reporting.table import build_tables

    records, problems = scan(results)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
    records = [record for record in records if not record.preparation]
    if cells is not None:
        ids = {cell.id for cell in cells}
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
    tables = build_tables(
        chosen, attack=attack, baseline=baseline, order=order, error=error, convention=convention
    )
    if not tables:
        raise FairbenchError(
            f"no runs to tabulate in {results}" + (" fit the options." if records else "."),
            hint="see: fairbench status; start with: fairbench run",
        )
    click.echo(render(tables, format), nl=False)


def check_names(kind: str, option: str, names: Sequence[str] | None, records: Sequence[Record]) -> None:
    """Nothing, or UnknownNameError for a name of `option` that no record has as its `kind`."""
    known = {getattr(record, kind) for record in records}
    for name in names or ():
        if name not in known:
            raise UnknownNameError(kind, name, known, asked_by=f"{option} {','.join(names or ())}")
