"""The chapters behind the numbers: each method, its curves and runs, and what to type."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence

from fairbench.page.collect import PageContent, Section
from fairbench.page.curves import draw, legend
from fairbench.page.markup import (
    Anchors,
    Markup,
    code,
    facts,
    joined,
    paper_link,
    program_link,
    prose,
    tag,
)
from fairbench.page.methods import MethodFacts, OptionFacts
from fairbench.page.runs import RunHistory
from fairbench.page.tables import epoch_range
from fairbench.tables.formats.numbers import shown
from fairbench.tables.groups import assignments, method_overrides, setting_of
from fairbench.tables.table import Row, Table

_DOC = ("Idea", "Objective", "Deviates", "Source", "Cost")


def method_chapter(method: MethodFacts, report: PageContent, anchors: Anchors) -> Markup:
    """Everything about one method, a page of its own where there is a script."""
    place = anchors.of("method", method.name)
    parts: list[object] = [
        tag("p", tag("a", "All results", href="#settings"), class_="back"),
        tag("h2", method.title, id=f"{place}-title"),
        tag("p", prose(method.summary), class_="summary") if method.summary else None,
        _about(method),
        _options(method.options) if method.options else None,
        tag("h3", "Results"),
        _results(method, report.sections, anchors),
    ]
    for words, runs in _by_entry(method.runs).items():
        curves = draw({run.record.seed: run.curve for run in runs})
        parts.append(tag("h3", words))
        if curves:
            parts += [
                curves,
                tag("p", legend(run.record.seed for run in runs if run.curve.epochs), class_="caption"),
            ]
        else:
            parts.append(tag("p", "No training curve was recorded.", class_="caption"))
        parts += [run_details(run, report.results, anchors) for run in runs]
    return tag("section", *parts, class_="method", id=place, aria_labelledby=f"{place}-title")


def _about(method: MethodFacts) -> Markup:
    if not method.known:
        return tag(
            "p",
            "This method is not in the registry at hand. Name its file to see what it says: ",
            code("fairbench report --registry FILE"),
        )
    paper, official = method.paper, method.official
    pairs: list[tuple[str, object]] = [(name, prose(method.doc.get(name, ""))) for name in _DOC[:2]]
    if paper is not None:
        words = joined([part for part in (paper.title, paper.authors, paper.venue) if part], ". ")
        pairs.append(("Paper", joined([p for p in (words or None, paper_link(paper.arxiv)) if p], ". ")))
    if official is not None and official.repo:
        link = program_link(official.repo, official.commit)
        licence = f", licence: {official.licence}" if official.licence else ""
        pairs.append(("Official program", joined([link, licence])))
    pairs += [(name, prose(method.doc.get(name, ""))) for name in _DOC[2:]]
    changed = tag("p", "The method's file has changed since some of these runs were made.", class_="warning")
    return joined([changed if method.changed else None, facts(pairs)])


def _options(options: Sequence[OptionFacts]) -> Markup:
    lines = [
        tag(
            "tr",
            tag("th", code(option.name), class_="row", scope="row"),
            tag("td", option.default),
            tag("td", ", ".join(option.used), class_="set" if set(option.used) - {option.default} else None),
            tag("td", prose(option.help)),
        )
        for option in options
    ]
    heads = [tag("th", name, scope="col") for name in ("option", "default", "in these runs", "what it is")]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *lines), class_="options")
    box = tag("div", table, class_="scroll", role="region", tabindex="0", aria_label="options")
    return joined([tag("h3", "Options"), box])


def _results(method: MethodFacts, sections: Sequence[Section], anchors: Anchors) -> Markup:
    """The method's rows of every leaderboard, clean above robust, with a link to the whole of it."""
    found = []
    for section in sections:
        table = section.board.table
        for row in table.rows:
            if row.method == method.name and not row.source:
                where = tag("a", table.title, href=f"#setting-{section.number}")
                label = f" {row.name}" if row.label != row.method else None
                found.append(tag("div", tag("p", where, label), _result(row, table), class_="result"))
    return joined(found) if found else tag("p", "No run of this method is done.")


