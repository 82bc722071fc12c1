"""Progress of a run: bars on a terminal, plain lines elsewhere; and how a command that runs cells ends."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from fairbench.cli.output import counted, duration, echo, first_line, without_control
from fairbench.cli.streams import output_dropped
from fairbench.records.cell import Cell
from fairbench.records.progress import Progress, ProgressListener
from fairbench.records.run_folder import RunFolder
from fairbench.runner.plan_time import PlanTime

if TYPE_CHECKING:
    from fairbench.planning.cost import Estimate
    from fairbench.runner.executors.choose import PreparedJob

LINE_SECONDS = 10.0  # before the first line of a cell
SLOWER = 0.05  # share of the time so far that has to pass before the next line
LINE_SECONDS_AT_MOST = 600.0
LOOK_SECONDS = 2.0  # between two looks at the cells of other processes
BARS = 8  # cells at work that are shown


class JobProgress(ProgressListener):
    """What a display of the cells of a job has in common: the cells at work and the time left."""

    def __init__(self, cells: Sequence[Cell], costs: Mapping[str, float]) -> None:
        self.total, self.done = len(cells), 0
        self.time = PlanTime(list(cells), costs)
        self.at_work: dict[str, Cell] = {}
        self.begins: dict[str, float] = {}
        self.cell: Cell | None = None  # that runs in this process
        self.said: dict[str, float] = {}  # when a line about a cell at work was printed

    def started(self, cell: Cell) -> None:
        self.cell, self.at_work[cell.id] = cell, cell
        self.begins.setdefault(cell.id, time.monotonic())
        self.time.started(cell)

    def ended(self, cell: Cell, state: str, reason: str) -> None:
        self.done += 1
        self.at_work.pop(cell.id, None)
        self.time.ended(cell, worked=state != "running")
        self.note(f"{cell.slot}: {end_of(state, reason, self.begins.get(cell.id, time.monotonic()))}")

    def time_left(self, seconds: float, text: str) -> None:
        if self.cell is not None:
            self.show_left(self.cell, seconds, text)

    def show_left(self, cell: Cell, seconds: float, text: str) -> None:
        """A cell at work takes so long still."""
        self.time.cell_left(cell.id, seconds)

    def look(self, folder_of: Callable[[Cell], RunFolder]) -> None:
        """Read the time left of the cells at work, which run in other processes."""
        for cell in sorted(self.at_work.values(), key=lambda cell: self.said.get(cell.id, 0.0)):
            progress = folder_of(cell).read_progress()
            if progress is not None:
                self.show_left(cell, *progress)


class Lines(JobProgress):
    """A line when a cell starts and ends, and one now and then in between, on standard error."""

    def __init__(self, cells: Sequence[Cell] = (), costs: Mapping[str, float] = MappingProxyType({})) -> None:
        super().__init__(cells, costs)
        self.began = self.last = time.monotonic()
        self.name = ""
        self.info = ""

    def started(self, cell: Cell) -> None:
        if cell.id not in self.begins:  # a restart is not announced again
            self.note(f"{cell.slot}: started")
        super().started(cell)
        self.name, self.info = cell.slot, ""
        self.began = self.last = time.monotonic()

    def epoch(self, row: dict[str, Any]) -> None:
        self.info = describe(row)

    def evaluation(self, attack: str, epoch: int, progress: Progress) -> None:
        self.info = describe_attack(progress, with_left=False)

    def show_left(self, cell: Cell, seconds: float, text: str) -> None:
        super().show_left(cell, seconds, text)
        parts = (f"{text}, {left_text(seconds)}", self.info if cell is self.cell else "")
        self.name = cell.slot
        if self.say_rarely(", ".join(filter(None, parts)) + self.plan_text()):
            self.said[cell.id] = self.last

    def plan_text(self) -> str:
        """The time left of all cells, where there are several."""
        left = self.time.left() if self.total > 1 else None
        return "" if left is None else f"; {left_text(left)} for all"

    def note(self, text: str) -> None:
        line = f"[{self.done}/{self.total} done] {text}" if self.total else text
        print(without_control(line), file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        self.note(f"{self.name}: {text}" if self.name else text)

    def say_rarely(self, text: str) -> bool:
        """Print the line unless another one was printed shortly before; whether it was printed."""
        now = time.monotonic()
        pause = min(LINE_SECONDS_AT_MOST, max(LINE_SECONDS, SLOWER * (now - self.began)))
        if now - self.last <= pause:
            return False
        self.last = now
        self.say(text)
        return True


class Bars(JobProgress):
    """A bar for all cells and one for each cell at work, with the time left, in 80 columns."""

    def __init__(self, cells: Sequence[Cell], costs: Mapping[str, float], console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        super().__init__(cells, costs)
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=26)),
            BarColumn(bar_width=8),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True, min_width=11)),
            TextColumn("{task.fields[info]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console or Console(stderr=True),
        )
        self.plan = self.progress.add_task(
            f"{self.total} cells", total=self.total, left="", info=f"0/{self.total}"
        )
        self.tasks: dict[str, Any] = {}  # by cell id
        self.loss = self.worst = ""
        self.here = False  # whether the cells run in this process

    def started(self, cell: Cell) -> None:
        super().started(cell)
        self.loss = self.worst = ""
        if cell.id not in self.tasks and len(self.tasks) < BARS:
            name = f"{cell.method} {cell.dataset} seed {cell.seed}"
            self.tasks[cell.id] = self.progress.add_task(name, total=None, left="", info="")

    def ended(self, cell: Cell, state: str, reason: str) -> None:
        super().ended(cell, state, reason)
        if cell.id in self.tasks:
            self.progress.remove_task(self.tasks.pop(cell.id))
        self.progress.update(self.plan, completed=self.done, info=f"{self.done}/{self.total}")

    def note(self, text: str) -> None:
        self.progress.console.print(without_control(text), markup=False, highlight=False)

    def step(self, epoch: int, num_epochs: int, step: int, num_steps: int, loss: float | None) -> None:
        if loss is not None:
            self.loss = f"loss {loss:.3f}"
        info = " ".join(filter(None, (f"epoch {epoch}/{num_epochs}", self.loss, self.worst)))
        self._show(total=num_epochs * num_steps, completed=(epoch - 1) * num_steps + step, info=info)

    def epoch(self, row: dict[str, Any]) -> None:
        self.loss = f"loss {row['loss']:.3f}"
        self.worst = worst_text(row)

    def evaluation(self, attack: str, epoch: int, progress: Progress) -> None:
        info = f"{attack} {describe_attack(progress, with_left=False)} (epoch {epoch})"
        self._show(total=100, completed=round(100 * progress.done), info=info)

    def _show(self, **fields: Any) -> None:
        self.here = True
        if self.cell is not None and self.cell.id in self.tasks:
            self.progress.update(self.tasks[self.cell.id], **fields)

    def show_left(self, cell: Cell, seconds: float, text: str) -> None:
        super().show_left(cell, seconds, text)
        if cell.id in self.tasks:
            task, taken = self.tasks[cell.id], time.monotonic() - self.begins[cell.id]
            if not self.here:  # the steps are not reported to this process
                self.progress.update(task, total=taken + seconds, completed=taken, info=text)
            self.progress.update(task, left=left_text(seconds))
        left = self.time.left()
        if left is not None:
            self.progress.update(self.plan, left=left_text(left))


@contextmanager
def progress(
    cells: Sequence[Cell], costs: Mapping[str, float] = MappingProxyType({})
) -> Iterator[JobProgress]:
    """Bars when standard error is a terminal, else lines."""
    if not sys.stderr.isatty():
        yield Lines(cells, costs)
        return
    bars = Bars(cells, costs)
    with bars.progress:
        try:
            yield bars
        finally:
            for task in bars.tasks.values():
                bars.progress.update(task, visible=False)


def left_text(seconds: float) -> str:
    """The time left in a few characters."""
    return f"{duration(seconds)} left"


def end_of(state: str, reason: str, began: float) -> str:
    """How a cell ended that began at `began` on the monotonic clock, and how long it took."""
    took = f"{state} in {duration(time.monotonic() - began)}"
    return f"{took}: {first_line(reason)}" if reason else took


def describe(row: dict[str, Any]) -> str:
    """Loss and the worst class's training accuracy of one epoch."""
    return f"loss {row['loss']:.3f} {worst_text(row)}".rstrip()


