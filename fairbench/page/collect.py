"""What the page shows: a section for each setting, the runs behind each number, methods and commands."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fairbench.page.methods import MethodFacts, method_facts
from fairbench.page.reproduce import commands
from fairbench.page.runs import RunHistory, read_run
from fairbench.records.deduplicate import distinct
from fairbench.records.read import Problem, Record
from fairbench.registry import Registry
from fairbench.tables.entries import Entry, SideCache, make_entries
from fairbench.tables.groups import AttackKey, Setting, attacks_in, setting_of
from fairbench.tables.published_results import PublishedResult, with_claims
from fairbench.tables.table import Table
from fairbench.tables.views import TableRequest, baseline_of, build_tables

LEADERBOARD = ("average", "worst", "floor", "gap", "rho")


@dataclass(frozen=True)
class Use:
    """One run as a row uses it: of which seed, and at which checkpoints."""

    seed: int
    run: str
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Sheet:
    """A table, and by the label of each row the runs that it was made from. base: whose runs rho uses too."""

    table: Table
    uses: Mapping[str, tuple[Use, ...]]
    base: str = ""


@dataclass(frozen=True)
class Section:
    """A setting under one attack: the leaderboard, further measures, and every class, clean then robust."""

    number: int
    board: Sheet
    more: tuple[Sheet, ...]
    classes: tuple[Sheet, ...]

    @property
    def side(self) -> str:
        """The side that the question of fairness is about."""
        return "robust" if self.board.table.attack else "clean"


@dataclass(frozen=True)
class PageContent:
    """Everything on the page, in its order. Records of the same content give the same page."""

    sections: tuple[Section, ...]
    runs: tuple[RunHistory, ...]
    methods: tuple[MethodFacts, ...]
    commands: tuple[str, ...]
    problems: tuple[str, ...] = ()
    results: str = "results"  # as the user wrote it
    made_with: str = "fairbench report"
    file: str = "report.html"


def collect(
    records: Iterable[Record],
    registry: Registry,
    *,
    baseline: str = "trades",
    attack: str | None = None,
    claims: Sequence[PublishedResult] | None = None,
    asked_claims: str = "",
    problems: Sequence[Problem] = (),
    results: str = "results",
    registry_files: Sequence[str] = (),
    made_with: str = "fairbench report",
    file: str = "report.html",
) -> PageContent:
    """The report of the records. Raises UnknownNameError for an attack that none was evaluated under."""
    found = list(records)
    kept = distinct(found)[0]
    runs = tuple(read_run(record) for record in kept)
    sections = _sections(found, baseline, attack)
    if claims is not None:
        sections = [
            replace(s, board=replace(s.board, table=with_claims(s.board.table, claims, asked_claims)))
            for s in sections
        ]
    by_method: dict[str, list[RunHistory]] = defaultdict(list)
    for run in runs:
        by_method[run.record.method].append(run)
    names = sorted(by_method, key=lambda name: (name != baseline, name))
    return PageContent(
        tuple(sections),
        runs,
        tuple(method_facts(name, by_method[name], registry) for name in names),
        tuple(commands([run.record for run in runs], results, registry_files)),
        tuple(str(problem) for problem in problems),
        results,
        made_with,
        file,
    )


Place = tuple[Setting, AttackKey | None]


def _sections(records: Sequence[Record], baseline: str, attack: str | None) -> list[Section]:
    rows = EntryCache()
    main = _sheets(records, TableRequest(columns=LEADERBOARD, baseline=baseline), rows, attack)
    views = {
        view: dict(_sheets(records, TableRequest(view=view, baseline=baseline), rows))
        for view in ("fairness", "comparison", "classes")
    }
    sections = []
    for number, ((setting, one), board) in enumerate(main, 1):
        places: list[Place] = [(setting, None), *([(setting, one)] if one else [])]
        by_view = {
            view: tuple(found[place] for place in places if found[place].table.rows)
            for view, found in views.items()
        }
        more = by_view["fairness"] + by_view["comparison"]
        sections.append(Section(number, board, more, by_view["classes"]))
    return sections


def _sheets(
    records: Sequence[Record], request: TableRequest, rows: "EntryCache", attack: str | None = None
) -> list[tuple[Place, Sheet]]:
    """The tables of `build_tables` in its order, each with its place and its runs."""
    settings: dict[Setting, list[Record]] = defaultdict(list)
    for record in distinct(records)[0]:
        settings[setting_of(record)].append(record)
    places: list[Place] = []
    for setting in sorted(settings):
        attacks = attacks_in(settings[setting])
        chosen: list[AttackKey | None] = [each for each in attacks if attack in (None, each.name)]
        alone = request.view != "main" or not chosen  # a table without an attack
        places += [(setting, one) for one in ([None] if alone and attack is None else []) + chosen]
    tables = build_tables(records, request, attack)
    return [
        (place, _sheet(table, rows.of(place, settings[place[0]]), request.baseline))
        for place, table in zip(places, tables, strict=True)
    ]


class EntryCache:
    """The entries of each place, which all its tables have."""

    def __init__(self) -> None:
        self._sides = SideCache()
        self._of: dict[Place, list[Entry]] = {}

    def of(self, place: Place, records: Sequence[Record]) -> list[Entry]:
        if place not in self._of:
            self._of[place] = make_entries(records, place[1], self._sides)
        return self._of[place]


def _sheet(table: Table, entries: Sequence[Entry], baseline: str) -> Sheet:
    uses = {
        entry.label: tuple(
            Use(number, seed.record.folder.name, seed.epochs) for number, seed in entry.seeds.items()
        )
        for entry in entries
    }
    base = baseline_of(entries, baseline)
    return Sheet(table, uses, base.label if base else "")
