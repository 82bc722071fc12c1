"""`fairbench table`: the paper-style tables of a results folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fairbench.cli.options import results_option
from fairbench.core.errors import FairbenchError
from fairbench.records.read import scan

if TYPE_CHECKING:
    from fairbench.metrics.rho import Convention
    from fairbench.plan.cells import Cell
    from fairbench.reporting.table import ErrorKind

FORMATS = ("text", "markdown", "latex", "csv")


@click.command("table", epilog="Example: fairbench table --format latex --datasets cifar10 > table.tex")
@results_option
@click.option("--format", "format", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--methods", metavar="A,B", help="Only these methods.")
@click.option("--datasets", metavar="A,B", help="Only these data sets.")
@click.option("--protocol", metavar="NAME", help="Only this protocol.")
@click.option("--attack", metavar="NAME", help="Only this evaluation attack.")
@click.option("--baseline", default="trades", show_default=True, help="The method that rho compares with.")
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
        methods=None if methods is None else [*methods.split(","), baseline],
        datasets=None if datasets is None else datasets.split(","),
        protocol=protocol,
        attack=attack,
        baseline=baseline,
        error=error,
        convention=convention,
    )


def print_tables(
    results: Path,
    *,
    format: str = "text",
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    protocol: str | None = None,
    attack: str | None = None,
    baseline: str = "trades",
    error: "ErrorKind" = "t95",
    convention: "Convention" = "signed",
    cells: Sequence["Cell"] | None = None,
    order: Sequence[str] = (),
) -> None:
    """Print the tables of the records that fit; with `cells`, of those cells only."""
    from fairbench.reporting.formats import render
    from fairbench.reporting.table import build_tables

    records, problems = scan(results)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
    ids = None if cells is None else {cell.id for cell in cells}
    chosen = [
        record
        for record in records
        if (ids is None or record.id in ids)
        and (methods is None or record.method in methods)
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
