"""`fairbench clean`: delete what a results folder no longer needs."""

from pathlib import Path

import click

from fairbench.cli.command import Command
from fairbench.cli.options import shared
from fairbench.cli.output import echo, print_json, size
from fairbench.records.results_folder import ResultsFolder


@click.command("clean", cls=Command, epilog="Example: fairbench clean --weights --yes")
@shared("results", "json")
@click.option("--weights", is_flag=True, help="Also checkpoints of finished runs. New attacks need them.")
@click.option("--failed", is_flag=True, help="Also whole folders of runs that failed or diverged.")
@click.option("--unfinished", is_flag=True, help="Also whole folders of runs that have not ended.")
@click.option("--yes", is_flag=True, help="Delete. Without this option, nothing is deleted.")
def clean_command(
    results: Path, as_json: bool, weights: bool, failed: bool, unfinished: bool, yes: bool
) -> None:
    """List files that are no longer needed, with their size; delete them with --yes.

    These are files that killed processes left, and saved states of runs that have ended. Runs that a process
    works on are left alone.
    """
    from fairbench.runner.cleaning import find_waste, remove

    waste = list(find_waste(results, weights=weights, failed=failed, unfinished=unfinished))
    deleted = [item for item in waste if yes and remove(item)]
    if as_json:
        print_json(
            [{"path": str(w.path), "bytes": w.size, "why": w.why, "deleted": w in deleted} for w in waste]
        )
        return
    runs = ResultsFolder(results).runs
    for item in waste:
        echo(f"{size(item.size):>9}  {item.path.relative_to(runs)}: {item.why}")
    if not waste:
        echo("nothing to clean")
    elif yes:
        freed = size(sum(item.size for item in deleted))
        echo(f"deleted {len(deleted)} of {len(waste)}, {freed} freed")
    else:
        total = size(sum(item.size for item in waste))
        echo(f"{len(waste)} to delete, {total} in all; add --yes to delete them")
