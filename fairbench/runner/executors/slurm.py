"""Run a plan as an array of Slurm jobs, from a script that can be read, kept and submitted again.

`results/slurm/NAME/` holds `job.sh`, `cells.txt` (a run folder in each line), what the tasks printed, and the
number of the job. Before its time limit a task is warned, saves its state and goes back into the queue.
"""

import logging
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fairbench.core.errors import ConfigError, EnvironmentFault, RecordError
from fairbench.core.files import make_folder, read_json, write_atomic, write_json
from fairbench.core.regular import read_regular
from fairbench.core.stopping import REQUEUE
from fairbench.planning.status import CellStatus
from fairbench.records.progress import ProgressListener
from fairbench.records.results_folder import ResultsFolder
from fairbench.records.status import Status
from fairbench.registry.fields import Model
from fairbench.runner.executors.executor import Job, checked_by

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
LOST_AFTER = 3  # looks at a queue that does not have a task any more, and at a folder without a record
IN_QUEUE = frozenset(
    """PENDING RUNNING SUSPENDED COMPLETING CONFIGURING REQUEUED REQUEUE_HOLD REQUEUE_FED RESIZING SIGNALING
    SPECIAL_EXIT STAGE_OUT STOPPED""".split()  # noqa: SIM905 (readable)
)
JOB_NUMBER = re.compile(r"(?:Submitted batch job )?([0-9]+)(?:;\S+| on cluster \S+)?")
Line = Annotated[str, Field(pattern=r"^[^\n\r\x00]*$")]
"""Text that cannot begin a line of its own in a script."""


class Slurm(Model):
    """The section `slurm` of a profile."""

    partition: Line | None = None
    account: Line | None = None
    time: Line | None = Field(None, description="limit of a task as sbatch takes it: 04:00:00, or minutes")
    gpus: int = Field(1, ge=0, description="of each task; 0: --device cpu")
    cpus: int | None = Field(None, ge=1, description="of each task")
    memory: Line | None = Field(None, description="of each task: 32G")
    at_a_time: int | None = Field(None, ge=1, description="tasks that may run at the same time")
    cells_per_task: int = Field(1, ge=1, description="one after the other; for short cells")
    warn_seconds: int = Field(120, ge=10, description="before the limit: the state is saved. Not punctual")
    requeues: int = Field(100, ge=0, description="how often a task may go on after its limit")
    setup: str = Field("", description="lines of shell before the work, such as `module load cuda`")
    options: dict[Line, Line] = Field({}, description="any other option of sbatch: {qos: long}")


def check(job: Job) -> None:
    """Raise ConfigError for options that belong in the profile, EnvironmentFault without Slurm."""
    elsewhere = "set it in the section `slurm` of --profile FILE"
    job.refuse("slurm", pack=elsewhere, gpus=elsewhere, time_limit=elsewhere)
    settings = job.profile.section("slurm", Slurm)
    job.refuse_gpu_number("slurm")
    if job.device == "cuda" and settings.gpus == 0:
        raise ConfigError(
            "--device cuda, but the section `slurm` of the profile has `gpus: 0`.",
            hint="leave one of them out",
        )
    require_slurm()


