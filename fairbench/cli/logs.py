"""`fairbench logs`: what happened to one run."""

from pathlib import Path
from typing import Any

import click

from fairbench.cli.options import results_option
from fairbench.core.errors import RecordError
from fairbench.core.files import read_json
from fairbench.planning.cells import read_cell
from fairbench.planning.status import folder_state
from fairbench.records.read import find_run
from fairbench.runner.logs import LOG

TAIL = 20  # lines


@click.command("logs", epilog="Example: fairbench logs trix.cifar10.resnet18.trix-150.seed0")
@click.argument("run", metavar="RUN")
@results_option
@click.option("--all", "whole", is_flag=True, help=f"Print whole files instead of the last {TAIL} lines.")
def logs_command(run: str, results: Path, whole: bool) -> None:
    """Show a run's attempts, its state, and the end of its log and error file.

    RUN is a run's folder, or the beginning of its name.
    """
    folder = find_run(run, results)
    click.echo(str(folder))
    for attempt in _attempts(folder):
        device = attempt.get("device") or {}
        where = device.get("name") or device.get("type")
        command = " ".join(map(str, attempt.get("command") or ()))
        click.echo(_harmless(f"{attempt.get('started')}  on {where}, {command}"))
    state, reason = folder_state(folder, read_cell(folder))
    click.echo(_harmless(f"state: {state}" + (f": {reason}" if reason else "")))
    for name in (LOG, "error.txt"):
        if (folder / name).is_file():
            lines = (folder / name).read_text(errors="replace").splitlines()
            shown = lines if whole else lines[-TAIL:]
            cut = (
                f" (the last {TAIL} of {len(lines)} lines; --all shows them)"
                if len(shown) < len(lines)
                else ""
            )
            click.echo(f"\n{name}{cut}:")
            click.echo("\n".join(_harmless(line) for line in shown))


def _attempts(folder: Path) -> list[dict[str, Any]]:
    """What provenance.json says of each attempt, the first one first."""
    try:
        last = dict(read_json(folder / "provenance.json"))
        return [each for each in [*last.pop("earlier", []), last] if isinstance(each, dict)]
    except (RecordError, TypeError, ValueError):
        return []


def _harmless(line: str) -> str:
    """A line without characters that would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line)
