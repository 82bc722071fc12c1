"""The HTML document: one file that requests nothing and is complete without its script."""

import base64
import hashlib
import importlib.metadata
import shlex
from importlib.resources import files
from pathlib import Path

from fairbench.core.errors import ConfigError
from fairbench.core.files import write_atomic
from fairbench.page.content import PageContent, Section
from fairbench.page.heat_map import heat_map
from fairbench.page.markup import Anchors, Markup, joined, prose, script_data, tag
from fairbench.page.method_page import method_page
from fairbench.page.reproduce import results_option
from fairbench.page.summary import picture, verdict
from fairbench.page.tables import PageData, number_table
from fairbench.tables.formats.captions import Marks, legend

FILTERS = (("dataset", "data set"), ("model", "network"), ("protocol", "protocol"), ("attack", "attack"))
LINKS = (  # of the header: name, id
    ("Summary", "summary"),
    ("Results", "settings"),
    ("Methods", "methods"),
    ("Reproduce", "reproduce"),
)


def require_folder(path: Path) -> None:
    """Raise ConfigError when the folder of a page to be written does not exist."""
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for the page.", hint="choose another: -o FILE")


def write_page(content: PageContent, path: Path) -> int:
    """Write the page as one file; the number of its bytes."""
    html = render_page(content).encode("utf-8", "backslashreplace")
    write_atomic(path, lambda file: file.write(html))
    return len(html)


def render_page(content: PageContent) -> str:
    """The page as HTML that works from a file, on a phone and on paper.

    A Content-Security-Policy forbids every request, and every script and style but the two inside the page.
    """
    anchors = Anchors()
    for method in content.methods:  # first, so that their ids have no number
        anchors.of("method", method.name)
    data = PageData(anchors)
    main = _main(content, data)
    script = Markup(_asset("page.js"))
    body = tag(
        "body",
        tag("a", "To the results", href="#settings", class_="skip"),
        _header(content),
        main,
        _footer(content),
        tag("script", script_data({"tables": data.tables}), type="application/json", id="data"),
        tag("script", script),
    )
    return f"<!DOCTYPE html>\n{tag('html', _head(content, script), body, lang='en')}\n"


