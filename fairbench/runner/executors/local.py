"""Run a plan as processes on this machine: one for each device, or several (`--pack`), each on one cell.

A cell ends as it would alone, and no failure reaches the others. Where memory runs out, a device gets fewer
cells at a time, and the cell is started again.
"""

import os
import time
from collections import Counter
from dataclasses import dataclass, field

from fairbench.core.errors import ConfigError, EnvironmentFault
from fairbench.core.processes import query_gpus
from fairbench.records.progress import ProgressListener
from fairbench.runner.executors.executor import Job, checked_by
from fairbench.runner.executors.process import Worker
from fairbench.runner.executors.queue import Queue

PAUSE = 0.1  # seconds between two looks at the processes


@dataclass
class DeviceSlot:
    """A device and how many cells it takes at a time."""

    name: str
    capacity: int
    env: dict[str, str]
    working: list[Worker] = field(default_factory=list)


def check(job: Job) -> None:
    """Raise ConfigError for --detach, and the errors of `places_of`."""
    job.refuse("local", detach="use --executor slurm, or start the command with nohup")
    places_of(job)


@checked_by(check)
def execute(job: Job, listener: ProgressListener) -> dict[str, str]:
    """Work through the job on all its devices; the state of each cell by id."""
    queue, places, died = Queue(job, listener), places_of(job), Counter[str]()
    try:
        while not queue.over or any(place.working for place in places):
            for place in places:
                for worker in [each for each in place.working if each.over()]:
                    place.working.remove(worker)
                    settle(worker, place, queue, died, job.retries)
                fill(place, places, queue, job)
            time.sleep(PAUSE)
    finally:
        left = [worker for place in places for worker in place.working]
        for worker in left:
            worker.ask()
        for worker in left:
            worker.stop()
    return queue.states


def fill(place: DeviceSlot, places: list[DeviceSlot], queue: Queue, job: Job) -> None:
    """Start cells until the place is full or there are none."""
    while len(place.working) < place.capacity:
        working = [worker.cell.id for each in places for worker in each.working]
        cell = queue.next(working)
        if cell is None:
            return
        run = queue.start(cell)
        if run is not None:
            place.working.append(Worker(cell, run, job.device, place.env, job.time_limit))


def settle(worker: Worker, place: DeviceSlot, queue: Queue, died: Counter[str], retries: int) -> None:
    """What follows from the end of an attempt."""
    end, cell = worker.end(), worker.cell
    if end.kind == "held":
        queue.left_to_others(cell, end.status.reason)
    elif end.kind == "memory" and place.capacity > 1:
        place.capacity = max(1, len(place.working))
        queue.again(
            cell, f"memory ran out; again, and {place.name} takes {place.capacity} at a time from now on"
        )
    elif end.kind in ("died", "stopped") and died[cell.id] < retries:
        died[cell.id] += 1
        queue.again(cell, f"{end.status.reason}; started again, it continues where it was")
    else:
        queue.ended(cell, end.status)


def places_of(job: Job) -> list[DeviceSlot]:
    """The devices that the job asks for. Raises ConfigError or EnvironmentFault when they are not there."""
    gpus = () if job.device == "cpu" else job.gpus if job.gpus is not None else visible_gpus()
    if job.device == "cpu" and job.gpus:
        raise ConfigError("--gpus with --device cpu.", hint="leave one of them out")
    if job.device == "cuda" and not gpus:
        raise EnvironmentFault(
            "no CUDA device is visible.",
            hint="use --device cpu, or name them: --gpus 0,1",
        )
    share = max(1, cores() // (job.pack * max(1, len(gpus))))
    threads = {**job.environment(), "OMP_NUM_THREADS": str(share)}
    if not gpus:
        return [DeviceSlot("the CPU", job.pack, threads)]
    return [DeviceSlot(f"GPU {gpu}", job.pack, {**threads, "CUDA_VISIBLE_DEVICES": gpu}) for gpu in gpus]


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, by number or name, without asking torch."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return tuple(gpu.strip() for gpu in given.split(",") if gpu.strip() not in ("", "-1"))
    return tuple(query_gpus("index"))


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
