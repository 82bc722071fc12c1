"""`fairbench retry`: run failed cells again."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from fairbench.cli.options import open_registry, shared
from fairbench.cli.output import echo
from fairbench.cli.progress import exit_with, work_through


@click.command("retry", epilog="Example: fairbench retry --failed")
@click.argument("runs", nargs=-1, metavar="[RUN...]")
@shared("results", "registry", "device", "executor")
@click.option("--failed", is_flag=True, help="Retry every run that failed.")
def retry_command(
    runs: tuple[str, ...],
    results: Path,
    registry_files: tuple[Path, ...],
    device: str,
    failed: bool,
    **how: Any,
) -> None:
    """Run cells again that failed, or the RUNs that you name.

    RUN is a run's folder, or the beginning of its name. A run that failed continues from its last saved
    state. A named run that diverged starts over; its old record is kept as record.before.json.
    """
    from fairbench.runner.executors.choose import prepare_job
    from fairbench.runner.retry import begin_anew, runs_to_retry

    registry = open_registry(registry_files)
    to_do, done = runs_to_retry(runs, results, registry, failed=failed)
    job = prepare_job(to_do, results, registry, device, **how)
    for item in done:
        echo(f"{item.folder.name} is done: nothing to retry", err=True)
    if not to_do:
        echo("nothing to retry")
        return
    begin_anew(to_do)
    states = work_through(job)
    echo(", ".join(f"{count} {state}" for state, count in sorted(Counter(states.values()).items())))
    exit_with(states)
