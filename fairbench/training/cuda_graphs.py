"""A step recorded once per epoch and replayed: one launch in place of thousands.

A CUDA graph repeats the very kernels of the step that was recorded, on the same memory. What changes from
step to step is put there first: the batch, and the seeds of the draws. Epochs may differ in anything (the
method's state, `ctx.epoch`, the learning rate), so each one is recorded anew. What a graph cannot follow is
found out in a watched step before; then the steps of that epoch run plainly, and one line says why.
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
from fairbench.objectives.contract import AdversarialObjective, Context
from fairbench.training.networks import first_line

WAITS = "called a synchronizing CUDA operation"  # torch's own words

WORTH_RECORDING = 12
"""Steps of an epoch from which on a recording pays: it costs as much as a few plain steps."""

Run = Callable[[Batch, Context, bool], None]
"""Does a step; the flag asks to check the contract."""


class Graphs(Interface):
    """How work is recorded on a kind of device."""

    def watched(self) -> Any:
        """A context that gives a list; what cannot be recorded of the work inside ends up in it."""

    def record(self, work: Callable[[], object], draws: Sequence[Draws]) -> Callable[[], None]:
        """What repeats `work`, which is recorded and not done; `draws` may be reseeded before each time."""

    def close(self) -> None:
        """Free what recordings hold."""


class GraphedSteps:
    """Runs the steps of one epoch after another: checked ones plainly, a watched one, then recorded ones.

    `batch_size` is that of the steps worth recording; others, such as an epoch's last one, run plainly.
    `obstacle` says why an epoch's steps are not recorded.
    """

    def __init__(self, graphs: Graphs, batch_size: int) -> None:
        self.graphs, self.batch_size = graphs, batch_size
        self.obstacle: str | None = None

    def begin(self, run: Run, num_steps: int) -> None:
        """An epoch of `num_steps` steps, each of which `run` does."""
        self.run, self.num_steps = run, num_steps
        self.obstacle = None
        self._asked: list[str] | None = None  # purposes of the draws of a step, in order
        self._draws: list[Draws] = []
        self._batch: Batch | None = None
        self._replay: Callable[[], None] | None = None

    def step(self, batch: Batch, ctx: Context, check: bool) -> None:
        """One step."""
        usual = len(batch) == self.batch_size and self.num_steps >= WORTH_RECORDING
        if check or self.obstacle is not None or not usual:
            self.run(batch, ctx, check)
        elif self._asked is None:
            self._watch(batch, ctx)
        elif self._replay is None and not self._record(batch, ctx):
            self.run(batch, ctx, False)
        else:
            self._repeat(batch, ctx)

    def _watch(self, batch: Batch, ctx: Context) -> None:
        """A plain step that finds out what it draws, and whether it can be recorded."""
        asked: list[str] = []
        seen = Watched.over(ctx)

        def rng(purpose: str) -> Draws:
            asked.append(purpose)
            return ctx.rng(purpose)

        with self.graphs.watched() as found:
            self.run(batch, replace(seen, rng=rng), False)
        self._asked = asked
        if seen.read:
            found.append("the method reads ctx.step")
        self.obstacle = found[0] if found else None

    def _record(self, batch: Batch, ctx: Context) -> bool:
        """Whether the step could be recorded; it is not done yet."""
        draws = [ctx.rng(purpose) for purpose in self._asked or ()]
        static = replace(batch, **{name: value.clone() for name, value in tensors(batch).items()})

        def work() -> None:
            expected = iter(zip(self._asked or (), draws, strict=True))

            def rng(purpose: str) -> Draws:
                name, given = next(expected, ("", None))
                if name != purpose or given is None:
                    raise RuntimeError(f"it draws for {purpose!r} in this step and did not in the last one")
                return given

            self.run(static, replace(ctx, rng=rng), False)

        try:
            self._replay = self.graphs.record(work, draws)
        except Exception as error:  # a plugin's or torch's: anything may come
            self.obstacle = first_line(error)
            return False
        self._batch, self._draws = static, draws
        return True

    def _repeat(self, batch: Batch, ctx: Context) -> None:
        assert self._replay is not None
        given = tensors(batch)
        for name, static in tensors(self._batch).items():
            static.copy_(given[name])
        for purpose, draws in zip(self._asked or (), self._draws, strict=True):
            draws.reseed(ctx.rng(purpose).generator.initial_seed())
        self._replay()


def tensors(batch: Batch | None) -> dict[str, Tensor]:
    """What a batch holds."""
    return {name: value for name, value in vars(batch).items() if value is not None}


@dataclass(frozen=True)
class Watched(Context):
    """A context that notes when the number of the step is read: a graph would repeat what it was then."""

    read: list[str] = field(default_factory=list)

    @classmethod
    def over(cls, ctx: Context) -> "Watched":
        """What `ctx` says, watched."""
        return cls(**{part.name: getattr(ctx, part.name) for part in fields(ctx)})

    def __getattribute__(self, name: str) -> Any:
        if name == "step" and sys._getframe(1).f_globals.get("__name__") != "dataclasses":  # replace() copies
            object.__getattribute__(self, "read").append(name)
        return object.__getattribute__(self, name)


def overrides(objective: AdversarialObjective, hook: str) -> bool:
    """Whether the method brings this hook."""
    return getattr(getattr(objective, hook), "__func__", None) is not getattr(AdversarialObjective, hook)


class CudaGraphs:
    """Recordings as CUDA graphs. All work has to be on `stream`, recorded or not."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside, work goes to the stream, after what was asked for before and before what follows."""
        outside = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(outside)
        with torch.cuda.stream(self.stream):
            yield
        outside.wait_stream(self.stream)

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        found: list[str] = []
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield found
            finally:
                torch.cuda.set_sync_debug_mode(before)
        if any(WAITS in str(warning.message) for warning in said):
            found.append("the step waits for the device (fairbench check names the line)")

    def record(self, work: Callable[[], object], draws: Sequence[Draws]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        for each in draws:
            graph.register_generator_state(each.generator)
        torch.cuda.synchronize(self.stream.device)
        # The pool of the last graph, which therefore goes only after the new one is there.
        pool = None if self._graph is None else self._graph.pool()
        # Another thread may write a checkpoint meanwhile.
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
        if self._graph is not None:
            torch.cuda.synchronize(self.stream.device)
            self._graph = None
