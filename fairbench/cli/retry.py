"""`fairbench retry`: run failed cells again."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from fairbench.cli.command import Command
from fairbench.cli.completion import complete_runs
from fairbench.cli.options import open_registry, shared
from fairbench.cli.output import echo, print_json
from fairbench.cli.plan_summary import status_row
from fairbench.cli.progress import exit_with, work_through


@click.command("retry", cls=Command, epilog="Example: fairbench retry --failed")
@click.argument("runs", nargs=-1, metavar="[RUN...]", shell_complete=complete_runs)
@shared("results", "registry", "device", "executor", "json")
@click.option("--failed", is_flag=True, help="Retry every run that failed.")
def retry_command(
    runs: tuple[str, ...],
    results: Path,
    registry_files: tuple[Path, ...],
    device: str,
    failed: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Run cells again that failed, or the RUNs that you name.

    RUN is a run's folder, or the beginning of its name. A run that failed continues from its last saved
    state. A named run that diverged starts over; its old record is kept as record.before.json.
    """
    from fairbench.runner.executors.choose import prepare_job
    from fairbench.runner.retry import as_recorded, begin_anew, runs_to_retry

    registry = open_registry(registry_files)
    to_do, done = runs_to_retry(runs, results, registry, failed=failed)
    job = prepare_job(to_do, results, registry, device, **how)
    for item in done:
        echo(f"{item.folder.name} is done: nothing to retry", err=True)
    if not to_do:
        echo("[]" if as_json else "nothing to retry")
        return
    begin_anew(to_do)
    states = work_through(job)
    if as_json:
        print_json([status_row(item) for item in as_recorded(to_do)])
    else:
        echo(", ".join(f"{count} {state}" for state, count in sorted(Counter(states.values()).items())))
    exit_with(states)
