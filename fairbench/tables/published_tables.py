"""The tables of papers, rebuilt from published values by the code that makes ours."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, get_args

from fairbench.core.errors import ConfigError, UnknownNameError
from fairbench.metrics.rho import rho
from fairbench.tables.columns import SIDES, columns
from fairbench.tables.highlight import marked
from fairbench.tables.published_results import PublishedResult, read_claims
from fairbench.tables.table import Column, Row, Table, TableCell

Rule = Literal["printed", "signed", "trix"]
_NAMES = ("average", "worst", "rho")


def published_tables(asked: str, rule: Rule = "printed") -> list[Table]:
    """The tables "trix:1a" of a source, or all of "trix".

    rule: rho as printed, or recomputed from the printed means by our signed definition or the TRIX paper's
    rule. Raises UnknownNameError for a source or table that does not exist.
    """
    if rule not in get_args(Rule):
        raise ConfigError(f"no rule of rho called {rule!r}.", hint=f"known: {', '.join(get_args(Rule))}")
    source, _, number = asked.partition(":")
    by_table: dict[str, list[PublishedResult]] = defaultdict(list)
    for claim in read_claims(source):
        by_table[claim.place].append(claim)
    if number:
        known = [place.partition(" ")[2] for place in by_table]
        if number not in known:
            raise UnknownNameError("table", number, known, asked_by=f"--published {asked}")
        by_table = defaultdict(list, {f"{source} {number}": by_table[f"{source} {number}"]})
    return [_table(claims, rule) for claims in by_table.values()]


def _table(claims: Sequence[PublishedResult], rule: Rule) -> Table:
    first, shown = claims[0], columns(_NAMES, SIDES)
    rows = [
        Row(
            method=claim.method,
            label=claim.label,
            cells=tuple(_cell(claim, column, claims, rule) for column in shown),
            source=f"{claim.where}, Table {claim.table}",
        )
        for claim in claims
    ]
    told = {
        "printed": "rho is as printed" + (", by the paper's own rule." if first.rule == "trix" else "."),
        "signed": "rho (signed) is recomputed from the printed means.",
        "trix": "rho is recomputed from the printed means by the rule of the TRIX paper's numbers.",
    }
    network = first.model or "network not named"
    notes = sorted({claim.note for claim in claims if claim.note})
    return Table(
        dataset=first.dataset,
        model=first.model,
        protocol="published",
        protocol_version="",
        attack=first.attack,
        view="published",
        title=f"published: {first.source}, Table {first.table}",
        caption=f"Published values, not measured here: {first.where}, Table {first.table} ({first.dataset}, "
        f"{network}, {first.attack}). The deviations are as printed. {told[rule]}",
        notes=tuple(notes),
        columns=shown,
        rows=marked(rows, shown),
        error="sd",
        convention=rule,
    )


def _cell(claim: PublishedResult, column: Column, claims: Sequence[PublishedResult], rule: Rule) -> TableCell:
    if column.unit == "rho" and rule != "printed":
        side = column.group
        base = next((other for other in claims if other.method == "trades"), None)
        keys = (f"{side}_average", f"{side}_worst")
        if base is None or not all(key in c.values for key in keys for c in (claim, base)):
            return TableCell()
        means = [100 * c.values[key][0] for c in (claim, base) for key in keys]
        return TableCell(rho(*means, convention=rule))
    if column.key not in claim.values:
        return TableCell()
    value, sd = claim.values[column.key]
    return TableCell(value, sd=sd)
