"""How values are written for people and for scripts."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import click


def print_json(value: Any) -> None:
    """Print JSON; of a list each item on a line of its own."""
    if isinstance(value, list):
        click.echo("[\n" + ",\n".join(map(json.dumps, value)) + "\n]")
    else:
        click.echo(json.dumps(value, indent=1))


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