def _result(row: Row, table: Table) -> Markup:
    """A row of a leaderboard with a line for each side."""
    lines: dict[str, list[Markup]] = {}
    for cell, column in zip(row.cells, table.columns, strict=True):
        number = shown(cell, column, table).plain()
        lines.setdefault(column.group, [tag("th", column.group, class_="row", scope="row")]).append(
            tag("td", number)
        )
    names = list(dict.fromkeys(column.header for column in table.columns))
    heads = [tag("td"), *(tag("th", name, scope="col") for name in names)]
    body = [tag("tr", *line) for line in lines.values() if any(cell != "<td>-</td>" for cell in line[1:])]
    inner = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body), class_="numbers")
    return tag("div", inner, class_="scroll", role="region", tabindex="0", aria_label=table.title)


def _by_entry(runs: Sequence[RunHistory]) -> Mapping[str, Sequence[RunHistory]]:
    """The runs that differ in seed only, by words for their setting."""
    groups: dict[tuple[str, str], list[RunHistory]] = defaultdict(list)
    for run in runs:
        record = run.record
        overrides = assignments(method_overrides(record))
        words = f"{record.dataset}, {record.model}, {record.protocol}" + (
            f", {overrides}" if overrides else ""
        )
        groups[(words, f"{setting_of(record).digest}.{record.entry}")].append(run)
    by_words: dict[str, list[RunHistory]] = {}
    for (words, _), found in sorted(groups.items()):
        name = words if words not in by_words else f"{words} [entry {found[0].record.entry[:8]}]"
        by_words[name] = sorted(found, key=lambda run: run.record.seed)
    return by_words


def run_details(run: RunHistory, results: str, anchors: Anchors) -> Markup:
    """A run: where it comes from, and what to type to check it."""
    record = run.record
    state = (
        record.state if record.state == "done" else f"{record.state}: {record.reason or 'no reason recorded'}"
    )
    where = f" --results {shlex.quote(results)}" if results != "results" else ""
    pairs: list[tuple[str, object]] = [
        ("run", code(run.name)),
        (
            "to check it",
            code(f"fairbench verify {shlex.quote(run.name)}{where}") if record.state == "done" else "",
        ),
        ("seed", record.seed if record.seed else "0"),
        (
            "checkpoints",
            epoch_range(record.epochs_evaluated) and f"epochs {epoch_range(record.epochs_evaluated)}",
        ),
        ("provenance", run.fault),
    ]
    pairs += [(name, code(text) if "digest" in name or name in _CODES else text) for name, text in run.told()]
    pairs.append(("warnings", "; ".join(record.warnings)))
    outcomes = [
        tag("li", f"{e.attack}, epoch {e.epoch} ", code(e.digest or "no digest recorded"))
        for e in record.evaluations
    ]
    pairs.append(("outcomes", tag("ul", *outcomes) if outcomes else ""))
    summary = [f"seed {record.seed}", state, f"finished {record.finished}" if record.finished else None]
    head = tag("summary", ", ".join(filter(None, summary)))
    return tag("details", head, facts(pairs), class_="run", id=anchors.of("run", run.name))


_CODES = ("commit", "command", "method fingerprint")


def reproduction(report: PageContent) -> Markup:
    """What to type to make the runs and the page again."""
    where = f" --results {shlex.quote(report.results)}" if report.results != "results" else ""
    runs = tag("pre", joined(report.commands, "\n"))
    return joined(
        [
            tag(
                "p",
                "The runs; what is finished in the folder is not done again:",
            ),
            runs,
            tag("p", "This page, and its tables held against the records:"),
            tag(
                "pre",
                joined(
                    [report.made_with, f"{shlex.join(['fairbench', 'verify', report.file])}{where}"], "\n"
                ),
            ),
        ]
    )
