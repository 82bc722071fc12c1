"""`fairbench retry`: work once more on runs that failed."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import click

from fairbench.cli.execution import end, work_through
from fairbench.cli.options import (
    EXECUTOR_OPTIONS,
    device_option,
    executor_options,
    open_registry,
    registry_option,
    results_option,
)
from fairbench.core.errors import ConfigError
from fairbench.planning.cells import read_cell
from fairbench.planning.code_locations import located
from fairbench.planning.status import CellStatus, folder_state
from fairbench.records.read import find_run, scan


@click.command("retry")
@click.argument("runs", nargs=-1, metavar="[CELL...]")
@results_option
@registry_option
@device_option
@executor_options
@click.option("--failed", is_flag=True, help="All runs that failed.")
def retry_command(
    runs: tuple[str, ...],
    results: Path,
    registry_files: tuple[Path, ...],
    device: str,
    failed: bool,
    **how: Any,
) -> None:
    """Work once more on runs that failed, or on each CELL, whatever they were selected by.

    They continue from what they saved. A CELL that diverged begins anew. What was recorded before is kept as
    record.before.json.
    """
    if not runs and not failed:
        raise ConfigError("nothing to retry.", hint="name runs (see: fairbench status), or add --failed")
    registry = open_registry(registry_files)
    folders = [find_run(run, results) for run in runs]
    if failed:
        folders += [record.folder for record in scan(results)[0] if record.state == "failed"]
    chosen = []
    for folder in dict.fromkeys(folders):
        cell = located(read_cell(folder), registry)
        state, reason = folder_state(folder, cell)
        if state == "done":
            click.echo(f"{folder.name} is done: nothing to retry", err=True)
            continue
        chosen.append(CellStatus(cell, folder, state, reason))
        if state == "diverged":
            os.replace(folder / "record.json", folder / "record.before.json")
            for path in (folder / "checkpoints").glob("resume*.safetensors"):
                path.unlink()
    if not chosen:
        click.echo("nothing to retry")
        return
    states = work_through(chosen, results, registry, device, {name: how[name] for name in EXECUTOR_OPTIONS})
    counts = Counter(states.values())
    click.echo(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    end(states)
