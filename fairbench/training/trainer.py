"""The training loop. The same cell gives the same weights, interrupted or not."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from fairbench.core import stopping
from fairbench.core.processes import end_if_copied
from fairbench.data.images import ImageSet
from fairbench.data.stream import CropFlip, EpochStream
from fairbench.objectives.contract import AdversarialObjective
from fairbench.objectives.teachers import Teachers
from fairbench.records.progress import ProgressListener
from fairbench.records.run_folder import RunFolder
from fairbench.registry.components import Augment, Averaging, WeightPerturbation, mixed_labels_error
from fairbench.registry.protocol import Protocol
from fairbench.training.averaging import WeightAverage, without_average
from fairbench.training.checkpointing import Checkpoints, TrainingState
from fairbench.training.class_sampling import ClassSampler
from fairbench.training.cuda_graphs import CudaGraphs, GraphedSteps
from fairbench.training.epoch import Contexts, Epoch, EpochProgress
from fairbench.training.images import TrainingImages
from fairbench.training.networks import Networks, Speedups
from fairbench.training.precision import arithmetic
from fairbench.training.schedule import sgd
from fairbench.training.step import StepRunner, training_step

logger = logging.getLogger(__name__)

REPORT_SECONDS = 2.0  # reading the loss waits for the device, so it is read seldom
SAVE_SECONDS = 600.0  # of a long epoch, at most so much is lost in a crash


@dataclass
class Trainer:
    """Trains `model` on `images` by `protocol` and writes checkpoints and curves to `run_folder`.

    `keep` (N,) bool: the images to train on; the others are held out, for methods and averages that measure
    them. `augment`, `awp` and `averaging` are the components that are switched on. The weights to evaluate
    are those of the average once it has started; the trained ones are kept beside them.

    `teachers` returns the networks that the method learns from, by name; called once, before the first epoch.
    `step` does one training step, and `mark` is called after each part of it: see `StepRunner`.
    `before_write` is called before anything is written, and may raise to stop a worker that lost its lease.
    """

    model: nn.Module
    objective: AdversarialObjective
    images: ImageSet
    protocol: Protocol
    augmentation: CropFlip
    seed: int
    run_folder: RunFolder
    listener: ProgressListener
    keep: Tensor | None = None
    augment: Augment | None = None
    awp: WeightPerturbation | None = None
    averaging: Averaging | None = None
    dtype: torch.dtype = torch.float32
    speedups: Speedups = Speedups()
    before_write: Callable[[], None] = lambda: None
    teachers: Callable[[], Mapping[str, nn.Module]] = dict
    step: Callable[..., Tensor] = training_step
    mark: Callable[[str], None] = lambda part: None
    process: int = field(default_factory=os.getpid, init=False)

    def __post_init__(self) -> None:
        """Raises ConfigError when the method cannot be trained with `augment`."""
        if self.augment is not None and self.augment.mixes and self.objective.resolved_needs().one_label:
            raise mixed_labels_error(self.objective.name, self.augment.kind)
        protocol, device, size = self.protocol, self.images.device, self.protocol.batch_size
        self.data = TrainingImages(
            self.images, self.seed, size, self.augmentation, self.keep, self.augment, self.dtype
        )
        shape = (size, *self.images.image_shape)
        self.example = torch.linspace(0, 1, math.prod(shape), dtype=self.dtype, device=device).view(shape)
        self.arithmetic = arithmetic(protocol.precision, device)
        networks = Networks(self.model, self.example, self.arithmetic, self.speedups)
        optimizer = sgd(self.model, protocol, fused=self.speedups.fused)
        graphed = GraphedSteps(CudaGraphs(device), size) if self.speedups.graph else None
        self.steps = StepRunner(
            networks,
            self.objective,
            optimizer,
            awp=self.awp,
            graphed=graphed,
            step=self.step,
            mark=self.mark,
        )
        self.average = None if self.averaging is None else WeightAverage(self.averaging, self.model)
        self.state = TrainingState(self.model, optimizer, {"objective": self.objective})
        if self.average is not None:
            self.state.parts["average"] = self.average
        self.checkpoints = Checkpoints(
            self.run_folder, protocol.selection.kept(protocol.epochs), self.before_write
        )
        self.contexts = Contexts.of(protocol, self.seed, device)
        self.progress: EpochProgress | None = None  # of an epoch that was saved in the middle

    def run(self, begin: Callable[[], None] = lambda: None) -> None:
        """Train to the last epoch, from the newest full state if there is one, else after calling `begin`.

        After a signal to stop, the current step is finished, the state saved and Stopped raised.
        Raises DivergedError when an epoch's loss is not finite, ContractError when the method breaks it.
        """
        self.load_teachers()
        saved = self.checkpoints.resume(self.state, self.images.device)
        if saved is None:
            begin()
        done, self.progress = (0, None) if saved is None else (saved.epoch, saved.progress)
        self.checkpoints.forget_after(done)
        self.model.train()
        with stopping.defer_signals(), self.checkpoints.writing(), self.steps.computing():
            for number in range(done + 1, self.protocol.epochs + 1):
                row = self.train_epoch(number)
                self.checkpoints.save(number, self.state, row=row, averaged=self._averaged(number))
                self.listener.epoch(row)
                logger.info("epoch %d of %d: loss %.4f", number, self.protocol.epochs, row["loss"])
                stopping.raise_if_requested()

    def load_teachers(self) -> None:
        """Build the method's teachers and pass them to it; they compute as the attacked network does."""
        fast = replace(self.speedups, compiled=False)
        networks = {
            name: Networks(network, self.example, self.arithmetic, fast).attacked()
            for name, network in self.teachers().items()
        }
        self.contexts = replace(self.contexts, teacher=Teachers(networks))

    def train_epoch(self, number: int) -> dict[str, Any]:
        """Train one epoch, or the rest of it, inside of `steps.computing`; its record."""
        began = time.perf_counter()
        stream = self.data.epoch(number)
        epoch = self.epoch(number, stream)
        progress, num_steps = epoch.progress, len(stream)
        began -= progress.seconds
        epoch.start()
        first = progress.step
        read = saved = time.perf_counter()
        for step in range(first, num_steps):
            epoch.step(check=step == first)  # a plugin that breaks the contract is stopped at once
            end_if_copied(self.process)
            loss, now = None, time.perf_counter()
            if now - read > REPORT_SECONDS:
                loss, read = epoch.totals.mean_loss(), now
            self.listener.step(number, self.protocol.epochs, step + 1, num_steps, loss)
            progress.seconds = now - began
            if step + 1 < num_steps and (stopping.stop_requested() or now - saved > SAVE_SECONDS):
                self.checkpoints.save(number - 1, self.state, progress=progress)
                saved = now
                stopping.raise_if_requested()
        epoch.check()
        row = {"epoch": number, "lr": self.contexts.lr(number), **epoch.end()}
        return {**row, "stream": stream.digest, "seconds": time.perf_counter() - began}

    def about(self) -> dict[str, Any]:
        """How the steps were computed, for the record."""
        about = {
            "precision": self.protocol.precision,
            "arithmetic": self.arithmetic,
            **asdict(self.speedups),
        }
        about["obstacles"] = self.steps.fallback_reasons
        return about | ({"lost": self.checkpoints.lost} if self.checkpoints.lost else {})

    def warnings(self) -> list[str]:
        """The method's warnings of all epochs, each once, and one for epochs evaluated without an average."""
        rows = self.run_folder.read_epochs()
        texts = list(dict.fromkeys(text for row in rows for text in row["warnings"]))
        evaluated = rows[-self.protocol.selection.last :]
        return texts + ([] if self.averaging is None else without_average(self.averaging, evaluated))

    def epoch(self, number: int, batches: EpochStream) -> Epoch:
        """The epoch `number` at its learning rate; the rest of it when it was saved in the middle."""
        for group in self.state.optimizer.param_groups:
            group["lr"] = self.contexts.lr(number)
        on_training = self.objective.resolved_needs().validation_on == "training"
        continued = self.progress is not None and self.progress.epoch == number
        return Epoch(
            number=number,
            steps=self.steps,
            batches=batches,
            held_out=self.data.held_out(),
            validation=self.data.epoch(number, mixed=False) if on_training else None,
            contexts=self.contexts,
            average=self.average,
            sampler=ClassSampler(batches) if self.objective.resolved_needs().sampling else None,
            min_share=(self.augment.min_share if self.augment is not None else None) or 0.0,
            saved=self.progress if continued else None,
        )

    def _averaged(self, epoch: int) -> Mapping[str, Tensor] | None:
        """The averaged weights after an epoch, where they are to be evaluated."""
        if self.average is None or not self.average.started or epoch not in self.checkpoints.kept:
            return None
        images = self.steps.networks.images
        return self.average.weights(lambda: (images(batch.x) for batch in self.data.without_augmentation()))
