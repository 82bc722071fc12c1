"""The executor that options ask for, checked before anything is printed or written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairbench.core.errors import ConfigError
from fairbench.planning.status import CellStatus
from fairbench.records.progress import ProgressListener
from fairbench.registry import Registry
from fairbench.runner.executors.executor import CheckedExecutor, Executor, Job, find_executor
from fairbench.runner.executors.profile import read_profile
from fairbench.runner.executors.slurm import queue_of

HERE = ("inline", "local")  # executors whose cells run on this machine


@dataclass(frozen=True)
class PreparedJob:
    """An executor with the job that it accepts."""

    name: str
    execute: Executor
    job: Job

    def update_attacks(self, planned: Sequence[CellStatus]) -> None:
        """Let the finished runs of a plan list the attacks that it asks for and what is evaluated."""
        for item in planned:
            if item.state == "done" and not item.cell.preparation:
                run, drop = self.job.run(item.cell), self.job.drops_attacks(item.cell)
                run.list_attacks(item.cell.evaluation, drop=drop)

    def run(self, listener: ProgressListener) -> dict[str, str]:
        """Work through the job; the state of each cell by id."""
        return self.execute(self.job, listener) if self.job.planned else {}


def prepare_job(
    planned: Sequence[CellStatus],
    results: Path,
    registry: Registry,
    device: str = "auto",
    *,
    executor: str | None = None,
    profile: Path | None = None,
    gpus: str | None = None,
    **limits: Any,
) -> PreparedJob:
    """The executor for the cells of `planned`, by default inline, or local where processes are asked for.

    gpus: numbers such as "0,1". limits: the other settings of a `Job`. Raises ConfigError, PluginError or
    EnvironmentFault for what the executor refuses and for cells that cannot be trained; nothing is written.
    """
    job = Job(
        planned=planned,
        results=results,
        registry=registry,
        device=device,
        gpus=None if gpus is None else parse_gpus(gpus),
        profile=read_profile(profile),
        queued=queue_of(results),
        **limits,
    )
    processes = job.pack > 1 or job.gpus is not None or job.time_limit is not None
    name = executor or ("local" if processes else "inline")
    execute = find_executor(name)
    if planned:
        if isinstance(execute, CheckedExecutor):
            execute.check(job)
        from fairbench.runner.cell_checks import check_cells

        check_cells([item.cell for item in planned], device, elsewhere=name not in HERE)
    if isinstance(execute, CheckedExecutor):
        execute = execute.execute
    return PreparedJob(name, execute, job)


def parse_gpus(text: str) -> tuple[str, ...]:
    """The numbers in "0,1". Raises ConfigError for anything else, and for a number that comes twice."""
    gpus = tuple(part.strip() for part in text.split(","))
    if not all(gpu.isdecimal() for gpu in gpus) or len(set(gpus)) < len(gpus):
        raise ConfigError(f"--gpus {text!r} does not name GPUs.", hint="write their numbers: --gpus 0,1")
    return gpus
