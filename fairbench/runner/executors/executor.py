"""The interface of executors: jobs, results, and how an executor is looked up by its name.

An executor is a function `execute(job, listener)`, known by the name of its entry point in the group
`fairbench.executors`, or as `file.py:function`. It only has to start `fairbench cell FOLDER` on a machine
that sees the folder: that process takes the lease, resumes the run and leaves its record.
"""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from fairbench.core.devices import parse_device
from fairbench.core.errors import ConfigError, PluginError, suggest
from fairbench.core.files import gone
from fairbench.core.imports import load_object
from fairbench.planning.status import CellStatus
from fairbench.records.cell import Cell
from fairbench.records.progress import ProgressListener
from fairbench.records.results_folder import ResultsFolder
from fairbench.records.run_folder import RunFolder
from fairbench.registry import Registry
from fairbench.runner.executors.profile import Profile

GROUP = "fairbench.executors"


@dataclass(frozen=True)
class Job:
    """A plan to be worked through.

    `planned`: the cells that are not finished, in order. `registry`: where their code is looked up; an
    executor that starts `fairbench cell` in another process passes `environment` on. `pack`: cells at a time
    on each device. `gpus`: the devices to use, by number; None for all. `time_limit`: seconds for an attempt
    at a cell. `retries`: how often a cell is started again whose process died. `wait`: wait for cells held by
    other processes, and take over stale ones. `detach`: submit the work and return. `queued`: names of run
    folders that a scheduler has in its queue for an earlier job.
    """

    planned: Sequence[CellStatus]
    results: Path
    registry: Registry
    device: str = "auto"
    pack: int = 1
    gpus: tuple[str, ...] | None = None
    time_limit: float | None = None
    retries: int = 1
    wait: bool = False
    detach: bool = False
    profile: Profile = Profile()
    queued: Collection[str] = ()
    prepared: set[str] = field(default_factory=set)  # ids of cells whose folders were made

    def run(self, cell: Cell) -> RunFolder:
        """The run folder of a cell."""
        return ResultsFolder(self.results).run(cell)

    def prepare(self, cell: Cell) -> RunFolder:
        """The run folder of a cell, made. Raises ResultsError or SchemaError.

        The folder of all runs is not made again when it was removed or unmounted meanwhile.
        """
        runs = ResultsFolder(self.results).runs
        if self.prepared and not runs.is_dir():
            raise gone(runs)
        self.prepared.add(cell.id)
        return ResultsFolder(self.results).prepare(cell, drop=self.drops_attacks(cell))

    def drops_attacks(self, cell: Cell) -> bool:
        """Whether attacks that only earlier commands asked for are dropped: not those of a queued job."""
        return cell.folder_name not in self.queued

    def environment(self) -> dict[str, str]:
        """What another process needs to find the same registry."""
        files = os.pathsep.join(str(path.absolute()) for path in self.registry.files)
        return {"FAIRBENCH_REGISTRY": files} if files else {}

    def refuse(self, executor: str, **unusable: str) -> None:
        """Raise ConfigError for a setting that was given and means nothing to `executor`."""
        for name, instead in unusable.items():
            default = type(self).__dataclass_fields__[name].default
            if getattr(self, name) != default:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{option} cannot be used with the executor {executor}.", hint=instead)

    def refuse_gpu_number(self, executor: str) -> None:
        """Raise ConfigError for --device cuda:N, where a scheduler chooses the GPU."""
        if parse_device(self.device).number is not None:
            raise ConfigError(
                f"--device {self.device} cannot be used with the executor {executor}.",
                hint=f"{executor} chooses the GPUs; use --device cuda",
            )


Executor = Callable[[Job, ProgressListener], dict[str, str]]
"""Works through a job; the state of each cell by its id: done, diverged, failed, running or queued.

A cell that fails does not stop the others. When this process is stopped, so is what it started.
"""


@dataclass(frozen=True)
class CheckedExecutor:
    """An executor with a check that raises, before anything is printed or written, what it would refuse."""

    check: Callable[[Job], None]
    execute: Executor

    def __call__(self, job: Job, listener: ProgressListener) -> dict[str, str]:
        self.check(job)
        return self.execute(job, listener)


def checked_by(check: Callable[[Job], None]) -> Callable[[Executor], CheckedExecutor]:
    """A decorator for an executor's function: `check` raises the errors of a job that it cannot do."""
    return lambda execute: CheckedExecutor(check, execute)


def find_executor(name: str) -> Executor:
    """The executor called `name`. Raises ConfigError, or PluginError when it cannot be loaded."""
    known = {point.name: point.value for point in entry_points(group=GROUP)}
    target = name if ".py:" in name else known.get(name)
    if target is None:
        close = suggest(name, known)
        raise ConfigError(
            f"no executor called {name!r}.",
            hint=(f"did you mean: {close}\n" if close else "")
            + f"known: {', '.join(sorted(known))}, file.py:function",
        )
    try:
        function = load_object(target)
    except (Exception, SystemExit) as error:  # the module may raise anything
        raise PluginError(
            f"the executor {name!r} cannot be loaded: {type(error).__name__}: {error}."
        ) from error
    if not callable(function):
        raise PluginError(
            f"the executor {name!r} is not a function.",
            hint="write: def execute(job, listener) -> dict[str, str]",
        )
    return function  # type: ignore[no-any-return]
