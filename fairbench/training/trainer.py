"""The training loop. The same cell gives the same weights, interrupted or not."""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import torch
from torch import Tensor, nn

from fairbench.attacks.budget import Budget
from fairbench.attacks.draws import Draws
from fairbench.core.errors import DivergedError
from fairbench.core.seeds import derive_seed
from fairbench.data.images import ImageSet
from fairbench.data.stream import Augmentation, EpochStream
from fairbench.models.checkpoints import load_weights, read_tensors, write_tensors
from fairbench.objectives.contract import AdversarialObjective, Context
from fairbench.records.curves import append_epoch, keep_epochs, read_epochs
from fairbench.registry.schema import Protocol
from fairbench.training.schedule import learning_rate
from fairbench.training.statistics import EpochTotals
from fairbench.training.step import check_epoch, training_step

logger = logging.getLogger(__name__)

REPORT_SECONDS = 2.0  # reading the loss asks the device for a value, so it is read seldom


class Listener(Interface):
    """Whoever shows progress."""

    def step(self, epoch: int, num_epochs: int, step: int, num_steps: int, loss: float | None) -> None:
        """A step is done; `loss` is the epoch's mean so far, or None when it was not read."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done; `row` is its record."""


@dataclass
class Trainer:
    """Trains `model` on `images` as `protocol` says and leaves checkpoints and curves in `folder`.

    `before_write` is called before anything is written, and may raise to stop a worker that lost
    its claim on the folder.
    """

    model: nn.Module
    objective: AdversarialObjective
    images: ImageSet
    protocol: Protocol
    augmentation: Augmentation
    seed: int
    folder: Path
    listener: Listener
    dtype: torch.dtype = torch.float32
    before_write: Callable[[], None] = lambda: None
    logged: dict[str, list[float] | float] = field(default_factory=dict, init=False)
    warned: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        settings = self.protocol.optimizer
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
        )
        self.budget = Budget(
            eps=float(self.protocol.threat.eps),
            step_size=float(self.protocol.budget.step_size),
            num_steps=self.protocol.budget.num_steps,
        )

    def run(self) -> None:
        """Train to the last epoch, from the newest full state if there is one.

        Raises DivergedError when an epoch's loss is not finite, ContractError when the method broke
        its contract.
        """
        done = self._resume()
        self.model.train()
        for epoch in range(done + 1, self.protocol.epochs + 1):
            row = self._epoch(epoch)
            self._save(epoch, row)
            self.listener.epoch(row)

    def warnings(self) -> list[str]:
        """What the method warned of in any epoch, each once."""
        return list(dict.fromkeys(text for row in read_epochs(self.folder) for text in row["warnings"]))

    def weights_path(self, epoch: int) -> Path:
        return self.folder / "checkpoints" / f"epoch-{epoch:04d}.safetensors"

    @property
    def state_path(self) -> Path:
        return self.folder / "checkpoints" / "resume.safetensors"

    def _epoch(self, epoch: int) -> dict[str, Any]:
        began = time.perf_counter()
        rate = learning_rate(self.protocol, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        stream = EpochStream(
            self.images,
            seed=self.seed,
            epoch=epoch,
            batch_size=self.protocol.batch_size,
            augmentation=self.augmentation,
            dtype=self.dtype,
        )
        device = self.images.images.device
        totals = EpochTotals(self.images.num_classes, self.objective.resolved_needs().epoch_stats, device)
        self.logged, self.warned = {}, []
        self.objective.on_epoch_start(self._context(epoch, 0, len(stream)))
        read = began
        for step in range(len(stream)):
            training_step(
                self.model,
                self.objective,
                self.optimizer,
                stream.batch(step),
                self._context(epoch, step, len(stream)),
                totals,
                check=step == 0,  # a plugin that breaks the contract is stopped at once
            )
            loss = None
            if time.perf_counter() - read > REPORT_SECONDS:
                loss, read = totals.mean_loss(), time.perf_counter()
            self.listener.step(epoch, self.protocol.epochs, step + 1, len(stream), loss)
        mean_loss = totals.mean_loss()
        if not (math.isfinite(mean_loss) and is_finite(self.model)):
            raise DivergedError(epoch)
        check_epoch(self.objective, totals, epoch)
        stats = totals.stats()
        self.objective.on_epoch_end(stats, self._context(epoch, len(stream), len(stream)))
        return {
            "epoch": epoch,
            "lr": rate,
            "loss": mean_loss,
            "terms": totals.mean_terms(),
            "train_clean_accuracy": numbers(stats.clean_accuracy),
            "train_robust_accuracy": numbers(stats.robust_accuracy),
            "logged": self.logged,
            "warnings": list(dict.fromkeys(self.warned)),
            "stream": stream.digest,
            "seconds": time.perf_counter() - began,
        }

    def _context(self, epoch: int, step: int, num_steps: int) -> Context:
        def rng(purpose: str) -> Draws:
            return Draws(derive_seed(self.seed, purpose, epoch, step), self.images.images.device)

        def log(name: str, value: Tensor | float) -> None:
            self.logged[name] = numbers(value)

        def warn(text: str) -> None:
            self.warned.append(text)

        return Context(
            epoch=epoch,
            num_epochs=self.protocol.epochs,
            step=step,
            num_steps=num_steps,
            budget=self.budget,
            rng=rng,
            log=log,
            warn=warn,
        )

    def _save(self, epoch: int, row: dict[str, Any]) -> None:
        """Weights if they will be evaluated, then the curve, then the full state: what comes last counts."""
        self.before_write()
        if epoch > self.protocol.epochs - self.protocol.selection.last:
            write_tensors(self.weights_path(epoch), self.model.state_dict(), {"epoch": epoch})
        append_epoch(self.folder, row)
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        tensors |= {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        write_tensors(self.state_path, tensors, {"epoch": epoch})

    def _resume(self) -> int:
        """Load the newest full state; the number of epochs that are done."""
        epoch = 0
        if self.state_path.exists():
            tensors, about = read_tensors(self.state_path, self.images.images.device)
            epoch = int(about["epoch"])
            load_weights(self.model, under("model.", tensors), str(self.state_path))
            self.objective.load_state_dict(under("objective.", tensors))
            momentum = under("momentum.", tensors)
            for name, parameter in self.model.named_parameters():
                if name in momentum:
                    self.optimizer.state[parameter]["momentum_buffer"] = momentum[name].clone()
            logger.info("resuming after epoch %d", epoch)
        keep_epochs(self.folder, epoch)
        return epoch


def is_finite(model: nn.Module) -> bool:
    """Whether every parameter is a number: an epoch's last step may spoil them after its loss was fine."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries of `tensors` whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def numbers(value: Tensor | float) -> Any:
    """Plain numbers for a record; None for NaN, which JSON cannot hold."""
    plain = value.detach().double().cpu().tolist() if isinstance(value, Tensor) else float(value)
    return json.loads(json.dumps(plain), parse_constant=lambda _: None)
