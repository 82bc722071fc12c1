"""The page itself: one file, no request to anywhere, complete without its script."""

import base64
import hashlib
import importlib.metadata
from importlib.resources import files

from fairbench.page.collect import PageContent, Section
from fairbench.page.heat import rules
from fairbench.page.markup import Anchors, Markup, joined, prose, script_data, tag
from fairbench.page.method_page import method_chapter, reproduction
from fairbench.page.summary import picture, verdict
from fairbench.page.tables import Data, heat_map, numbers

FILTERS = (("dataset", "data set"), ("model", "network"), ("protocol", "protocol"), ("attack", "attack"))


def page(report: PageContent) -> str:
    """The report as HTML that works from a file, on a phone and on paper.

    Only the script and the style that are in it may run: the page forbids every other, and every request.
    """
    anchors = Anchors()
    for method in report.methods:  # the first of a name gets the plain place
        anchors.of("method", method.name)
    data = Data(anchors)
    main = joined(
        [
            _glance(report, anchors),
            _filters(report),
            tag(
                "div",
                *(_section(s, data, len(report.sections) == 1) for s in report.sections),
                id="settings",
                class_="overview",
            ),
            _index(report, anchors),
            *(method_chapter(method, report, anchors) for method in report.methods),
            tag("section", tag("h2", "Made again"), reproduction(report), id="reproduce", class_="overview"),
            _problems(report),
        ]
    )
    style = Markup(_asset("page.css") + rules())
    script = Markup(_asset("page.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", _title(report)),
        tag("style", style),
    )
    body = tag(
        "body",
        tag("a", "To the results", href="#settings", class_="skip"),
        _header(report),
        tag("main", main),
        tag("footer", f"fairbench {importlib.metadata.version('fairbench-at')}"),
        tag("script", script_data({"sheets": data.sheets}), type="application/json", id="data"),
        tag("script", script),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _title(report: PageContent) -> str:
    datasets = dict.fromkeys(section.board.table.dataset for section in report.sections)
    return f"Fairness under attack: {', '.join(datasets)}"


def _header(report: PageContent) -> Markup:
    done = [run for run in report.runs if run.record.state == "done"]
    newest = max((run.record.finished for run in done), default="")
    words = f"{_count(len(report.methods), 'method')}, {_count(len(report.sections), 'setting')}, "
    words += f"{_count(len(done), 'finished run')}" + (f", the newest of {newest[:10]}" if newest else "")
    links = [
        ("At a glance", "glance"),
        ("Results", "settings"),
        ("Methods", "methods"),
        ("Made again", "reproduce"),
    ]
    nav = tag("nav", *(tag("a", name, href=f"#{place}") for name, place in links), aria_label="page")
    return tag("header", tag("h1", _title(report)), tag("p", words), nav)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _glance(report: PageContent, anchors: Anchors) -> Markup:
    """One sentence for each setting; of a single one the picture too."""
    parts: list[object] = [tag("h2", "Who is fair?")]
    if len(report.sections) == 1:
        (only,) = report.sections
        parts += [tag("p", verdict(only, anchors), class_="verdict"), picture(only, anchors)]
    else:
        items = []
        for section in report.sections:
            place = tag("a", section.board.table.title, href=f"#setting-{section.number}")
            items.append(tag("li", place, ": ", verdict(section, anchors, short=True)))
        parts.append(tag("ul", *items, class_="verdicts"))
    return tag("section", *parts, id="glance", class_="overview")


def _filters(report: PageContent) -> Markup:
    """Controls that the script brings to life; hidden without it."""
    fields: list[object] = [
        tag("label", "method ", tag("input", type="search", name="method", placeholder="part of a name"))
    ]
    for name, words in FILTERS:
        values = dict.fromkeys(getattr(section.board.table, name) for section in report.sections)
        if len(values) > 1:
            options = [tag("option", "all", value="")]
            options += [tag("option", value or "none", value=value or "none") for value in values]
            fields.append(tag("label", f"{words} ", tag("select", *options, name=name)))
    status = tag("output", "", aria_live="polite")
    return tag("form", *fields, status, id="filters", class_="overview", hidden=True)


def _section(section: Section, data: Data, alone: bool) -> Markup:
    table = section.board.table
    place = f"setting-{section.number}"
    parts: list[object] = [tag("h2", table.title, id=f"{place}-title")]
    if not alone:
        parts += [tag("p", verdict(section, data.anchors), class_="verdict"), picture(section, data.anchors)]
    parts += [tag("h3", "Leaderboard"), numbers(section.board, data)]
    if section.classes:
        order = _class_order(section)
        maps = [heat_map(sheet, data) for sheet in section.classes]
        parts.append(tag("div", tag("h3", "Accuracy of every class"), order, *maps, class_="maps"))
    if section.more:
        sheets = [tag("div", tag("h4", sheet.table.title), numbers(sheet, data)) for sheet in section.more]
        head = tag("summary", "More: limits, split-half, tails, and each method against the baseline")
        parts.append(tag("details", head, *sheets, class_="more"))
    return tag(
        "section",
        *parts,
        class_="setting",
        id=place,
        aria_labelledby=f"{place}-title",
        **{f"data_{name}": getattr(table, name) or "none" for name, _ in FILTERS},
    )


def _class_order(section: Section) -> Markup:
    """A choice that the script brings to life; hidden without it."""
    choices = (
        ("given", " as in the data set"),
        ("hardest", f" hardest first ({section.side}, mean over methods)"),
    )
    name = f"order-{section.number}"
    buttons = [
        tag("label", tag("input", type="radio", name=name, value=value, checked=value == "given"), words)
        for value, words in choices
    ]
    return tag("fieldset", tag("legend", "order of classes"), *buttons, class_="order", hidden=True)


def _index(report: PageContent, anchors: Anchors) -> Markup:
    items = []
    for method in report.methods:
        link = tag("a", method.title, href=f"#{anchors.of('method', method.name)}")
        summary = prose(method.summary.partition(": ")[2])
        items.append(tag("li", link, ": " if summary else None, summary))
    return tag("section", tag("h2", "Methods"), tag("ul", *items), id="methods", class_="overview")


def _problems(report: PageContent) -> Markup | None:
    if not report.problems:
        return None
    items = [tag("li", problem) for problem in report.problems]
    return tag(
        "section",
        tag("h2", "Runs that could not be read"),
        tag("ul", *items),
        id="problems",
        class_="overview",
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
