"""`fairbench cell`: work on one run folder, which is what every scheduler starts."""

import sys
from functools import partial
from pathlib import Path

import click

from fairbench.cli.options import device_option, open_registry, registry_option
from fairbench.cli.progress import progress


@click.command("cell")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FOLDER...")
@device_option
@registry_option
@click.option("--wait", is_flag=True, help="Wait for whoever works on a cell, and take over from the dead.")
@click.option("--until-eof", is_flag=True, help="Stop when standard input ends.")
def cell_command(
    folders: tuple[Path, ...], device: str, registry_files: tuple[Path, ...], wait: bool, until_eof: bool
) -> None:
    """Start the cell in a run FOLDER, resume it, or do nothing when it is done; several one after the other.

    This is the command that any scheduler has to start. Code is looked up in the registry, never where a
    folder says. SIGTERM and SIGUSR1 save the state of the training
    and end it with exit code 75: start the same command again.
    """
    from fairbench.core.files import read_sealed
    from fairbench.planning.cells import read_cell
    from fairbench.runner.lease_wait import stop_at_eof, with_patience
    from fairbench.runner.worker import run_cell

    if until_eof:
        stop_at_eof()
    registry = open_registry(registry_files)
    cells = [(folder, read_cell(folder)) for folder in folders]
    states = []
    with progress(len(cells)) as shown:
        for folder, cell in cells:
            shown.started(cell)
            state = with_patience(folder, wait, partial(run_cell, folder, shown, registry, device))
            shown.ended(cell, state, str(read_sealed(folder / "record.json").get("reason") or ""))
            states.append(state)
    sys.exit(0 if set(states) == {"done"} else 1)
