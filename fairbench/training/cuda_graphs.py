"""Training steps as CUDA graphs: captured once per epoch and replayed, one launch in place of thousands.

A CUDA graph repeats the very kernels of the step that was captured, on the same memory. What changes from
step to step is copied there first: the batch, and the seeds of the draws. Epochs may differ in anything (the
method's state, `ctx.epoch`, the learning rate), so each epoch captures its own graph. A watched step before
shows whether the step can be captured; if not, the steps of the epoch run plainly and the reason is logged.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any
from typing import Protocol as Interface

import torch
from torch import Tensor

from fairbench.attacks.draws import Draws
from fairbench.data.batch import Batch
from fairbench.objectives.contract import Context
from fairbench.training.networks import first_line

WAITS = "called a synchronizing CUDA operation"  # torch's own words

WORTH_CAPTURING = 12
"""With so many steps in an epoch a graph saves time: capturing costs as much as a few plain steps."""

Step = Callable[[Batch, Context, bool], None]
"""Runs a step; the flag asks to check the contract."""


class Graphs(Interface):
    """Captures work on one kind of device."""

    def working(self) -> Any:
        """A context in which all work, captured or not, has to be done."""

    def watched(self) -> Any:
        """A context that gives a list; reasons why the work inside cannot be captured are added to it."""

    def capture(self, work: Callable[[], object], draws: Sequence[Draws]) -> Callable[[], None]:
        """Capture `work` without doing it; returns what does it. `draws` may be reseeded before each time."""

    def close(self) -> None:
        """Free the memory of graphs."""


class GraphedSteps:
    """Runs the steps of one epoch after another: checked ones plainly, a watched one, then a graph.

    `batch_size` is that of the steps to capture; others, such as an epoch's last one, run plainly.
    `fallback_reason`: why the steps of this epoch are not captured.
    """

    def __init__(self, graphs: Graphs, batch_size: int) -> None:
        self.graphs, self.batch_size = graphs, batch_size
        self.fallback_reason: str | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """A context in which all steps have to be run; graphs are freed at its end."""
        try:
            with self.graphs.working():
                yield
        finally:
            self.graphs.close()

    def begin(self, plain: Step, num_steps: int, state: Any, waits: str = "") -> None:
        """Prepare for an epoch of `num_steps` steps, each of which `plain` runs.

        `state` is that of the method, `waits` its reason for waiting for the device, if it declares one.
        """
        self.plain, self.num_steps, self.state = plain, num_steps, state
        self.fallback_reason = f"the method waits for the device: {waits}" if waits else None
        self._purposes: list[str] | None = None  # of the draws of a step, in order
        self._draws: list[Draws] = []
        self._batch: Batch | None = None
        self._replay: Callable[[], None] | None = None

    def step(self, batch: Batch, ctx: Context, check: bool) -> None:
        """Run one step."""
        usual = len(batch) == self.batch_size and self.num_steps >= WORTH_CAPTURING
        if check or self.fallback_reason is not None or not usual:
            self.plain(batch, ctx, check)
        elif self._purposes is None:
            self._watch(batch, ctx)
        elif self._replay is None and not self._capture(batch, ctx):
            self.plain(batch, ctx, False)
        else:
            self._repeat(batch, ctx)

    def _watch(self, batch: Batch, ctx: Context) -> None:
        """Run a plain step, and note what it draws and whether it can be captured."""
        with self.graphs.watched() as reasons:
            self._purposes, obstacles = watched_step(self.plain, batch, ctx, self.state)
        self.fallback_reason = next(iter([*reasons, *obstacles]), None)

    def _capture(self, batch: Batch, ctx: Context) -> bool:
        """Capture the step without running it; returns whether that was possible."""
        draws = [ctx.rng(purpose) for purpose in self._purposes or ()]
        static = replace(batch, **{name: value.clone() for name, value in tensors(batch).items()})

        def work() -> None:
            expected = iter(zip(self._purposes or (), draws, strict=True))

            def rng(purpose: str) -> Draws:
                name, given = next(expected, ("", None))
                if name != purpose or given is None:
                    raise RuntimeError(f"it draws for {purpose!r} in this step and did not in the last one")
                return given

            self.plain(static, replace(ctx, rng=rng), False)

        try:
            self._replay = self.graphs.capture(work, draws)
        except Exception as error:  # raised by a plugin or by torch: any kind is possible
            self.fallback_reason = first_line(error)
            return False
        self._batch, self._draws = static, draws
        return True

    def _repeat(self, batch: Batch, ctx: Context) -> None:
        """Replay the captured step on this batch and with the draws of `ctx`."""
        assert self._replay is not None
        given = tensors(batch)
        for name, static in tensors(self._batch).items():
            static.copy_(given[name])
        for purpose, draws in zip(self._purposes or (), self._draws, strict=True):
            draws.reseed(ctx.rng(purpose).generator.initial_seed())
        self._replay()


def watched_step(step: Step, batch: Batch, ctx: Context, state: Any) -> tuple[list[str], list[str]]:
    """Run a step; the purposes of its draws in order, and the reasons why a graph could not repeat it.

    A graph repeats what `on_step_end` does to tensors of the method's `state` where they are. It would repeat
    neither a new tensor in their place nor a change of a number.
    """
    purposes: list[str] = []
    watched_ctx = WatchedContext.over(ctx)
    # The aliases keep the memory of a replaced tensor, so that its address is not given to the new one.
    before = {
        name: value.detach() if isinstance(value, Tensor) else value for name, value in vars(state).items()
    }

    def rng(purpose: str) -> Draws:
        purposes.append(purpose)
        return ctx.rng(purpose)

    step(batch, replace(watched_ctx, rng=rng), False)
    reasons = ["the method reads ctx.step"] if watched_ctx.read else []
    for name, value in vars(state).items():
        if not isinstance(value, Tensor):
            if value is not before[name] and value != before[name]:
                reasons.append(f"on_step_end changes the number state.{name}")
        elif not isinstance(before[name], Tensor) or value.data_ptr() != before[name].data_ptr():
            reasons.append(f"on_step_end replaces state.{name}; self.state.{name}.copy_(new) keeps its place")
    return purposes, reasons


def tensors(batch: Batch | None) -> dict[str, Tensor]:
    """The tensors of a batch by name."""
    return {name: value for name, value in vars(batch).items() if value is not None}


@dataclass(frozen=True)
class WatchedContext(Context):
    """A context that notes when `step` is read: a graph would repeat the number that it was then."""

    read: list[str] = field(default_factory=list)

    @classmethod
    def over(cls, ctx: Context) -> "WatchedContext":
        """A watched copy of `ctx`."""
        return cls(**{part.name: getattr(ctx, part.name) for part in fields(ctx)})

    def __getattribute__(self, name: str) -> Any:
        if name == "step" and sys._getframe(1).f_globals.get("__name__") != "dataclasses":  # replace() copies
            object.__getattribute__(self, "read").append(name)
        return object.__getattribute__(self, name)


class CudaGraphs:
    """Captures work as CUDA graphs, on a stream of its own. At most one graph exists at a time."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """A block whose work goes to the stream, in order with the work before and after the block."""
        outside = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(outside)
        with torch.cuda.stream(self.stream):
            yield
        outside.wait_stream(self.stream)

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """A block that is searched for host syncs, which a graph cannot hold."""
        reasons: list[str] = []
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield reasons
            finally:
                torch.cuda.set_sync_debug_mode(before)
        if any(WAITS in str(warning.message) for warning in raised):
            reasons.append("the step waits for the device (fairbench check names the line)")

    def capture(self, work: Callable[[], object], draws: Sequence[Draws]) -> Callable[[], None]:
        """Capture `work`; returns the replay of its graph."""
        graph = torch.cuda.CUDAGraph()
        for each in draws:
            graph.register_generator_state(each.generator)
        torch.cuda.synchronize(self.stream.device)
        # The new graph shares the memory pool of the last one, which therefore has to live until it is there.
        pool = None if self._graph is None else self._graph.pool()
        # Only this thread's work is captured: another one may write a checkpoint meanwhile.
        graph.capture_begin(pool, capture_error_mode="thread_local")
        try:
            work()
        except BaseException:
            with suppress(Exception):
                graph.capture_end()
            raise
        graph.capture_end()
        self._graph = graph
        return graph.replay

    def close(self) -> None:
        """Free the graph."""
        if self._graph is not None:
            torch.cuda.synchronize(self.stream.device)
            self._graph = None
