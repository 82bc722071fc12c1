"""HTML from parts. All text that is not `Markup` is escaped, because names in records are data."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fairbench.core.identity import canonical_json
from fairbench.tables.escapes import html, plain

_ARXIV = re.compile(r"(\d{4}\.\d{4,5}|[a-z-]{2,20}(\.[A-Z]{2})?/\d{7})(v\d{1,3})?")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_EMPTY_TAGS = ("input", "meta", "line", "circle")


class Markup(str):
    """Text that is HTML already, and is not escaped again."""


def escaped(text: str) -> str:
    """The text for an element or a quoted attribute. Most texts are alphanumeric and need no escaping."""
    return text if text.isalnum() else html(text)


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. Children that are not Markup are escaped, as attributes are; None and False are left out.

    Attribute names are Python's: `class_` is class, `data_sheet` data-sheet.
    """
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escaped(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _EMPTY_TAGS and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """The parts one after the other, escaped where they are not Markup; None is left out."""
    texts = (part if isinstance(part, Markup) else escaped(str(part)) for part in parts if part is not None)
    return Markup(between.join(texts))


def prose(text: str) -> Markup:
    """A docstring's text, with the parts in backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return joined([text])
    return joined(code(part) if k % 2 else part for k, part in enumerate(parts))


def code(text: object) -> Markup:
    """A command, an option or a digest."""
    return tag("code", text)


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """A list of names with their values; pairs without a value are left out."""
    lines = (tag("dt", name) + tag("dd", value) for name, value in pairs if value not in (None, "", (), []))
    return tag("dl", Markup("".join(lines)))


def paper_link(arxiv: str | None) -> Markup | None:
    """A link to an arXiv number; its text alone when it does not look like one."""
    if not arxiv:
        return None
    text = f"arXiv {arxiv}"
    return _link(f"https://arxiv.org/abs/{arxiv}", text) if _ARXIV.fullmatch(arxiv) else joined([text])


def program_link(repo: str | None, commit: str | None) -> Markup | None:
    """A link to "owner/name" on GitHub at a commit; the text alone when it does not look like one."""
    if not repo:
        return None
    known = commit if commit and _COMMIT.fullmatch(commit) else None
    text = repo + (f"@{commit[:7]}" if commit else "")
    if not _REPOSITORY.fullmatch(repo):
        return joined([text])
    return _link(f"https://github.com/{repo}" + (f"/tree/{known}" if known else ""), text)


def _link(url: str, text: str) -> Markup:
    return tag("a", text, href=url, rel="noopener noreferrer")


def script_data(value: Any) -> Markup:
    """JSON for a script element, which it cannot end; it opens no comment. Raises ValueError for NaN."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def value_text(value: Any) -> str:
    """The value of a setting: a string as it is, else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return canonical_json(value)
    except (TypeError, ValueError):
        return str(value)


def number_range(numbers: Sequence[int], to: str, between: str) -> str:
    """Ascending numbers as text: "0..4" for more than two consecutive ones with `to` "..", else "0,2"."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}{to}{numbers[-1]}"
    return between.join(map(str, numbers))


class Anchors:
    """Ids of elements in the page: a safe and unique one for each kind and name."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def of(self, kind: str, name: str) -> str:
        """The id for a kind and a name, for instance "method-dafa"; the same each time."""
        if (kind, name) not in self._of:
            base = f"{kind}-" + re.sub(r"[^a-z0-9.]+", "-", plain(name).lower()).strip("-.")
            anchor, count = base, 1
            while anchor in self._taken:
                count += 1
                anchor = f"{base}-{count}"
            self._taken.add(anchor)
            self._of[(kind, name)] = anchor
        return self._of[(kind, name)]
