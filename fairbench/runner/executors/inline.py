"""Run a plan in this process, one cell after the other."""

import time

from fairbench.core.errors import EnvironmentFault, FairbenchError, LeaseHeldError, ResultsError
from fairbench.records.progress import ProgressListener
from fairbench.records.status import Status
from fairbench.runner.executors.executor import Job, checked_by
from fairbench.runner.executors.queue import Queue

PAUSE = 0.5  # seconds between two looks at what others do


def check(job: Job) -> None:
    """Raise ConfigError for options that need processes, EnvironmentFault without device or precision."""
    from fairbench.runner.device import check_precision, choose_device

    processes = "cells run in this process; use --executor local"
    job.refuse("inline", pack=processes, gpus=processes, time_limit=processes, detach="use --executor slurm")
    device = choose_device(job.device)
    for precision in {item.cell.entry: item.cell.full_protocol.precision for item in job.planned}.values():
        check_precision(precision, device)


@checked_by(check)
def execute(job: Job, listener: ProgressListener) -> dict[str, str]:
    """Work through the job in order; the state of each cell by id."""
    from fairbench.runner.worker import run_cell

    queue = Queue(job, listener)
    while not queue.over:
        cell = queue.next()
        if cell is None:
            time.sleep(PAUSE)
            continue
        listener.started(cell)
        try:
            run = job.prepare(cell)
            run_cell(run.path, listener, job.registry, job.device)
            status = run.recorded(cell)
        except LeaseHeldError as error:
            queue.left_to_others(cell, error.message)
            continue
        except (EnvironmentFault, ResultsError):
            raise  # the next cell would meet the same
        except FairbenchError as error:
            status = Status("failed", str(error))
        queue.ended(cell, status)
    return queue.states
