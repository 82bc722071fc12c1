"""The checkpoints of a run: weights of the epochs to evaluate, and full states to resume from.

They are written in a thread, so that training does not wait for the disk.
"""

import copy
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any
from typing import Protocol as Interface

import torch
from torch import Tensor, nn

from fairbench.core.errors import CheckpointError, ResultsError
from fairbench.models.checkpoints import load_weights, read_tensors, write_tensors
from fairbench.records.run_folder import RunFolder
from fairbench.training.epoch import EpochProgress
from fairbench.training.statistics import under

logger = logging.getLogger(__name__)

Snapshot = Callable[[], dict[str, Tensor]]
"""Returns tensors on the CPU, with the values that they had when the snapshot was made."""


class Stateful(Interface):
    """A part of training with tensors of its own, such as the method."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, saved: Mapping[str, Tensor], /) -> None: ...


@dataclass(frozen=True)
class SavedState:
    """A full state read from `path`: `epoch` epochs are done; `progress` is that of one cut in the middle."""

    tensors: dict[str, Tensor]
    epoch: int
    progress: EpochProgress | None
    path: Path


@dataclass
class TrainingState:
    """Everything that training changes; `parts` are the method and, by name, what else has a state."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    parts: dict[str, Stateful]

    def tensors(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All tensors of the state and an epoch's `sums`, named "model.", "momentum.", "PART." or "sums."."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        for part, stateful in self.parts.items():
            tensors |= {f"{part}.{name}": value for name, value in stateful.state_dict().items()}
        return tensors | {f"sums.{name}": value for name, value in sums.items()}

    def load(self, saved: SavedState) -> None:
        """Put back a saved state, but for an epoch's sums. Raises CheckpointError when it does not fit."""
        load_weights(self.model, under("model.", saved.tensors), str(saved.path))
        for part, stateful in self.parts.items():
            stateful.load_state_dict(under(f"{part}.", saved.tensors))
        momentum = under("momentum.", saved.tensors)
        for name, parameter in self.model.named_parameters():
            if name in momentum:
                in_its_layout = torch.empty_like(parameter).copy_(momentum[name])
                self.optimizer.state[parameter]["momentum_buffer"] = in_its_layout


class Checkpoints:
    """Writes and reads the checkpoints and training curves in a run folder.

    Weights are written for the epochs in `kept`. Of the full states the newest and the one before it stay,
    in case the newest is damaged; each may be of the middle of an epoch. `before_write` is called before
    anything is written and may raise, which stops a worker that lost its lease. `lost` lists damaged files.
    """

    def __init__(
        self, run: RunFolder, kept: Sequence[int] = (), before_write: Callable[[], None] = lambda: None
    ) -> None:
        self.run, self.kept, self.before_write = run, kept, before_write
        self.newest, self.previous, self.unfinished = run.resume_files()
        self.lost: list[str] = []
        self._writer: Writer | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A block in which `save` may be called; afterwards everything is on disk."""
        with Writer() as self._writer:
            yield

    def save(
        self,
        epoch: int,
        state: TrainingState,
        *,
        row: dict[str, Any] | None = None,
        averaged: Mapping[str, Tensor] | None = None,
        progress: EpochProgress | None = None,
    ) -> None:
        """Save the current state, when `epoch` epochs are done. Raises what went wrong in an earlier `save`.

        After a whole epoch its record `row` is given, and the `averaged` weights where these are evaluated;
        in the middle of an epoch its `progress`.
        """
        assert self._writer is not None, "save() outside of writing()"
        full = snapshot(state.tensors({} if progress is None else progress.sums))
        average = None if averaged is None else snapshot(averaged)
        progress = None if progress is None else copy.deepcopy(replace(progress, sums={}))

        def write() -> None:  # the state comes last: what is not in it is written again after a crash
            self.before_write()
            saved, about = full(), {"epoch": epoch}
            if row is not None and epoch in self.kept:
                weights, raw = self.run.weights_file(epoch), self.run.raw_weights_file(epoch)
                write_tensors(weights if average is None else raw, under("model.", saved), about)
                if average is not None:
                    write_tensors(weights, average(), about)
            if row is not None:
                self.run.append_epoch(row)
            self.write_state(saved, epoch, progress)

        self._writer.write(write)

    def write_state(self, tensors: Mapping[str, Tensor], epoch: int, progress: EpochProgress | None) -> None:
        """Replace the newest state, which becomes the one before it. Raises ResultsError when it cannot.

        The sums of `progress` are among `tensors`, named "sums.NAME".
        """
        about: dict[str, Any] = {"epoch": epoch}
        if progress is not None:
            about["underway"] = {k: v for k, v in asdict(progress).items() if k != "sums"}
        write_tensors(self.unfinished, tensors, about)
        try:
            if self.newest.exists():
                os.replace(self.newest, self.previous)
            os.replace(self.unfinished, self.newest)
        except OSError as error:
            raise ResultsError(f"cannot write {self.newest}: {error.strerror or error}.") from error

    def resume(self, state: TrainingState, device: torch.device) -> SavedState | None:
        """Load the newest usable state into `state`; None, without a change, when there is none."""
        saved = self.read_state(device)
        if saved is not None:
            state.load(saved)
            step = 0 if saved.progress is None else saved.progress.step
            logger.info("resuming after epoch %d%s", saved.epoch, f" and {step} steps" if step else "")
        return saved

    def read_state(self, device: torch.device) -> SavedState | None:
        """The newest undamaged state whose kept weights are all there; None when there is none."""
        for path in (self.newest, self.previous):
            if not path.exists():
                continue
            try:
                state = _parsed(*read_tensors(path, device), path)
            except (CheckpointError, KeyError, TypeError, ValueError) as error:
                reason = (
                    error.message if isinstance(error, CheckpointError) else f"{path} is no training state."
                )
                self.lost.append(f"{path.name} was damaged")
                logger.warning("%s Training continues from the state before it, or starts again.", reason)
                continue
            if self.has_weights(state.epoch):
                return state
        return None

    def has_weights(self, epoch: int) -> bool:
        """Whether the weights of all kept epochs up to `epoch` are there."""
        return all(self.run.weights_file(kept).exists() for kept in self.kept if kept <= epoch)

    def forget_after(self, epoch: int) -> None:
        """Remove the records of later epochs from the training curves."""
        self.run.keep_epochs(epoch)

    def set_damaged_aside(self) -> None:
        """Rename weights that cannot be read, so that they are trained again."""
        for path in map(self.run.weights_file, self.kept):
            try:
                if path.exists():
                    read_tensors(path)
            except CheckpointError as error:
                logger.warning("%s It is set aside and trained again.", error.message)
                self.lost.append(f"{path.name} was damaged")
                self.run.set_aside(path)

    def clear_states(self) -> None:
        """Delete the states: training is over and will not be resumed."""
        for path in (self.newest, self.previous, self.unfinished):
            path.unlink(missing_ok=True)


def _parsed(tensors: dict[str, Tensor], about: Mapping[str, Any], path: Path) -> SavedState:
    progress = None
    if about.get("underway") is not None:
        progress = EpochProgress(**about["underway"], sums=under("sums.", tensors))
    return SavedState(tensors, int(about["epoch"]), progress, path)


class Writer:
    """Runs one write at a time in a thread; a second one waits in `write` until the first is done.

    An error is raised by the next `write`, or at the end of the `with` block, after which everything is
    written and the thread has ended.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._last: Future[None] | None = None

    def write(self, work: Callable[[], None]) -> None:
        """Start `work` after the last one is done. Raises what that raised."""
        self.finish()
        self._last = self._thread.submit(work)

    def finish(self) -> None:
        """Wait for the last write. Raises what it raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        try:
            self.finish()
        except Exception:
            if error is None:
                raise
            logger.warning("a checkpoint could not be written either", exc_info=True)


def snapshot(tensors: Mapping[str, Tensor]) -> Snapshot:
    """A function that returns the values of now on the CPU, from any thread.

    They are copied on their device at once, which is not waited for; the copy to the CPU is made when the
    function is called.
    """
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    device = next((each.device for each in copies.values() if each.is_cuda), None)
    if device is None:
        return lambda: copies
    copied = torch.cuda.Event()
    copied.record()

    def on_cpu() -> dict[str, Tensor]:
        with torch.cuda.stream(torch.cuda.Stream(device)):  # not after the training steps queued since
            copied.synchronize()
            return {name: each.cpu() for name, each in copies.items()}

    return on_cpu
