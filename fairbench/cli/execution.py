"""How `run` and `retry` work through cells, whoever does the work."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fairbench.cli.progress import Several, progress
from fairbench.core.errors import ConfigError
from fairbench.planning.status import CellStatus
from fairbench.registry import Registry


def work_through(
    unfinished: Sequence[CellStatus],
    results: Path,
    registry: Registry,
    device: str,
    how: Mapping[str, Any],
) -> dict[str, str]:
    """Hand the cells to the executor that the options `how` ask for; the state of each by id."""
    from fairbench.runner.executors.executor import Job, find_executor
    from fairbench.runner.executors.profile import read_profile

    processes = how["pack"] > 1 or how["gpus"] is not None or how["time_limit"] is not None
    name = how["executor"] or ("local" if processes else "inline")
    execute = find_executor(name)
    job = Job(
        planned=unfinished,
        results=results,
        registry=registry,
        device=device,
        pack=how["pack"],
        gpus=None if how["gpus"] is None else _numbers(how["gpus"]),
        time_limit=how["time_limit"],
        retries=how["retries"],
        wait=how["wait"],
        detach=how["detach"],
        profile=read_profile(how["profile"]),
    )
    if not unfinished:
        return {}
    if name == "inline":
        with progress(len(unfinished)) as shown:
            return execute(job, shown)
    return execute(job, Several(len(unfinished)))


def end(states: Mapping[str, str]) -> None:
    """Say what is left to others, and leave with the exit code of what was done here."""
    counts = Counter(states.values())
    for state, where in (
        ("running", "are being worked on by another process"),
        ("queued", "are in the queue"),
    ):
        if counts[state]:
            click.echo(f"{counts[state]} cells {where}; see: fairbench status", err=True)
    sys.exit(1 if counts["failed"] or counts["diverged"] else 0)


def _numbers(text: str) -> tuple[str, ...]:
    gpus = tuple(part.strip() for part in text.split(","))
    if not all(gpu.isdecimal() for gpu in gpus) or len(set(gpus)) < len(gpus):
        raise ConfigError(f"--gpus {text!r} does not name GPUs.", hint="write their numbers: --gpus 0,1")
    return gpus