def _head(content: PageContent, script: Markup) -> Markup:
    style = Markup(_asset("page.css"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", _title(content)),
        tag("style", style),
    )


def _title(content: PageContent) -> str:
    datasets = dict.fromkeys(section.leaderboard.table.dataset for section in content.sections)
    return f"Robust fairness: {', '.join(datasets)}"


def _header(content: PageContent) -> Markup:
    done = [run for run in content.runs if run.record.state == "done"]
    newest = max((run.record.finished for run in done), default="")
    counts = (
        _count(len(content.methods), "method"),
        _count(len(content.sections), "setting"),
        _count(len(done), "finished run") + (f" (the last on {newest[:10]})" if newest else ""),
    )
    links = (tag("a", name, href=f"#{anchor}") for name, anchor in LINKS)
    nav = tag("nav", *links, aria_label="page")
    return tag("header", tag("h1", _title(content)), tag("p", ", ".join(counts)), nav)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _main(content: PageContent, data: PageData) -> Markup:
    single = len(content.sections) == 1
    return tag(
        "main",
        _summary(content, data.anchors),
        _filters(content),
        tag(
            "div",
            *(_section(section, data, with_summary=not single) for section in content.sections),
            id="settings",
            class_="overview",
        ),
        _method_list(content, data.anchors),
        *(method_page(method, content, data.anchors) for method in content.methods),
        _reproduce(content),
        _problems(content),
    )


def _summary(content: PageContent, anchors: Anchors) -> Markup:
    """A sentence for each setting; for a single setting its picture too."""
    parts: list[object] = [tag("h2", "Which method has the best worst class?")]
    if len(content.sections) == 1:
        (section,) = content.sections
        parts += [tag("p", verdict(section, anchors), class_="verdict"), picture(section, anchors)]
    else:
        items = []
        for section in content.sections:
            link = tag("a", section.leaderboard.table.title, href=f"#setting-{section.number}")
            items.append(tag("li", link, ": ", verdict(section, anchors, short=True)))
        parts.append(tag("ul", *items, class_="verdicts"))
    return tag("section", *parts, id="summary", class_="overview")


def _filters(content: PageContent) -> Markup:
    """The fields that filter methods and settings; hidden until the script runs."""
    fields: list[object] = [
        tag("label", "method ", tag("input", type="search", name="method", placeholder="part of a name"))
    ]
    for name, label in FILTERS:
        values = dict.fromkeys(getattr(section.leaderboard.table, name) for section in content.sections)
        if len(values) > 1:
            options = [tag("option", "all", value="")]
            options += [tag("option", value or "none", value=value or "none") for value in values]
            fields.append(tag("label", f"{label} ", tag("select", *options, name=name)))
    status = tag("output", "", aria_live="polite")
    return tag("form", *fields, status, id="filters", class_="overview", hidden=True)


def _section(section: Section, data: PageData, *, with_summary: bool) -> Markup:
    table = section.leaderboard.table
    anchor = f"setting-{section.number}"
    parts: list[object] = [tag("h2", table.title, id=f"{anchor}-title")]
    if with_summary:
        parts += [tag("p", verdict(section, data.anchors), class_="verdict"), picture(section, data.anchors)]
    parts += [tag("h3", "Leaderboard"), number_table(section.leaderboard, data)]
    if section.classes:
        maps = [heat_map(traced, data) for traced in section.classes]
        heading = tag("h3", "Accuracy of every class")
        parts.append(tag("div", heading, _class_order(section), *maps, class_="maps"))
    if section.more:
        tables = [
            tag("div", tag("h4", traced.table.title), number_table(traced, data)) for traced in section.more
        ]
        head = tag("summary", "More measures (limits, split-half, tails) and comparisons with the baseline")
        parts.append(tag("details", head, *tables, class_="more"))
    return tag(
        "section",
        *parts,
        class_="setting",
        id=anchor,
        aria_labelledby=f"{anchor}-title",
        **{f"data_{name}": getattr(table, name) or "none" for name, _ in FILTERS},
    )


def _class_order(section: Section) -> Markup:
    """The choice of the order of classes; hidden until the script runs."""
    choices = (
        ("given", " as in the data set"),
        ("lowest", f" lowest accuracy first ({section.side}, mean over methods)"),
    )
    name = f"order-{section.number}"
    buttons = [
        tag("label", tag("input", type="radio", name=name, value=value, checked=value == "given"), words)
        for value, words in choices
    ]
    return tag("fieldset", tag("legend", "order of classes"), *buttons, class_="order", hidden=True)


def _footer(content: PageContent) -> Markup:
    """What columns and marks mean, once for all tables; and the version."""
    tables = [traced.table for s in content.sections for traced in (s.leaderboard, *s.more)]
    version = f"fairbench {importlib.metadata.version('fairbench-at')}"
    return tag("footer", tag("p", " ".join(legend(tables, Marks())), class_="definitions"), tag("p", version))


def _method_list(content: PageContent, anchors: Anchors) -> Markup:
    items = []
    for method in content.methods:
        link = tag("a", method.title, href=f"#{anchors.of('method', method.name)}")
        summary = prose(method.summary.partition(": ")[2])
        items.append(tag("li", link, ": " if summary else None, summary))
    return tag("section", tag("h2", "Methods"), tag("ul", *items), id="methods", class_="overview")


def _reproduce(content: PageContent) -> Markup:
    """The commands that make the runs and the page again."""
    verify = shlex.join(["fairbench", "verify", content.file, *results_option(content.results)])
    return tag(
        "section",
        tag("h2", "Reproduce"),
        tag("p", "Commands that make the runs; runs that are finished in the results folder are skipped:"),
        tag("pre", joined(content.commands, "\n")),
        tag("p", "Commands that make this page, and compare its tables with the records:"),
        tag("pre", joined([content.made_with, verify], "\n")),
        id="reproduce",
        class_="overview",
    )


def _problems(content: PageContent) -> Markup | None:
    if not content.problems:
        return None
    items = [tag("li", problem) for problem in content.problems]
    heading = tag("h2", "Runs that could not be read")
    return tag("section", heading, tag("ul", *items), id="problems", class_="overview")


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
