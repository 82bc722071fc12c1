"""The full state of a training on disk, from which it continues: the newest, and the one before it.

The second is there for the day on which the first is damaged. Either may be of the middle of an epoch.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import torch
from torch import Tensor, nn

from fairbench.core.errors import CheckpointError, ResultsError
from fairbench.models.checkpoints import load_weights, read_tensors, write_tensors

logger = logging.getLogger(__name__)


class Stateful(Interface):
    """What has tensors to be saved, and takes them back."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, saved: Mapping[str, Tensor], /) -> None: ...


@dataclass
class EpochProgress:
    """An epoch that is being trained: `step` of its steps are done, in `seconds`.

    `sums` are those of its `EpochTotals`; `logged` and `warned` what the method said so far.
    """

    epoch: int
    step: int = 0
    seconds: float = 0.0
    logged: dict[str, Any] = field(default_factory=dict)
    warned: list[str] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """A full state: `epoch` epochs are done, the next one perhaps in part."""

    tensors: dict[str, Tensor]
    epoch: int
    underway: EpochProgress | None
    path: Path


class SavedStates:
    """The states in the folder of checkpoints. `lost` says what was damaged when they were read."""

    def __init__(self, folder: Path) -> None:
        self.newest = folder / "resume.safetensors"
        self.before = folder / "resume.before.safetensors"
        self.coming = folder / "resume.coming.safetensors"
        self.lost: list[str] = []

    def write(self, tensors: Mapping[str, Tensor], epoch: int, underway: EpochProgress | None) -> None:
        """Replace the newest state, which becomes the one before it. Raises ResultsError when it cannot.

        Of the epoch `underway` the sums are among `tensors`, named "sums.NAME".
        """
        about: dict[str, Any] = {"epoch": epoch}
        if underway is not None:
            about["underway"] = {k: v for k, v in asdict(underway).items() if k != "sums"}
        write_tensors(self.coming, tensors, about)
        try:
            if self.newest.exists():
                os.replace(self.newest, self.before)
            os.replace(self.coming, self.newest)
        except OSError as error:
            raise ResultsError(f"cannot write {self.newest}: {error.strerror or error}.") from error

    def read(self, device: torch.device, usable: Callable[[int], bool]) -> Saved | None:
        """The newest whole state of which `usable(epochs done)` holds; None when there is none."""
        for path in (self.newest, self.before):
            if not path.exists():
                continue
            try:
                tensors, about = read_tensors(path, device)
                found = _saved(tensors, about, path)
            except (CheckpointError, KeyError, TypeError, ValueError) as error:
                self._lose(path, error)
                continue
            if usable(found.epoch):
                return found
        return None

    def clear(self) -> None:
        """Training is over, and nothing will continue from here."""
        for path in (self.newest, self.before, self.coming):
            path.unlink(missing_ok=True)

    def _lose(self, path: Path, error: Exception) -> None:
        said = error.message if isinstance(error, CheckpointError) else f"{path} is no training state."
        self.lost.append(f"{path.name} was damaged")
        logger.warning("%s Training goes on from the state before it, or begins again.", said)


def gathered(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Mapping[str, Stateful],
    sums: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """All tensors of a state, each under the name of the part that it belongs to."""
    found: dict[str, Tensor] = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            found[f"momentum.{name}"] = momentum
    for part, held in parts.items():
        found |= {f"{part}.{name}": value for name, value in held.state_dict().items()}
    return found | {f"sums.{name}": value for name, value in sums.items()}


def restore(
    saved: Saved, model: nn.Module, optimizer: torch.optim.Optimizer, parts: Mapping[str, Stateful]
) -> None:
    """Put back what `gathered` gave, all but the sums. Raises CheckpointError when it does not fit."""
    load_weights(model, under("model.", saved.tensors), str(saved.path))
    for part, held in parts.items():
        held.load_state_dict(under(f"{part}.", saved.tensors))
    momentum = under("momentum.", saved.tensors)
    for name, parameter in model.named_parameters():
        if name in momentum:
            in_its_layout = torch.empty_like(parameter).copy_(momentum[name])
            optimizer.state[parameter]["momentum_buffer"] = in_its_layout


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of `tensors` whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _saved(tensors: dict[str, Tensor], about: Mapping[str, Any], path: Path) -> Saved:
    underway = None
    if about.get("underway") is not None:
        underway = EpochProgress(**about["underway"], sums=under("sums.", tensors))
    return Saved(tensors, int(about["epoch"]), underway, path)
