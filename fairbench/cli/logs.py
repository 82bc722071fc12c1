"""`fairbench logs`: what happened to one run."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from fairbench.cli.command import Command
from fairbench.cli.completion import complete_runs
from fairbench.cli.options import shared
from fairbench.cli.output import echo, print_json, printable
from fairbench.core.errors import RecordError
from fairbench.core.regular import read_end
from fairbench.records.results_folder import find_run
from fairbench.records.run_folder import RunFolder

TAIL = 20  # lines
MAX_BYTES = 16 << 20  # of a log that are read


@click.command("logs", cls=Command, epilog="Example: fairbench logs trix.cifar10.resnet18.trix-150.seed0")
@click.argument("name", metavar="RUN", shell_complete=complete_runs)
@shared("results", "json")
@click.option("--all", "whole", is_flag=True, help=f"Print whole files instead of the last {TAIL} lines.")
def logs_command(name: str, results: Path, whole: bool, as_json: bool) -> None:
    """Show a run's attempts, its state, and the end of its log and error file.

    RUN is a run's folder, or the beginning of its name.
    """
    run = find_run(name, results)
    if as_json:
        print_json(facts(run, whole))
        return
    echo(str(run.path))
    for attempt in attempts(run):
        echo(printable(attempt))
    status = run.recorded()
    echo(printable(f"state: {status.state}" + (f": {status.reason}" if status.reason else "")))
    for file in (run.log_file, run.error_file):
        if file.is_file():
            show_file(file, whole)


def facts(run: RunFolder, whole: bool) -> dict[str, Any]:
    """The same as is printed, for programs."""
    status = run.recorded()
    files = {file.name: file for file in (run.log_file, run.error_file) if file.is_file()}
    texts = {name: read_end(file, MAX_BYTES)[0].decode(errors="replace") for name, file in files.items()}
    return {
        "folder": str(run.path),
        "attempts": attempts(run),
        "state": status.state,
        "reason": status.reason,
        "files": {name: text.splitlines()[0 if whole else -TAIL :] for name, text in texts.items()},
    }


def attempts(run: RunFolder) -> list[str]:
    """A line for each attempt, the first one first: when it began, its device and command.

    Empty when provenance.json is missing or damaged.
    """
    lines = []
    with suppress(RecordError):
        for attempt in run.attempts():
            device = attempt.get("device") or {}
            command = " ".join(map(str, attempt.get("command") or ()))
            lines.append(
                f"{attempt.get('started')}  on {device.get('name') or device.get('type')}, {command}"
            )
    return lines


def show_file(file: Path, whole: bool) -> None:
    """Print a log file, or its last lines."""
    content, complete = read_end(file, MAX_BYTES)
    lines = content.decode(errors="replace").splitlines()
    shown = lines if whole else lines[-TAIL:]
    cut = ""
    if len(shown) < len(lines):
        count = f"{len(lines)} lines" if complete else "more lines"
        cut = f" (the last {TAIL} of {count}; --all shows the others)"
    elif not complete:
        cut = f" (its last {MAX_BYTES >> 20} MB)"
    echo(f"\n{file.name}{cut}:")
    echo("\n".join(printable(line) for line in shown))