@checked_by(check)
def execute(job: Job, listener: ProgressListener) -> dict[str, str]:
    """Submit the job and stay until its last task is over, unless it is to be detached.

    Cells that an earlier job still has in the queue are not submitted again. When this process is asked to
    stop, the job is cancelled; what its tasks saved is kept.
    """
    settings = job.profile.section("slurm", Slurm)
    queued = queue_of(job.results)
    states, new = {}, []
    for item in job.planned:
        if item.cell.folder_name in queued:
            listener.note(f"{item.cell.slot}: is in the queue already ({queued[item.cell.folder_name]})")
            states[item.cell.id] = "queued"
        else:
            new.append(item)
    if not new:
        return states
    device = "cpu" if settings.gpus == 0 else job.device if job.device != "auto" else "cuda"
    made = [run for item in new if not (run := job.run(item.cell)).path.exists()]
    folder = write_job(new, job, settings, device)
    answer = _slurm("sbatch", "--parsable", str(folder / "job.sh"))
    if answer.returncode != 0:
        for path in (folder, *(run.path for run in made if run.owner() is None)):
            shutil.rmtree(path, ignore_errors=True)
        raise EnvironmentFault(
            f"sbatch refuses the job: {answer.stderr.strip()}",
            hint="correct the section `slurm` of --profile FILE",
        )
    number = submitted(folder, settings.cells_per_task, answer.stdout)
    for item in new:  # another command may have dropped them before this job was in the queue
        job.run(item.cell).list_attacks(item.cell.evaluation)
    listener.note(f"job {number}: {len(new)} cells; {folder / 'job.sh'}")
    if job.detach:
        return states | {item.cell.id: "queued" for item in new}
    try:
        return states | follow(number, new, job, settings.cells_per_task, listener)
    except BaseException:
        _slurm("scancel", number)
        listener.note(f"job {number} is cancelled; the same command continues what it left")
        raise


def write_job(planned: Sequence[CellStatus], job: Job, settings: Slurm, device: str) -> Path:
    """Make the run folders and a folder of the job with its script; the latter."""
    folders = [job.prepare(item.cell).path.absolute() for item in planned]
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = make_folder(ResultsFolder(job.results).jobs / name).absolute()
    text = "".join(f"{path}\n" for path in folders)
    write_atomic(folder / "cells.txt", lambda file: file.write(text.encode()))
    content = script(folder, len(folders), settings, device, job.environment())
    write_atomic(folder / "job.sh", lambda file: file.write(content.encode()))
    os.chmod(folder / "job.sh", 0o755)
    return folder


