"""`fairbench logs`: what happened to one run."""

from pathlib import Path
from typing import Any

import click

from fairbench.cli.options import results_option
from fairbench.core.errors import RecordError
from fairbench.records.results_folder import find_run
from fairbench.records.run_folder import RunFolder

TAIL = 20  # lines


@click.command("logs", epilog="Example: fairbench logs trix.cifar10.resnet18.trix-150.seed0")
@click.argument("name", metavar="RUN")
@results_option
@click.option("--all", "whole", is_flag=True, help=f"Print whole files instead of the last {TAIL} lines.")
def logs_command(name: str, results: Path, whole: bool) -> None:
    """Show a run's attempts, its state, and the end of its log and error file.

    RUN is a run's folder, or the beginning of its name.
    """
    run = find_run(name, results)
    click.echo(str(run.path))
    for attempt in _attempts(run):
        device = attempt.get("device") or {}
        where = device.get("name") or device.get("type")
        command = " ".join(map(str, attempt.get("command") or ()))
        click.echo(_harmless(f"{attempt.get('started')}  on {where}, {command}"))
    status = run.recorded()
    click.echo(_harmless(f"state: {status.state}" + (f": {status.reason}" if status.reason else "")))
    for file in (run.log_file, run.error_file):
        if file.is_file():
            lines = file.read_text(errors="replace").splitlines()
            shown = lines if whole else lines[-TAIL:]
            cut = (
                f" (the last {TAIL} of {len(lines)} lines; --all shows them)"
                if len(shown) < len(lines)
                else ""
            )
            click.echo(f"\n{file.name}{cut}:")
            click.echo("\n".join(_harmless(line) for line in shown))


def _attempts(run: RunFolder) -> list[dict[str, Any]]:
    """What is known of each attempt, the first one first; nothing when that file is damaged."""
    try:
        return run.attempts()
    except RecordError:
        return []


def _harmless(line: str) -> str:
    """A line without characters that would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line)
