"""`fairbench status`: the runs in a results folder and their progress."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from fairbench.cli.command import Command
from fairbench.cli.options import shared, states_listed
from fairbench.cli.output import (
    columns,
    counted,
    duration,
    echo,
    first_line,
    print_json,
    warn,
    without_control,
)
from fairbench.records.results_folder import Problem
from fairbench.runner.overview import RunStatus, overview, watch

HEADER = ("method", "data set", "model", "protocol", "seed", "state", "epoch", "left", "worker", "")
PRINT_SECONDS = 60.0  # between two tables without a terminal


@click.command("status", cls=Command)
@shared("results", "json")
@click.option(
    "--watch",
    "live",
    is_flag=True,
    help="Update the list until nothing has run or been queued for 20 seconds.",
)
@states_listed
def status_command(results: Path, as_json: bool, live: bool) -> None:
    """List every run in a results folder: its state, progress and worker.

    {states}

    "left" is the time that training and evaluation still take, by the steps measured so far.
    """
    runs, problems = overview(results)
    if as_json:
        print_json(
            {"runs": [run.to_json() for run in runs], "problems": [str(problem) for problem in problems]}
        )
    elif not runs and not problems:
        echo(f"no runs in {results}; start with: fairbench run")
    elif live:
        show_live(results)
    else:
        echo(as_text(runs))
        _warn(problems)


def as_text(runs: Sequence[RunStatus], width: int | None = None) -> str:
    """The table of all runs and a line that counts them.

    With `width`, the columns that fit; those that tell runs apart, the state and the time left come first.
    """
    rows = [
        (
            *(str(row[key]) for key in ("method", "dataset", "model", "protocol", "seed", "state")),
            f"{row['epoch']}/{row['epochs']}",
            "" if row["left"] is None else duration(row["left"]),
            row["worker"],
            first_line(row["reason"]) or row["at"],
        )
        for row in (run.to_json() for run in runs)
    ]
    shown = [i for i in range(len(HEADER)) if i < 7 or any(row[i] for row in rows)]
    text = _table(rows, shown)
    if width is not None and len(text.splitlines()[0]) > width:
        apart = [i for i in range(5) if len({row[i] for row in rows}) > 1] or [0]
        text = _table(rows, [*apart, 5, 7, 6, 9, *(i for i in range(5) if i not in apart), 8])
        text = "\n".join(line[:width].rstrip() for line in text.splitlines())
    return f"{text}\n\n{summary(runs)}"


def _table(rows: Sequence[tuple[str, ...]], shown: Sequence[int]) -> str:
    return columns([tuple(row[i] for i in shown) for row in rows], tuple(HEADER[i] for i in shown))


def summary(runs: Sequence[RunStatus]) -> str:
    """How many runs are in which state, and the longest time that remains."""
    counts = sorted(Counter(run.state for run in runs).items())
    text = f"{counted(len(runs), 'run')}: " + ", ".join(f"{count} {state}" for state, count in counts)
    left = [run.left for run in runs if run.left is not None]
    workers = len({run.worker for run in runs if run.worker})
    if workers:
        text += f"; {counted(workers, 'worker')}"
    return text + (f"; at most {duration(max(left))} left for those at work" if left else "")


def show_live(results: Path) -> None:
    """Update the table in place on a terminal; elsewhere print it when a state has changed or each minute."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console, before, printed = Console(), None, 0.0
    with Live(console=console, auto_refresh=False) as live:
        for look in watch(results):
            runs, problems = look
            states = [(run.record.folder, run.state, run.worker) for run in runs]
            if sys.stdout.isatty():
                text = without_control(as_text(runs, console.width))
                live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
            elif states != before or time.monotonic() - printed > PRINT_SECONDS:
                echo(as_text(runs) + "\n")
                printed = time.monotonic()
            before = states
    _warn(problems)


def _warn(problems: Sequence[Problem]) -> None:
    for problem in problems:
        warn(str(problem))
