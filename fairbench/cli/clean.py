"""`fairbench clean`: delete what a results folder no longer needs."""

from pathlib import Path

import click

from fairbench.cli.options import json_option, results_option
from fairbench.cli.output import print_json, size
from fairbench.planning.status import RUNS


@click.command("clean")
@results_option
@json_option
@click.option("--weights", is_flag=True, help="Checkpoints of done runs too; new attacks need them.")
@click.option("--failed", is_flag=True, help="Runs that failed or diverged too, all of them.")
@click.option("--unfinished", is_flag=True, help="Runs that never ended too, all of them.")
@click.option("--yes", is_flag=True, help="Do it. Without this, nothing is deleted.")
def clean_command(
    results: Path, as_json: bool, weights: bool, failed: bool, unfinished: bool, yes: bool
) -> None:
    """Say what nobody needs any more and how much it frees; delete it with --yes.

    Left-overs of killed processes, and what finished runs kept for a resume. Never what somebody works on.
    """
    from fairbench.runner.cleaning import find_waste, remove

    found = list(find_waste(results, weights=weights, failed=failed, unfinished=unfinished))
    gone = [waste for waste in found if yes and remove(waste)]
    if as_json:
        print_json(
            [{"path": str(w.path), "bytes": w.size, "why": w.why, "deleted": w in gone} for w in found]
        )
        return
    for waste in found:
        click.echo(f"{size(waste.size):>9}  {waste.path.relative_to(results / RUNS)}: {waste.why}")
    total = size(sum(waste.size for waste in found))
    if not found:
        click.echo("nothing to clean")
    elif yes:
        click.echo(f"deleted {len(gone)} of {len(found)}, {size(sum(waste.size for waste in gone))} freed")
    else:
        click.echo(f"{len(found)} to delete, which frees {total}; add --yes to do it")
