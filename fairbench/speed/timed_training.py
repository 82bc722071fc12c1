"""A training to be timed: the trainer of `fairbench run` on random images."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairbench.attacks.frozen import frozen
from fairbench.data.batch import Batch
from fairbench.data.images import ImageSet
from fairbench.data.stream import CropFlip
from fairbench.models.build import build_model
from fairbench.objectives.contract import AdversarialObjective, Context, DataInfo, build_config
from fairbench.objectives.load import load_plugin
from fairbench.planning.resolve import import_target
from fairbench.records.progress import ProgressListener
from fairbench.records.run_folder import RunFolder
from fairbench.registry import Protocol, Registry
from fairbench.registry.protocol import Precision
from fairbench.speed.limits import synchronise
from fairbench.training.networks import Speedups
from fairbench.training.statistics import EpochTotals
from fairbench.training.step import training_step
from fairbench.training.trainer import Trainer

HELD_OUT_PER_CLASS = 2
STARTING = 4  # steps of an epoch that differ from the others: checked, watched, captured
MAX_STEPS = 400


@dataclass(frozen=True)
class TimedSetting:
    """A data set, of which only shape and sizes matter, a network and a protocol, on a device."""

    registry: Registry
    dataset: str
    model: str
    protocol: Protocol
    device: torch.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.registry.get("dataset", self.dataset).image_shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return int(self.registry.get("dataset", self.dataset).num_classes or 10)

    @property
    def train_size(self) -> int:
        return int(self.registry.get("dataset", self.dataset).train_size or 50_000)

    @property
    def augmentation(self) -> CropFlip:
        """That of the protocol for this data set."""
        settings, entry = self.protocol.augmentation, self.registry.get("dataset", self.dataset)
        return CropFlip(
            crop_padding=settings.crop_padding, padding=settings.padding, flip=settings.flip and entry.flip
        )

    @property
    def speedups(self) -> Speedups:
        """Those of a whole run."""
        return Speedups.of(self.device, self.protocol, self.train_size)

    def with_precision(self, precision: Precision) -> "TimedSetting":
        """The same in another precision."""
        return replace(self, protocol=self.protocol.model_copy(update={"precision": precision}))

    def network(self) -> nn.Module:
        """A new network on the device."""
        target = self.registry.get("model", self.model).target
        return build_model(target, self.num_classes, self.shape, seed=0).to(self.device)

    def teacher(self, method: str, name: str) -> nn.Module:
        """An untrained network of the architecture that the registry names for a teacher of `method`."""
        model = self.registry.method_components(method, self.dataset).get(name, {}).get("model", self.model)
        if not self.registry.has_model(model):
            return self.network()
        return replace(self, model=model).network()

    def images(self, count: int) -> ImageSet:
        """Random pixels with balanced labels: speed does not depend on the content of images."""
        rng = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (count, *self.shape), dtype=torch.uint8, generator=rng)
        labels = torch.arange(count) % self.num_classes
        names = tuple(map(str, range(self.num_classes)))
        return ImageSet(pixels, labels, self.num_classes, names).to(self.device)

    def objective(self, method: str) -> AdversarialObjective:
        """A registered method with its settings for this data set."""
        entry = self.registry.get("method", method)
        cls = load_plugin(import_target(entry, self.registry.readable_plugin(method)), method)
        info = DataInfo(
            self.num_classes, (self.train_size // self.num_classes,) * self.num_classes, self.shape
        )
        return cls(build_config(cls, self.registry.method_config(method, self.dataset)), info, self.device)


class Clock(ProgressListener):
    """Times the end of step `after` of an epoch and the end of its last step; waits for the device there."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.after = device, 1
        self.first = self.last = 0.0

    def step(self, epoch: int, num_epochs: int, step: int, num_steps: int, loss: float | None) -> None:
        if step in (self.after, num_steps):
            synchronise(self.device)
            self.last = time.perf_counter()
            self.first = self.last if step == self.after else self.first


