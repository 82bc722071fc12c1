"""Progress of a run: bars on a terminal, plain lines elsewhere; and how a command that runs cells ends."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fairbench.cli.output import counted, duration, first_line
from fairbench.records.cell import Cell
from fairbench.records.progress import Progress, ProgressListener

if TYPE_CHECKING:
    from fairbench.runner.executors.choose import PreparedJob

LINE_SECONDS = 10.0


class Lines(ProgressListener):
    """A line when a cell starts and ends, and one every few seconds in between, on standard error."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.began = self.last = time.monotonic()
        self.name = ""

    def started(self, cell: Cell) -> None:
        self.name = f"[{self.done + 1}/{self.total}] {cell.slot}"
        self.began = self.last = time.monotonic()

    def ended(self, cell: Cell, state: str, reason: str) -> None:
        self.done += 1
        self.say(end_of(state, reason, self.began))

    def epoch(self, row: dict[str, Any]) -> None:
        self.say_rarely(f"epoch {row['epoch']}: {describe(row)}")

    def evaluation(self, attack: str, epoch: int, progress: Progress) -> None:
        self.say_rarely(f"evaluating {attack} at epoch {epoch}: {describe_attack(progress)}")

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        self.note(f"{self.name}: {text}")

    def say_rarely(self, text: str) -> None:
        """Print the line unless another one was printed in the last seconds."""
        if time.monotonic() - self.last > LINE_SECONDS:
            self.last = time.monotonic()
            self.say(text)


class Several(Lines):
    """A line when a cell starts and ends, for cells that other processes run at the same time."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.starts: dict[str, float] = {}

    def started(self, cell: Cell) -> None:
        if cell.id not in self.starts:  # a restart is not announced again
            self.note(f"{cell.slot}: started")
        self.starts.setdefault(cell.id, time.monotonic())

    def ended(self, cell: Cell, state: str, reason: str) -> None:
        self.done += 1
        began = self.starts.get(cell.id, time.monotonic())
        self.note(f"{cell.slot}: {end_of(state, reason, began)}")

    def note(self, text: str) -> None:
        print(f"[{self.done}/{self.total} done] {text}", file=sys.stderr, flush=True)


class Bars(ProgressListener):
    """A bar for the plan and one for the cell, with loss, worst class and time left."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[info]}"),
            console=Console(stderr=True),
        )
        self.plan = self.progress.add_task("plan", total=total, info="")
        self.task = self.progress.add_task("", total=None, info="", visible=False)
        self.began = 0.0
        self.loss = ""
        self.worst = ""

    def started(self, cell: Cell) -> None:
        self.began = time.monotonic()
        self.loss = self.worst = ""
        self.progress.reset(
            self.task,
            total=None,
            description=f"{cell.method} {cell.dataset} seed {cell.seed}",
            info="",
            visible=True,
        )

    def ended(self, cell: Cell, state: str, reason: str) -> None:
        self.note(f"{cell.slot}: {end_of(state, reason, self.began)}")
        self.progress.advance(self.plan)

    def note(self, text: str) -> None:
        self.progress.console.print(text, markup=False, highlight=False)

    def step(self, epoch: int, num_epochs: int, step: int, num_steps: int, loss: float | None) -> None:
        if loss is not None:
            self.loss = f"loss {loss:.3f}"
        done = (epoch - 1) * num_steps + step
        info = f"epoch {epoch}/{num_epochs} {self.loss} {self.worst}"
        self.progress.update(self.task, total=num_epochs * num_steps, completed=done, info=info)

    def epoch(self, row: dict[str, Any]) -> None:
        self.loss = f"loss {row['loss']:.3f}"
        self.worst = worst_text(row)

    def evaluation(self, attack: str, epoch: int, progress: Progress) -> None:
        info = f"{describe_attack(progress)} ({attack}, epoch {epoch})"
        self.progress.update(self.task, total=100, completed=round(100 * progress.done), info=info)


@contextmanager
def progress(total: int) -> Iterator[Bars | Lines]:
    """Bars when standard error is a terminal, else lines."""
    if not sys.stderr.isatty():
        yield Lines(total)
        return
    bars = Bars(total)
    with bars.progress:
        try:
            yield bars
        finally:
            bars.progress.update(bars.task, visible=False)


def end_of(state: str, reason: str, began: float) -> str:
    """How a cell ended that began at `began` on the monotonic clock, and how long it took."""
    took = f"{state} in {duration(time.monotonic() - began)}"
    return f"{took}: {first_line(reason)}" if reason else took


def describe(row: dict[str, Any]) -> str:
    """Loss and the worst class's training accuracy of one epoch."""
    return f"loss {row['loss']:.3f} {worst_text(row)}".rstrip()


def describe_attack(progress: Progress) -> str:
    """The stage of an attack, how much of it is done, the accuracy so far and the time left."""
    stage = f"{progress.stage} " if progress.stage else ""
    text = f"{stage}{100 * progress.done:.0f} %"
    if progress.robust is not None:
        text += f", {100 * progress.robust:.1f} % robust so far"
    return text + (f", {duration(progress.left)} left" if progress.left is not None else "")


def worst_text(row: dict[str, Any]) -> str:
    """The lowest class accuracy on training adversaries in an epoch."""
    known = [value for value in row["train_robust_accuracy"] if value is not None]
    return f"worst class {100 * min(known):.0f} %" if known else ""


def work_through(prepared: "PreparedJob") -> dict[str, str]:
    """Run the cells of a job and show progress; the state of each cell by id."""
    total = len(prepared.job.planned)
    if prepared.name == "inline":
        with progress(total) as shown:
            return prepared.run(shown)
    return prepared.run(Several(total))


def exit_with(states: Mapping[str, str]) -> NoReturn:
    """Print how many cells other processes work on, and exit: 1 when a cell failed or diverged, else 0."""
    counts = Counter(states.values())
    for state, where in (("running", "running in another process"), ("queued", "in the queue")):
        if counts[state]:
            click.echo(f"{counted(counts[state], 'cell')} {where}; see: fairbench status", err=True)
    sys.exit(1 if counts["failed"] or counts["diverged"] else 0)
