"""`fairbench merge`: copy runs from other results folders."""

import sys
from collections import Counter
from pathlib import Path

import click

from fairbench.cli.command import Command
from fairbench.cli.options import PATH, shared
from fairbench.cli.output import echo, print_json


@click.command("merge", cls=Command, epilog="Example: fairbench merge ../colleague/results")
@click.argument("sources", nargs=-1, required=True, type=PATH, metavar="DIR...")
@shared("results", "json")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
def merge_command(sources: tuple[Path, ...], results: Path, as_json: bool, dry_run: bool) -> None:
    """Copy the runs of each DIR into the results folder.

    A finished run in --results stays as it is; attacks that only DIR has evaluated are added to it. Two
    finished runs of the same cell that differ are a conflict: the one in --results stays, and the exit code
    is 1. After an interruption the same command continues.
    """
    from fairbench.records.merge import merge

    merged = [run for source in sources for run in merge(source, results, dry_run=dry_run)]
    if as_json:
        print_json([{"folder": str(run.folder), "action": run.action, "why": run.why} for run in merged])
    else:
        for run in merged:
            if run.action not in ("added", "same"):
                echo(f"{run.action}: {run.folder.name}: {run.why}")
        counts = sorted(Counter(run.action for run in merged).items())
        actions = ", ".join(f"{count} {action}" for action, count in counts) or "no runs"
        echo(f"{actions} in {results}" + (" (nothing was changed)" if dry_run else ""))
    sys.exit(1 if any(run.action == "conflict" for run in merged) else 0)
