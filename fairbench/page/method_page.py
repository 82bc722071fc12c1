"""The part of the page about one method: what it is, its results, its training curves and its runs."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence

from fairbench.page.content import PageContent, Section
from fairbench.page.markup import Anchors, Markup, code, facts, joined, paper_link, program_link, prose, tag
from fairbench.page.method_facts import MethodFacts, OptionFacts
from fairbench.page.reproduce import results_option
from fairbench.page.runs import RunHistory
from fairbench.page.tables import epoch_range
from fairbench.page.training_curves import draw, legend
from fairbench.tables.formats.numbers import shown
from fairbench.tables.groups import assignments, method_overrides, setting_of
from fairbench.tables.table import Row, Table

_AS_CODE = ("commit", "command", "data digest", "plugin digest", "method fingerprint")


def method_page(method: MethodFacts, content: PageContent, anchors: Anchors) -> Markup:
    """Everything about one method, shown alone where JavaScript runs."""
    anchor = anchors.of("method", method.name)
    parts: list[object] = [
        tag("p", tag("a", "Back to all results", href="#settings"), class_="back"),
        tag("h2", method.title, id=f"{anchor}-title"),
        tag("p", prose(method.summary), class_="summary") if method.summary else None,
        _about(method),
        _options(method.options) if method.options else None,
        tag("h3", "Results"),
        _results(method, content.sections, anchors),
    ]
    for setting, runs in _by_setting(method.runs).items():
        parts += [tag("h3", setting), _curves(runs)]
        parts += [run_details(run, content.results, anchors) for run in runs]
    return tag("section", *parts, class_="method", id=anchor, aria_labelledby=f"{anchor}-title")


def _curves(runs: Sequence[RunHistory]) -> Markup:
    curves = {run.record.seed: run.curve for run in runs if run.curve.epochs}
    if not curves:
        return tag("p", "No training curve was recorded.", class_="caption")
    return joined([draw(curves), tag("p", legend(curves), class_="caption")])


def _about(method: MethodFacts) -> Markup:
    if not method.known:
        return tag(
            "p",
            "This method is not in the registry. To show its docstring and options, name its file: ",
            code("fairbench report --registry FILE"),
        )
    paper, official = method.paper, method.official
    pairs: list[tuple[str, object]] = [_section_of(method, name) for name in ("Idea", "Objective")]
    if paper is not None:
        parts = (paper.title, paper.authors, paper.venue, paper_link(paper.arxiv))
        pairs.append(("Paper", joined((part for part in parts if part), ". ")))
    if official is not None and official.repo:
        link = program_link(official.repo, official.commit)
        licence = f", licence: {official.licence}" if official.licence else ""
        pairs.append(("Official program", joined([link, licence])))
    pairs += [_section_of(method, name) for name in ("Deviates", "Source", "Cost")]
    changed = tag("p", "The method's file has changed since some of these runs were made.", class_="warning")
    return joined([changed if method.changed else None, facts(pairs)])


def _section_of(method: MethodFacts, name: str) -> tuple[str, Markup]:
    """A section of the method's docstring with its name; empty when it has none."""
    return name, prose(method.doc.get(name, ""))


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
    heads = [tag("th", name, scope="col") for name in ("option", "default", "in these runs", "meaning")]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *lines), class_="options")
    box = tag("div", table, class_="scroll", role="region", tabindex="0", aria_label="options")
    return joined([tag("h3", "Options"), box])


def _results(method: MethodFacts, sections: Sequence[Section], anchors: Anchors) -> Markup:
    """The method's rows of every leaderboard, clean above robust, with a link to the whole leaderboard."""
    results = []
    for section in sections:
        table = section.leaderboard.table
        for row in table.rows:
            if row.method == method.name and not row.source:
                link = tag("a", table.title, href=f"#setting-{section.number}")
                label = f" {row.name}" if row.label != row.method else None
                results.append(tag("div", tag("p", link, label), _result(row, table), class_="result"))
    return joined(results) if results else tag("p", "No run of this method is done.")


def _result(row: Row, table: Table) -> Markup:
    """A row of a leaderboard with a line for each side that has a number."""
    lines: dict[str, list[str]] = defaultdict(list)
    for cell, column in zip(row.cells, table.columns, strict=True):
        lines[column.group].append(shown(cell, column, table).plain())
    names = list(dict.fromkeys(column.header for column in table.columns))
    heads = [tag("td"), *(tag("th", name, scope="col") for name in names)]
    body = [
        tag("tr", tag("th", side, class_="row", scope="row"), *(tag("td", number) for number in numbers))
        for side, numbers in lines.items()
        if set(numbers) != {"-"}
    ]
    inner = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body), class_="numbers")
    return tag("div", inner, class_="scroll", role="region", tabindex="0", aria_label=table.title)


def _by_setting(runs: Sequence[RunHistory]) -> Mapping[str, Sequence[RunHistory]]:
    """The runs that differ in seed only, by data set, network, protocol and overrides; by ascending seed."""
    groups: dict[tuple[str, str], list[RunHistory]] = defaultdict(list)
    for run in runs:
        record = run.record
        parts = (record.dataset, record.model, record.protocol, assignments(method_overrides(record)))
        setting = ", ".join(filter(None, parts))
        groups[(setting, f"{setting_of(record).digest}.{record.entry}")].append(run)
    by_setting: dict[str, list[RunHistory]] = {}
    for (setting, _), members in sorted(groups.items()):
        name = setting if setting not in by_setting else f"{setting} [entry {members[0].record.entry[:8]}]"
        by_setting[name] = sorted(members, key=lambda run: run.record.seed)
    return by_setting


def run_details(run: RunHistory, results: str, anchors: Anchors) -> Markup:
    """A run: its state, its provenance, and the command that checks it."""
    record = run.record
    done = record.state == "done"
    state = record.state if done else f"{record.state}: {record.reason or 'no reason recorded'}"
    verify = shlex.join(["fairbench", "verify", run.name, *results_option(results)])
    epochs = epoch_range(record.epochs_evaluated)
    pairs: list[tuple[str, object]] = [
        ("run", code(run.name)),
        ("check it with", code(verify) if done else ""),
        ("seed", str(record.seed)),
        ("checkpoints", f"epochs {epochs}" if epochs else ""),
        ("provenance", run.fault),
    ]
    pairs += [(name, code(text) if text and name in _AS_CODE else text) for name, text in run.facts()]
    pairs.append(("warnings", "; ".join(record.warnings)))
    outcomes = [
        tag("li", f"{e.attack}, epoch {e.epoch} ", code(e.digest or "no digest recorded"))
        for e in record.evaluations
    ]
    pairs.append(("outcomes", tag("ul", *outcomes) if outcomes else ""))
    summary = [f"seed {record.seed}", state, f"finished {record.finished}" if record.finished else None]
    head = tag("summary", ", ".join(filter(None, summary)))
    return tag("details", head, facts(pairs), class_="run", id=anchors.of("run", run.name))
