"""How values are written for people and for scripts."""

import json
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import click


def print_json(value: Any) -> None:
    """Print JSON; of a list each item on a line of its own."""
    if isinstance(value, list):
        echo("[\n" + ",\n".join(map(json.dumps, value)) + "\n]")
    else:
        echo(json.dumps(value, indent=1))


def columns(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Rows of text in aligned columns under a header."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
    return "\n".join(lines)


def painter() -> Callable[[str, str], str]:
    """A function that returns a text in a style such as "bold green".

    The text stays as it is where the output is no terminal, or NO_COLOR is set.
    """
    from rich.color import ColorSystem
    from rich.console import Console
    from rich.style import Style

    console = Console()
    if console.no_color or console.color_system is None:
        return lambda text, style: text
    return lambda text, style: Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def duration(seconds: float) -> str:
    """A time to read: 42 s, 3 min, 2.5 h, 12 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.0f} days"


def size(count: float) -> str:
    """A number of bytes to read: 512 B, 3.4 MB, 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(count: int, noun: str) -> str:
    """A number of things: 1 run, 2 runs."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def first_line(text: str) -> str:
    """The first line of `text`; "" when there is none."""
    return text.splitlines()[0] if text else ""


def printable(line: str) -> str:
    """`line` without control characters, which could change the terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    echo(f"warning: {text}", err=True)


def echo(text: object = "", *, err: bool = False, nl: bool = True, painted: bool = False) -> None:
    """Print a text, on standard error with `err`, without control characters that files may hold.

    painted: keep the codes that set a style, as `painter` makes them.
    """
    parts = _STYLE.split(str(text)) if painted else [str(text)]
    parts[::2] = map(without_control, parts[::2])  # each second part is a code
    click.echo("".join(parts), err=err, nl=nl)


def without_control(text: str) -> str:
    """`text` without the characters that move the cursor, change colours or reverse the writing."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class PlainFormatter(logging.Formatter):
    """Formats log messages without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return without_control(super().format(record))


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")
_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")
