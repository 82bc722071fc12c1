"""What the page shows: a section per setting and attack, the runs behind each number, and the methods."""

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fairbench.metrics.rho import BASELINE
from fairbench.page.method_facts import MethodFacts, method_facts
from fairbench.page.reproduce import run_commands
from fairbench.page.runs import RunHistory, read_run
from fairbench.records.deduplicate import distinct
from fairbench.records.read import Record
from fairbench.records.results_folder import Problem, no_collection
from fairbench.registry import Registry
from fairbench.tables.entries import Seed
from fairbench.tables.inventory import Inventory, TableSpec
from fairbench.tables.published_results import PublishedResult, with_published
from fairbench.tables.request import TableRequest
from fairbench.tables.table import Table
from fairbench.tables.views import build_table

LEADERBOARD = ("average", "worst", "floor", "gap", "rho")


@dataclass(frozen=True)
class TracedTable:
    """A table with the seeds behind each row, by the row's label and the seed's number.

    base: the label of the baseline, whose runs are behind rho too; "" without a baseline.
    """

    table: Table
    seeds: Mapping[str, Mapping[int, Seed]]
    base: str = ""


@dataclass(frozen=True)
class Section:
    """A setting under one attack. more, classes: first the tables without attack, then those under it."""

    number: int
    num_classes: int  # 0 when no run is done
    leaderboard: TracedTable
    more: tuple[TracedTable, ...]
    classes: tuple[TracedTable, ...]

    @property
    def side(self) -> str:
        """The side that the summary compares: robust accuracy where there is an attack, else clean."""
        return "robust" if self.leaderboard.table.attack else "clean"


@dataclass(frozen=True)
class PageContent:
    """Everything on the page, in its order. The same records give the same content."""

    sections: tuple[Section, ...]
    runs: tuple[RunHistory, ...]
    methods: tuple[MethodFacts, ...]
    commands: tuple[str, ...]  # that make the runs again
    problems: tuple[str, ...] = ()  # why runs could not be read
    results: str = "results"  # the results folder as it was typed
    made_with: str = "fairbench report"  # the command that makes the page again
    file: str = "report.html"


def collect_content(
    records: Iterable[Record],
    registry: Registry,
    *,
    baseline: str = BASELINE,
    attack: str | None = None,
    published: Sequence[PublishedResult] | None = None,
    sources: str = "",
    problems: Sequence[Problem] = (),
    results: str = "results",
    registry_files: Sequence[str] = (),
    made_with: str = "fairbench report",
    file: str = "report.html",
) -> PageContent:
    """The content of the records' page.

    attack: only the sections under it. published, sources: published results beside the leaderboards, and
    the sources that were asked for. Raises UnknownNameError for an attack that no record was evaluated under.
    """
    records = list(records)
    runs = tuple(read_run(record) for record in distinct(records)[0])
    sections = _sections(Inventory(records, baseline), attack)
    if published is not None:
        sections = [_with_published(section, published, sources) for section in sections]
    by_method: dict[str, list[RunHistory]] = defaultdict(list)
    for run in runs:
        by_method[run.record.method].append(run)
    names = sorted(by_method, key=lambda name: (name != baseline, name))
    return PageContent(
        tuple(sections),
        runs,
        tuple(method_facts(name, by_method[name], registry) for name in names),
        tuple(run_commands([run.record for run in runs], results, registry_files)),
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
    traced = functools.cache(_traced)  # sections of one setting share the tables without attack
    sections = []
    for number, spec in enumerate(inventory.specs(attack), 1):
        leaderboard = traced(spec, TableRequest(columns=LEADERBOARD, baseline=baseline))
        sides = dict.fromkeys((inventory.spec(spec.setting, None), spec))  # one where there is no attack
        fairness, comparison, classes = (
            tuple(each for side in sides if (each := traced(side, request)).table.rows) for request in views
        )
        sections.append(Section(number, spec.num_classes, leaderboard, fairness + comparison, classes))
    return sections


def _traced(spec: TableSpec, request: TableRequest) -> TracedTable:
    seeds = {entry.label: entry.seeds for entry in spec.all_entries}
    return TracedTable(build_table(spec, request), seeds, spec.base.label if spec.base else "")


def _with_published(section: Section, published: Sequence[PublishedResult], sources: str) -> Section:
    table = with_published(section.leaderboard.table, published, sources)
    return replace(section, leaderboard=replace(section.leaderboard, table=table))
