"""Escaping of texts from records, so that each format shows them exactly and never takes them for markup."""

import re
from html import escape

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': r"''",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{DAGGER}": r"$^\dagger$",
    **{char: f"\\{char}" for char in "&%$#_{}"},
}
_NOT_IN_OT1 = "\xab\xbb\xd0\xde\xf0\xfe"  # Latin-1 letters missing in OT1: guillemets, eth, thorn
_MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{char: f"\\{char}" for char in "\\`*_[]|#$~"}}
_FORMULA_STARTS = ("=", "+", "-", "@")


def plain(text: str) -> str:
    """The text on one line, with characters that do not print (line ends, terminal codes) as \\x1b, \\n."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def latex(text: str) -> str:
    """The text for LaTeX; characters that the default font encoding (OT1) lacks as [U+4E2D]."""
    portable = (
        char if char in _LATEX or (ord(char) < 0x100 and char not in _NOT_IN_OT1) else f"[U+{ord(char):04X}]"
        for char in plain(text)
    )
    escaped = "".join(_LATEX.get(char, char) for char in "".join(portable))
    return re.sub(r"-(?=-)", "-{}", escaped)  # "--" would print as one dash


def markdown(text: str) -> str:
    """The text for a Markdown cell or line."""
    return "".join(_MARKDOWN.get(char, char) for char in plain(text))


def html(text: str) -> str:
    """The text for an element or a quoted attribute of a page."""
    return escape(plain(text), quote=True)


def csv_text(text: str) -> str:
    """The text for a CSV cell that a spreadsheet does not take for a formula."""
    shown = plain(text)
    return f"'{shown}" if shown.startswith(_FORMULA_STARTS) else shown
