"""What the page shows: a section for each setting, the runs behind each number, methods and commands."""

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fairbench.page.methods import MethodFacts, method_facts
from fairbench.page.reproduce import commands
from fairbench.page.runs import RunHistory, read_run
from fairbench.records.deduplicate import distinct
from fairbench.records.read import Problem, Record, no_collection
from fairbench.registry import Registry
from fairbench.tables.inventory import Inventory, TableSpec
from fairbench.tables.published_results import PublishedResult, with_published
from fairbench.tables.request import TableRequest
from fairbench.tables.table import Table
from fairbench.tables.views import build_table

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
    published: Sequence[PublishedResult] | None = None,
    sources: str = "",
    problems: Sequence[Problem] = (),
    results: str = "results",
    registry_files: Sequence[str] = (),
    made_with: str = "fairbench report",
    file: str = "report.html",
) -> PageContent:
    """The report of the records. Raises UnknownNameError for an attack that none was evaluated under."""
    records = list(records)
    runs = tuple(read_run(record) for record in distinct(records)[0])
    sections = _sections(Inventory(records, baseline), attack)
    if published is not None:
        sections = [
            replace(s, board=replace(s.board, table=with_published(s.board.table, published, sources)))
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


@no_collection()
def _sections(inventory: Inventory, attack: str | None) -> list[Section]:
    """A section for each table of the main view, in the order of `fairbench table`."""
    baseline = inventory.baseline
    views = [TableRequest(view=view, baseline=baseline) for view in ("fairness", "comparison", "classes")]
    sheet = functools.cache(_sheet)  # sections of one setting share the sheets without attack
    sections = []
    for number, spec in enumerate(inventory.specs(attack), 1):
        board = sheet(spec, TableRequest(columns=LEADERBOARD, baseline=baseline))
        sides = dict.fromkeys((inventory.spec(spec.setting, None), spec))  # only once without an attack
        fairness, comparison, classes = (
            tuple(each for side in sides if (each := sheet(side, request)).table.rows) for request in views
        )
        sections.append(Section(number, board, fairness + comparison, classes))
    return sections


def _sheet(spec: TableSpec, request: TableRequest) -> Sheet:
    uses = {
        entry.label: tuple(
            Use(number, seed.record.folder.name, seed.epochs) for number, seed in entry.seeds.items()
        )
        for entry in spec.all_entries
    }
    return Sheet(build_table(spec, request), uses, spec.base.label if spec.base else "")
