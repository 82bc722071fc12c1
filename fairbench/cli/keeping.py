"""`fairbench merge`, `logs`, `retry` and `clean`: the care of a results folder."""

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from fairbench.cli.execution import end, work_through
from fairbench.cli.options import (
    EXECUTOR_OPTIONS,
    device_option,
    executor_options,
    json_option,
    open_registry,
    print_json,
    registry_option,
    results_option,
)
from fairbench.cli.plan_summary import as_size
from fairbench.core.errors import ConfigError, RecordError
from fairbench.core.files import read_json
from fairbench.planning.cells import read_cell
from fairbench.planning.code_locations import located
from fairbench.planning.status import RUNS, CellStatus, folder_state
from fairbench.records.read import find_run, scan
from fairbench.runner.logs import LOG

TAIL = 20  # lines


@click.command("merge")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@results_option
@json_option
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def merge_command(sources: tuple[Path, ...], results: Path, as_json: bool, dry_run: bool) -> None:
    """Join results folders: copy the runs of each DIR into --results.

    A run that both have stays, and attacks that only the other has evaluated are added. Two runs of one
    cell with different outcomes are a conflict: the one in --results stays. Exit code 1 if there is any.
    """
    from fairbench.records.merge import merge

    found = [each for source in sources for each in merge(source, results, dry_run=dry_run)]
    if as_json:
        print_json([{"folder": str(m.folder), "action": m.action, "why": m.why} for m in found])
    else:
        for each in found:
            if each.action not in ("added", "same"):
                click.echo(f"{each.action}: {each.folder.name}: {each.why}")
        counts = Counter(each.action for each in found)
        said = ", ".join(f"{count} {action}" for action, count in sorted(counts.items())) or "no runs"
        click.echo(f"{said} in {results}" + (" (nothing was done)" if dry_run else ""))
    sys.exit(1 if any(each.action == "conflict" for each in found) else 0)


@click.command("logs")
@click.argument("run", metavar="CELL")
@results_option
@click.option("--all", "whole", is_flag=True, help=f"All of it, not only the last {TAIL} lines.")
def logs_command(run: str, results: Path, whole: bool) -> None:
    """Show what happened to a CELL: its attempts, how it ended, and what its workers said.

    CELL is a run folder, or the beginning of its name.
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
        click.echo(f"{as_size(waste.size):>9}  {waste.path.relative_to(results / RUNS)}: {waste.why}")
    total = as_size(sum(waste.size for waste in found))
    if not found:
        click.echo("nothing to clean")
    elif yes:
        click.echo(f"deleted {len(gone)} of {len(found)}, {as_size(sum(waste.size for waste in gone))} freed")
    else:
        click.echo(f"{len(found)} to delete, which frees {total}; add --yes to do it")


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
