"""`fairbench status`: what a results folder holds."""

from contextlib import suppress
from pathlib import Path

import click

from fairbench.cli.options import columns, json_option, print_json, results_option
from fairbench.core.claims import is_live, read_claim
from fairbench.core.errors import RecordError
from fairbench.plan.cells import read_cell
from fairbench.plan.status import folder_state
from fairbench.records.curves import read_epochs
from fairbench.records.read import UNFINISHED, scan


@click.command("status")
@results_option
@json_option
def status_command(results: Path, as_json: bool) -> None:
    """Show every run in a results folder, what it does and how far it is."""
    records, problems = scan(results)
    found = []
    for record in records:
        owner = read_claim(record.folder / "claim")
        live = owner is not None and is_live(record.folder / "claim", owner)
        state, reason = record.state, record.reason
        if state == "done":  # an attack asked for later may be missing
            with suppress(RecordError):
                state, reason = folder_state(record.folder, read_cell(record.folder))
        state = "running" if live else "partial" if state == UNFINISHED else state
        epochs = read_epochs(record.folder)
        found.append(
            {
                "folder": record.folder.name,
                "method": record.method,
                "dataset": record.dataset,
                "model": record.model,
                "protocol": record.protocol,
                "seed": record.seed,
                "state": state,
                "epoch": epochs[-1]["epoch"] if epochs else 0,
                "epochs": record.num_epochs,
                "reason": reason,
            }
        )
    if as_json:
        print_json({"runs": found, "problems": [str(problem) for problem in problems]})
        return
    if not found and not problems:
        click.echo(f"no runs in {results}; start with: fairbench run")
        return
    rows = [
        (
            *(str(row[key]) for key in ("method", "dataset", "model", "protocol", "seed", "state")),
            f"{row['epoch']}/{row['epochs']}",
            str(row["reason"]).splitlines()[0] if row["reason"] else "",
        )
        for row in found
    ]
    click.echo(columns(rows, ("method", "data set", "model", "protocol", "seed", "state", "epoch", "")))
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