def describe_attack(progress: Progress, *, with_left: bool = True) -> str:
    """The stage of an attack, how much of it is done, the accuracy so far and the time left of the attack."""
    stage = f"{progress.stage} " if progress.stage else ""
    text = f"{stage}{100 * progress.done:.0f} %"
    if progress.robust is not None:
        text += f", {100 * progress.robust:.1f} % robust so far"
    return text + (f", {left_text(progress.left)}" if with_left and progress.left is not None else "")


def worst_text(row: dict[str, Any]) -> str:
    """The lowest class accuracy on training adversaries in an epoch."""
    known = [value for value in row["train_robust_accuracy"] if value is not None]
    return f"worst class {100 * min(known):.0f} %" if known else ""


def work_through(
    prepared: "PreparedJob", costs: "Mapping[str, Estimate]" = MappingProxyType({})
) -> dict[str, str]:
    """Run the cells of a job and show progress; the state of each cell by id.

    `costs`: the estimates of the cells by id, to share out the time left.
    """
    job = prepared.job
    seconds = {id: cost.seconds for id, cost in costs.items()}
    with output_dropped(), progress([item.cell for item in job.planned], seconds) as shown:
        if prepared.name == "inline":
            return prepared.run(shown)
        over = threading.Event()
        watcher = threading.Thread(target=_watch, args=(shown, job.run, over), daemon=True)
        watcher.start()
        try:
            return prepared.run(shown)
        finally:
            over.set()
            watcher.join()


def _watch(shown: JobProgress, folder_of: Callable[[Cell], RunFolder], over: threading.Event) -> None:
    """Show the time left of cells in other processes until `over`."""
    while not over.wait(LOOK_SECONDS):
        shown.look(folder_of)


def exit_with(states: Mapping[str, str]) -> NoReturn:
    """Print how many cells other processes work on, and exit: 1 when a cell failed or diverged, else 0."""
    counts = Counter(states.values())
    for state, where in (("running", "running in another process"), ("queued", "in the queue")):
        if counts[state]:
            echo(f"{counted(counts[state], 'cell')} {where}; see: fairbench status", err=True)
    sys.exit(1 if counts["failed"] or counts["diverged"] else 0)