def script(folder: Path, num_cells: int, settings: Slurm, device: str, env: Mapping[str, str]) -> str:
    """The script of an array: options and variables, then `task.sh`."""
    per_task = settings.cells_per_task
    command = shlex.join([sys.executable, "-m", "fairbench.cli", "cell", "--device", device, "--wait"])
    lines = [
        "#!/bin/bash",
        f"# Written by fairbench: {num_cells} cells, {per_task} to a task. It may be read, kept and",
        "# submitted again; cells that are done do nothing.",
        *sbatch_options(folder, -(-num_cells // per_task), settings),
        settings.setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in env.items()),
        f"cells_per_task={per_task}",
        f"cells_file={shlex.quote(str(folder / 'cells.txt'))}",
        f"command=({command})",
        f"requeue_code={REQUEUE}",
        f"requeues={settings.requeues}",
    ]
    return "\n".join((*lines, "", Path(__file__).with_name("task.sh").read_text()))


def sbatch_options(folder: Path, num_tasks: int, settings: Slurm) -> list[str]:
    """The lines of the script that sbatch reads."""
    limit = f"%{settings.at_a_time}" if settings.at_a_time else ""
    options = {
        "job-name": "fairbench",
        "array": f"0-{num_tasks - 1}{limit}",
        "output": str(folder / "task-%a.log"),
        "open-mode": "append",
        "partition": settings.partition,
        "account": settings.account,
        "time": settings.time,
        "gres": f"gpu:{settings.gpus}" if settings.gpus else None,
        "cpus-per-task": settings.cpus,
        "mem": settings.memory,
        "signal": f"B:USR1@{settings.warn_seconds}" if settings.time else None,
        **settings.options,
    }
    given = {name: str(value) for name, value in options.items() if value is not None}
    lines = [f"--{name}={shlex.quote(value) if ' ' in value else value}" for name, value in given.items()]
    return [f"#SBATCH {line}" for line in (*lines, "--requeue")]


def submitted(folder: Path, per_task: int, answer: str) -> str:
    """The number of the job in `folder`, which is stored there. Raises EnvironmentFault without a number."""
    number = job_number(answer)
    if number is None:
        raise EnvironmentFault(
            f"sbatch accepted the job, but no line of its answer is a job number: {answer.strip()!r}",
            hint=f"the job may be in the queue: squeue --me; its script is {folder / 'job.sh'}",
        )
    write_json(folder / "job.json", {"schema": 1, "job": number, "cells_per_task": per_task})
    return number


def job_number(answer: str) -> str | None:
    """The number of the job in what sbatch printed: the last line that is one; None without such a line.

    A site may print a banner around the number, or ignore `--parsable`.
    """
    lines = [JOB_NUMBER.fullmatch(line.strip()) for line in answer.splitlines()]
    numbers = [line[1] for line in lines if line is not None]
    return numbers[-1] if numbers else None


def follow(
    number: str, planned: Sequence[CellStatus], job: Job, per_task: int, listener: ProgressListener
) -> dict[str, str]:
    """Report the start and end of each cell until all have ended; returns their states by id."""
    waiting = {i: item.cell for i, item in enumerate(planned)}
    started: set[int] = set()
    missed: dict[int, int] = {}
    before = {i: job.run(cell).record_stamp() for i, cell in waiting.items()}
    states: dict[str, str] = {}
    while waiting:
        time.sleep(POLL_SECONDS)
        tasks = tasks_of(number)
        for i, cell in list(waiting.items()):
            run = job.run(cell)
            working = run.owner() is not None
            if working and i not in started:
                started.add(i)
                listener.started(cell)
            if working or tasks is None:
                continue
            in_queue = tasks.get(i // per_task, ("", ""))[0] in IN_QUEUE
            status = run.recorded(cell)
            ended = status.finished or run.record_stamp() != before[i]
            missed[i] = 0 if in_queue else missed.get(i, 0) + 1
            if not ended and missed[i] >= LOST_AFTER:
                why = tasks.get(i // per_task, ("no longer known", ""))[0]
                status, ended = Status("failed", f"its task left the queue ({why}) without a record"), True
            if ended:
                del waiting[i]
                if i not in started:
                    listener.started(cell)
                listener.ended(cell, status.state, status.reason)
                states[cell.id] = status.state
    return states


def queue_of(results: Path) -> dict[str, str]:
    """The state of each run folder that Slurm has in its queue, by the folder's name; {} without Slurm."""
    queued: dict[str, str] = {}
    for folder in sorted(ResultsFolder(results).jobs.glob("*/")):
        try:
            about = read_json(folder / "job.json")
            number, per_task = job_number(str(about["job"])), int(about["cells_per_task"])
            cells = read_regular(folder / "cells.txt").decode().splitlines()
        except (RecordError, OSError, KeyError, TypeError, ValueError):
            continue  # not submitted, or not ours
        if number is None or shutil.which("squeue") is None:
            continue
        for task, (state, reason) in (tasks_of(number) or {}).items():
            if state in IN_QUEUE:
                for path in cells[task * per_task : (task + 1) * per_task]:
                    why = f", {reason}" if reason not in ("", "None") else ""
                    queued[Path(path).name] = f"slurm {number}_{task}: {state.lower()}{why}"
    return queued


def tasks_of(number: str) -> dict[int, tuple[str, str]] | None:
    """State and reason of each task of a job; {} when Slurm forgot it, None when it does not answer."""
    answer = _slurm("squeue", "-h", "-r", "-t", "all", "-j", number, "-o", "%K|%T|%r")
    if answer.returncode != 0:
        if "Invalid job id" in answer.stderr:
            return {}
        logger.warning("squeue does not answer: %s", answer.stderr.strip())
        return None
    tasks = {}
    for line in answer.stdout.splitlines():
        task, _, rest = line.partition("|")
        if task.isdecimal():
            state, _, reason = rest.partition("|")
            tasks[int(task)] = (state, reason)
    return tasks


def require_slurm() -> None:
    """Raise EnvironmentFault where Slurm's commands are not installed."""
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise EnvironmentFault(
            f"{', '.join(missing)} cannot be found: this machine has no Slurm.",
            hint="log in to the cluster, or take --executor local",
        )


def _slurm(*command: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} took over a minute")
