"""Run a plan as processes on this machine: one for each device, or several (`--pack`), each on one cell.

A cell ends as it would alone, and no failure reaches the others. Where memory runs out, a device gets fewer
cells at a time, and the cell is started again.
"""

import os
import time
from collections import Counter
from dataclasses import dataclass, field

from fairbench.core.devices import parse_device
from fairbench.core.errors import ConfigError
from fairbench.records.progress import ProgressListener
from fairbench.runner.executors.executor import Job, checked_by
from fairbench.runner.executors.process import Worker
from fairbench.runner.executors.queue import Queue

PAUSE = 0.1  # seconds between two looks at the processes


@dataclass
class DeviceSlot:
    """A device, its name for `--device`, and how many cells it takes at a time."""

    name: str
    device: str
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
            place.working.append(Worker(cell, run, place.device, place.env, job.time_limit))


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
    gpus = chosen_gpus(job)
    share = max(1, cores() // (job.pack * max(1, len(gpus))))
    threads = {**job.environment(), "OMP_NUM_THREADS": str(share)}
    if not gpus:
        return [DeviceSlot("the CPU", "cpu", job.pack, threads)]
    return [
        DeviceSlot(f"GPU {gpu}", "cuda", job.pack, {**threads, "CUDA_VISIBLE_DEVICES": gpu}) for gpu in gpus
    ]


def chosen_gpus(job: Job) -> tuple[str, ...]:
    """The GPUs of `--gpus` or `--device`, as CUDA_VISIBLE_DEVICES names them; () for the CPU.

    Raises ConfigError when the two contradict each other, EnvironmentFault for a GPU that is not there.
    """
    from fairbench.runner.device import missing_gpu, visible_gpus

    kind, number = parse_device(job.device)
    if job.gpus is not None and (kind == "cpu" or number is not None):
        raise ConfigError(f"--gpus with --device {job.device}.", hint="leave one of them out")
    if kind == "cpu":
        return ()
    there = visible_gpus()
    if number is not None:
        if number >= len(there):
            raise missing_gpu(number, there)
        return (there[number],)
    if job.gpus is None:
        if kind == "cuda" and not there:
            raise missing_gpu(None, there)
        return there
    for gpu in job.gpus:
        if gpu not in there:
            raise missing_gpu(gpu, there)
    return job.gpus


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