class TimedTraining:
    """A method in training in a setting, by default with the speed-ups of a whole run.

    `step` and `mark` are those of `Trainer`.
    """

    def __init__(
        self,
        setting: TimedSetting,
        method: str,
        speedups: Speedups | None = None,
        *,
        step: Callable[..., Tensor] = training_step,
        mark: Callable[[str], None] = lambda part: None,
    ) -> None:
        self.setting, self.batch_size = setting, setting.protocol.batch_size
        objective = setting.objective(method)
        needs = objective.resolved_needs()
        self.validates = needs.validation is not None and needs.validation_on == "held-out"
        self.clock, model = Clock(setting.device), setting.network()
        self.folder = tempfile.TemporaryDirectory(prefix="fairbench-bench.")
        self.trainer = Trainer(
            model=model,
            objective=objective,
            images=setting.images(self.batch_size),
            protocol=setting.protocol,
            augmentation=setting.augmentation,
            seed=0,
            run_folder=RunFolder(Path(self.folder.name)),
            listener=self.clock,
            speedups=setting.speedups if speedups is None else speedups,
            teachers=lambda: {name: setting.teacher(method, name) for name in needs.teachers},
            step=step,
            mark=mark,
        )
        self.trainer.load_teachers()
        self.number = 0  # epochs trained
        self.first_seconds = 0.0  # of the first epoch, compilation included
        self.fixed_seconds = 0.0  # of an epoch besides its steps
        self.num_steps = 2  # timed steps of a block

    @property
    def starting(self) -> int:
        """Steps at the start of an epoch that are not timed."""
        return STARTING if self.trainer.speedups.graph else 1

    def start(self, seconds: float) -> None:
        """Warm up, compile, and set `num_steps` so that a block takes about `seconds`."""
        began = time.perf_counter()
        self.epoch(self.starting + 1)
        self.first_seconds = time.perf_counter() - began
        few = self.starting + (2 * STARTING if self.trainer.speedups.graph else 2)
        self.num_steps = max(few, min(MAX_STEPS, round(seconds / self.epoch(few + self.starting))))

    def block(self) -> float:
        """Seconds per step, over the timed steps of one more epoch."""
        return self.epoch(self.num_steps + self.starting)

    def epoch(self, steps: int) -> float:
        """Train an epoch of `steps` full batches; the mean seconds of its timed steps."""
        self._prepare(steps)
        self.number += 1
        device = self.setting.device
        synchronise(device)
        began = time.perf_counter()
        with self.trainer.steps.computing():
            self.trainer.train_epoch(self.number)
        synchronise(device)
        whole = time.perf_counter() - began
        step = (self.clock.last - self.clock.first) / (steps - self.starting)
        self.fixed_seconds = max(0.0, whole - step * steps)
        return step

    def _prepare(self, steps: int) -> None:
        count = steps * self.batch_size
        held = HELD_OUT_PER_CLASS * self.setting.num_classes if self.validates else 0
        data = self.trainer.data
        if len(data.images) != count + held:
            data.images = self.setting.images(count + held)
        data.keep = (torch.arange(count + held) < count) if held else None
        self.clock.after = self.starting

    def __enter__(self) -> "TimedTraining":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory of the device."""
        self.folder.cleanup()
        del self.trainer


def bare_step(
    model: nn.Module,
    objective: AdversarialObjective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    ctx: Context,
    totals: EpochTotals,
    *,
    check: bool = False,
    attacked: nn.Module | None = None,
    **options: Any,
) -> Tensor:
    """Attack, loss and update: `training_step` without checks, statistics and components."""
    if check:  # the first step of an epoch, which is not timed; it makes the epoch's loss a number
        return training_step(
            model, objective, optimizer, batch, ctx, totals, check=True, attacked=attacked, **options
        )
    target = model if attacked is None else attacked
    with frozen(target):
        adversary = objective.perturb(target, batch, ctx)
    model.train()
    loss = objective.loss(model, batch, adversary, ctx).total()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()
