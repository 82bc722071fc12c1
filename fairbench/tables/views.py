"""The tables of a paper from records: one per data set, network, protocol, attack and side."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fairbench.core.errors import RecordError
from fairbench.records.read import Record
from fairbench.records.results_folder import no_collection
from fairbench.tables import by_class, comparison
from fairbench.tables.captions import phrases, title
from fairbench.tables.columns import columns, measure
from fairbench.tables.description import attack_definition, definitions, description
from fairbench.tables.entries import Entry
from fairbench.tables.evidence import run_digests, settings_digest
from fairbench.tables.groups import protocol_version
from fairbench.tables.highlight import marked
from fairbench.tables.inventory import Inventory, TableSpec
from fairbench.tables.notes import notes
from fairbench.tables.request import TableRequest
from fairbench.tables.table import Row, RunDigest, Table


@no_collection()
def build_tables(
    records: Iterable[Record], request: TableRequest | None = None, attack: str | None = None
) -> list[Table]:
    """One table per data set, network, protocol and evaluation attack of the records.

    The baseline's row is first, then the methods in the order of the request, then the others by name. Only
    done records are averaged; the notes name the others. attack: only the attack of that name. Without any
    attack in the records the robust columns stay empty. Raises UnknownNameError for an attack that no record
    was evaluated under.
    """
    request = request or TableRequest()
    specs = Inventory(records, request.baseline, request.order).specs(
        attack, clean_apart=not request.sides_together
    )
    return [build_table(spec, request) for spec in specs]


def rebuild_table(
    records: Sequence[Record], request: TableRequest, settings: str, sides: Sequence[str]
) -> Table:
    """The table that `build_tables` made of these records; attacks evaluated since do not change it.

    settings: the `settings_digest` of its attack. Raises RecordError when the records give no such table.
    """
    inventory = Inventory(records, request.baseline, request.order)
    if len(inventory.settings) != 1:
        raise RecordError("its records are not of one data set, network and protocol.")
    (setting,) = inventory.settings
    for attack in (None, *setting.attacks):
        if (settings_digest(attack), request.sides(attack)) == (settings, tuple(sides)):
            return build_table(inventory.spec(setting, attack), request)
    raise RecordError("no table of its records has its attack and columns.")


def build_table(spec: TableSpec, request: TableRequest) -> Table:
    """The table of one setting and attack. `request` has the baseline and the order of the inventory."""
    first, attack, sides = spec.setting.first, spec.attack, request.sides(spec.attack)
    made_by = (*request.to_json().items(), ("settings", settings_digest(attack)))
    request = request.for_classes(spec.num_classes)
    head, shown = "method", columns(request.names, sides)
    rows: tuple[Row, ...]
    if request.view == "classes":
        head, shown, rows = by_class.rows(spec.entries, sides[0], request.rules)
    elif request.view == "comparison":
        shown, rows = comparison.rows(spec, sides[0])
    else:
        rows = marked(
            [_row(entry, sides, spec.base, request) for entry in spec.entries], shown, request.rules
        )
    evidence = {entry.label: run_digests(entry, attack) for entry in spec.entries}
    if head == "method":  # not where methods are columns
        of_base = evidence[spec.base.label] if request.view == "comparison" and spec.base else ()
        by_label = {entry.label: entry for entry in spec.entries}
        rows = tuple(_described(row, by_label[row.label], evidence[row.label] + of_base) for row in rows)
    return Table(
        dataset=first.dataset,
        model=first.model,
        protocol=first.protocol,
        protocol_version=protocol_version(first),
        attack="" if attack is None else attack.name,
        attack_settings="" if attack is None else attack.settings,
        view=request.view,
        title=title(spec.setting, attack, sides if len(sides) == 1 else ()),
        caption=phrases(spec, request, sides),
        description=description(spec, request, sides),
        definitions=(*attack_definition(attack), *definitions(spec, request)),
        notes=tuple(notes(spec, request, sides)),
        columns=shown,
        rows=rows,
        evidence=tuple(item for items in evidence.values() for item in items),
        error=request.error,
        convention=request.convention,
        head=head,
        request=made_by,
        rules=request.rules,
    )


def _row(entry: Entry, sides: Sequence[str], base: Entry | None, request: TableRequest) -> Row:
    cells = (measure(n).cell(entry, side, base, request.convention) for side in sides for n in request.names)
    return Row(entry.method, entry.label, tuple(cells))


def _described(row: Row, entry: Entry, evidence: tuple[RunDigest, ...]) -> Row:
    """The row with its entry's title, seeds, lowest classes and warnings, and what it was made from."""
    records = [seed.record for seed in entry.seeds.values()]
    return replace(
        row,
        title=entry.title,
        seeds=tuple(entry.seeds),
        worst_class_clean=entry.worst_class_name("clean"),
        worst_class_robust=entry.worst_class_name("robust"),
        warnings=tuple(dict.fromkeys(w for record in records for w in record.warnings)),
        evidence=evidence,
    )
