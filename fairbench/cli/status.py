"""`fairbench status`: the runs in a results folder and their progress."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from fairbench.cli.options import shared, states_listed
from fairbench.cli.output import columns, counted, duration, first_line, print_json
from fairbench.records.results_folder import Problem
from fairbench.runner.overview import RunStatus, overview, watch

HEADER = ("method", "data set", "model", "protocol", "seed", "state", "epoch", "left", "worker", "")


@click.command("status")
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

    "left" is the training time that remains, at the speed of the last epochs.
    """
    runs, problems = overview(results)
    if as_json:
        print_json(
            {"runs": [run.to_json() for run in runs], "problems": [str(problem) for problem in problems]}
        )
    elif not runs and not problems:
        click.echo(f"no runs in {results}; start with: fairbench run")
    elif live:
        show_live(results)
    else:
        click.echo(as_text(runs))
        _warn(problems)


def as_text(runs: Sequence[RunStatus]) -> str:
    """The table of all runs and a line that counts them."""
    rows = [
        (
            *(str(row[key]) for key in ("method", "dataset", "model", "protocol", "seed", "state")),
            f"{row['epoch']}/{row['epochs']}",
            "" if row["left"] is None else duration(row["left"]),
            row["worker"],
            first_line(row["reason"]),
        )
        for row in (run.to_json() for run in runs)
    ]
    shown = [i for i in range(len(HEADER)) if i < 7 or any(row[i] for row in rows)]
    table = columns([tuple(row[i] for i in shown) for row in rows], tuple(HEADER[i] for i in shown))
    return f"{table}\n\n{summary(runs)}"


def summary(runs: Sequence[RunStatus]) -> str:
    """How many runs are in which state, and the longest training time that remains."""
    counts = sorted(Counter(run.state for run in runs).items())
    text = f"{counted(len(runs), 'run')}: " + ", ".join(f"{count} {state}" for state, count in counts)
    left = [run.left for run in runs if run.left is not None]
    workers = len({run.worker for run in runs if run.worker})
    if workers:
        text += f"; {counted(workers, 'worker')}"
    return text + (f"; {duration(max(left))} of training left" if left else "")


def show_live(results: Path) -> None:
    """Update the table in place on a terminal; elsewhere print it whenever it has changed."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    before = ""
    with Live(console=Console(), auto_refresh=False) as live:
        for look in watch(results):
            runs, problems = look
            text = as_text(runs)
            if sys.stdout.isatty():
                live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
            elif text != before:
                click.echo(text + "\n")
            before = text
    _warn(problems)


def _warn(problems: Sequence[Problem]) -> None:
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
