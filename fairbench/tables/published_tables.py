"""The tables of papers from published values, printed by the same code as our own tables."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, get_args

from fairbench.core.errors import ConfigError, UnknownNameError
from fairbench.metrics.rho import BASELINE, rho
from fairbench.tables.columns import SIDES, columns
from fairbench.tables.highlight import marked_as_published
from fairbench.tables.published_results import PublishedResult, published_cell, read_published
from fairbench.tables.table import Column, Row, Table, TableCell

Rule = Literal["printed", "signed", "trix"]
_NAMES = ("average", "worst", "rho")


def published_tables(name: str, rule: Rule = "printed") -> list[Table]:
    """The table "trix:1a" of a source, or all tables of "trix".

    rule: rho as printed, or computed again from the printed means by our signed definition or by the rule of
    the TRIX paper. Raises UnknownNameError for a source or table that does not exist.
    """
    if rule not in get_args(Rule):
        raise ConfigError(f"no rule of rho called {rule!r}.", hint=f"known: {', '.join(get_args(Rule))}")
    source, _, number = name.partition(":")
    by_table: dict[tuple[str, str], list[PublishedResult]] = defaultdict(list)
    for result in read_published(source):
        by_table[result.source, result.table].append(result)
    known = {table for _, table in by_table}
    if number and number not in known:
        raise UnknownNameError("table", number, known, asked_by=f"--published {name}")
    return [_table(results, rule) for (_, table), results in by_table.items() if number in ("", table)]


def _table(results: Sequence[PublishedResult], rule: Rule) -> Table:
    first, shown = results[0], columns(_NAMES, SIDES)
    rows = [
        Row(
            method=result.method,
            label=result.label,
            cells=tuple(_cell(result, column, results, rule) for column in shown),
            source=result.citation,
        )
        for result in results
    ]
    network = first.model or "network not named"
    rho_rules = {
        "printed": "rho is as printed" + (", by the paper's own rule." if first.rule == "trix" else "."),
        "signed": "rho (signed) is computed again from the printed means.",
        "trix": "rho is computed again from the printed means by the rule of the TRIX paper's numbers.",
    }
    sentences = (
        f"Published values, not measured here: {first.citation} "
        f"({first.dataset}, {network}, {first.attack}).",
        "The deviations are as printed.",
        rho_rules[rule],
    )
    return Table(
        dataset=first.dataset,
        model=first.model,
        protocol="published",
        protocol_version="",
        attack=first.attack,
        view="published",
        title=f"published: {first.source}, Table {first.table}",
        caption=sentences,
        description=sentences,
        definitions=(),
        notes=tuple(sorted({result.note for result in results if result.note})),
        columns=shown,
        rows=marked_as_published(rows, shown),
        error="sd",
        convention=rule,
    )


def _cell(
    result: PublishedResult, column: Column, results: Sequence[PublishedResult], rule: Rule
) -> TableCell:
    """The printed value, or rho computed from the printed means of the method and of TRADES."""
    if column.unit != "rho" or rule == "printed":
        return published_cell(result, column)
    keys = (f"{column.group}_average", f"{column.group}_worst")
    base = next((other for other in results if other.method == BASELINE), None)
    if base is None or not all(key in each.values for key in keys for each in (result, base)):
        return TableCell()
    means = [100 * each.values[key][0] for each in (result, base) for key in keys]
    return TableCell(rho(*means, convention=rule))
