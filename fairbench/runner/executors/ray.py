"""Run a plan on a Ray cluster (Ray Core): one task for each cell, wherever Ray finds the resources.

The results folder has to be the same on all its machines. A cluster is joined, never started: nothing of
fairbench listens on a network.
"""

import os
import socket
import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fairbench.core.errors import ConfigError, EnvironmentFault
from fairbench.core.lease import LeaseWatch, read_lease
from fairbench.records.cell import Cell
from fairbench.records.parse import parse_cell
from fairbench.records.progress import ProgressListener
from fairbench.records.run_folder import RunFolder
from fairbench.records.status import State, Status
from fairbench.registry.fields import Model
from fairbench.runner.executors.executor import Job, checked_by
from fairbench.runner.executors.process import Worker
from fairbench.runner.executors.queue import Queue

CONNECT_SECONDS = 10.0
PAUSE = 0.2  # seconds between two looks at a process


class Ray(Model):
    """The section `ray` of a profile."""

    address: str = Field("auto", description="of the cluster; auto: $RAY_ADDRESS or the one on this machine")
    gpus: float | None = Field(None, ge=0, description="of each cell, also in part; by default 1, on a CPU 0")
    cpus: float = Field(1.0, ge=0, description="of each cell")
    resources: dict[str, Annotated[float, Field(ge=0)]] = Field({}, description="Ray's custom ones")


def check(job: Job) -> None:
    """Raise ConfigError for options that Ray decides itself, EnvironmentFault without package or cluster."""
    job.refuse(
        "ray",
        pack="give cells a part of a GPU: `gpus: 0.5` in the section `ray` of --profile FILE",
        gpus="Ray chooses them",
        detach="start the command with nohup",
    )
    settings = job.profile.section("ray", Ray)
    job.refuse_gpu_number("ray")
    if job.device == "cuda" and settings.gpus == 0:
        raise ConfigError(
            "--device cuda, but the section `ray` of the profile has `gpus: 0`.",
            hint="leave one of them out",
        )
    ray = _ray()
    _join(ray, settings.address)
    needed, there = gpus_of_cell(settings, job), ray.cluster_resources().get("GPU", 0.0)
    if needed > there:
        raise EnvironmentFault(
            f"a cell needs {needed:g} GPU, and the Ray cluster has {there:g}.",
            hint="use --device cpu, or set `gpus` in the section `ray` of --profile FILE",
        )


@checked_by(check)
def execute(job: Job, listener: ProgressListener) -> dict[str, str]:
    """Work through the job on the cluster; the state of each cell by id.

    Ray starts a cell again, up to `retries` times, whose worker or node was lost; it continues where it was.
    """
    settings = job.profile.section("ray", Ray)
    ray = _ray()
    gpus = gpus_of_cell(settings, job)
    device = "cuda" if gpus else "cpu"
    task: Any = ray.remote(
        num_gpus=gpus, num_cpus=settings.cpus, resources=settings.resources, max_retries=job.retries
    )(work)
    queue, running = Queue(job, listener), dict[Any, Cell]()
    try:
        while not queue.over or running:
            while (cell := queue.next([each.id for each in running.values()])) is not None:
                run = _prepared(cell, queue)
                if run is not None:
                    where = (str(run.path.absolute()), device, job.environment(), job.time_limit)
                    running[task.remote(cell.to_json(), *where)] = cell
            done, _ = ray.wait(list(running), timeout=1.0) if running else ([], [])
            for reference in done:
                cell = running.pop(reference)
                try:
                    status = Status(*ray.get(reference))
                except ray.exceptions.RayError as error:
                    status = Status("failed", f"{type(error).__name__}: {first_line(str(error))}")
                queue.ended(cell, status)
            if not running:
                time.sleep(PAUSE)
    finally:
        for reference in running:
            ray.cancel(reference)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=30.0)
        ray.shutdown()
    return queue.states


def gpus_of_cell(settings: Ray, job: Job) -> float:
    """How many GPUs a cell needs, also a part of one."""
    if settings.gpus is not None:
        return settings.gpus
    return 0.0 if job.device == "cpu" else 1.0


def work(
    cell: dict[str, Any], folder: str, device: str, env: dict[str, str], time_limit: float | None
) -> tuple[State, str]:
    """On a machine of the cluster: work on a cell until it ends; its state and the reason.

    A lease whose owner went down with its node is waited for until it is stale.
    """
    watch, run = LeaseWatch(), RunFolder(Path(folder))
    parsed = parse_cell(cell, run.cell_file)
    run.list_attacks(parsed.evaluation)  # another command may have dropped them while this task waited
    while True:
        worker = Worker(parsed, run, device, env, time_limit)
        try:
            while not worker.over():
                time.sleep(PAUSE)
        finally:
            if worker.process.poll() is None:
                worker.ask()
                worker.stop()
        end = worker.end()
        if end.kind != "held":
            return end.status.state, end.status.reason
        while read_lease(run.lease_file) is not None and not watch.remove_dead(run.lease_file):
            time.sleep(1.0)


def _prepared(cell: Cell, queue: Queue) -> RunFolder | None:
    """The cell's run folder; None when it cannot be made, or another process works in it."""
    run = queue.start(cell)
    if run is None:
        return None
    if (owner := run.owner()) is not None:
        queue.left_to_others(cell, f"process {owner.get('pid')} on {owner.get('host')} works on it.")
        return None
    return run


def _ray() -> Any:
    """The library, which is an extra. Raises EnvironmentFault without it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise EnvironmentFault(
            "the executor ray needs the package ray.", hint="pip install 'fairbench-at[ray]'"
        ) from error
    return ray


def _join(ray: Any, address: str) -> None:
    """Connect to a running cluster. Raises EnvironmentFault when there is none."""
    if ray.is_initialized():
        return
    try:
        _require_listener(address)
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except (OSError, ValueError, RuntimeError) as error:
        raise EnvironmentFault(
            f"no Ray cluster at {address!r}: {first_line(str(error))}",
            hint="start one (ray start --head --node-ip-address 127.0.0.1 --include-dashboard false), "
            "or set `address` in the section `ray` of --profile FILE",
        ) from error


def _require_listener(address: str) -> None:
    """Raise OSError when nothing listens at HOST:PORT; Ray itself tries for minutes and ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def first_line(text: str) -> str:
    """The first line of `text` that is not blank."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
