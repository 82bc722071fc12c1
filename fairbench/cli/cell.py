"""`fairbench cell`: run the cell of a run folder; every executor starts this command."""

import sys
from functools import partial
from pathlib import Path

import click

from fairbench.cli.command import Command
from fairbench.cli.options import PATH, open_registry, shared
from fairbench.cli.progress import progress


@click.command("cell", cls=Command)
@click.argument("folders", nargs=-1, required=True, type=PATH, metavar="FOLDER...")
@shared("device", "registry")
@click.option("--wait", is_flag=True, help="Wait for cells held by other processes; take over stale ones.")
@click.option("--until-eof", is_flag=True, help="Stop when standard input is closed.")
def cell_command(
    folders: tuple[Path, ...], device: str, registry_files: tuple[Path, ...], wait: bool, until_eof: bool
) -> None:
    """Train and evaluate the cell of each run FOLDER, one after the other.

    A cell that was interrupted continues; a finished one is left as it is. Schedulers start this command.
    The code of methods is found through the registry, never through paths in the folder. On SIGTERM and
    SIGUSR1 the training state is saved and the exit code is 75: start the same command again to continue.
    """
    from fairbench.records.run_folder import RunFolder
    from fairbench.runner.lease_wait import stop_at_eof, with_patience
    from fairbench.runner.worker import run_cell

    if until_eof:
        stop_at_eof()
    registry = open_registry(registry_files)
    runs = [RunFolder(folder) for folder in folders]
    cells = [run.read_cell() for run in runs]
    done = True
    with progress(cells) as shown:
        for run, cell in zip(runs, cells, strict=True):
            shown.started(cell)
            status = with_patience(run, wait, partial(run_cell, run.path, shown, registry, device))
            shown.ended(cell, status.state, status.reason)
            done &= status.state == "done"
    sys.exit(0 if done else 1)
