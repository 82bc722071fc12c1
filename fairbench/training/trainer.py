"""The training loop. The same cell gives the same weights, interrupted or not."""

import copy
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairbench.attacks.budget import Budget
from fairbench.attacks.draws import Draws
from fairbench.core import stopping
from fairbench.core.errors import DivergedError
from fairbench.core.processes import end_if_copied
from fairbench.core.seeds import derive_seed
from fairbench.data.augment import BatchAugmentation, build_augmentation
from fairbench.data.batch import Batch
from fairbench.data.images import ImageSet, to_unit
from fairbench.data.stream import CropFlip, EpochStream
from fairbench.models.checkpoints import write_tensors
from fairbench.objectives.contract import AdversarialObjective, Context, LossTerms, ValidationStats
from fairbench.objectives.validation import robust_validation
from fairbench.records.run_folder import RunFolder
from fairbench.registry.components import Augment, Averaging, WeightPerturbation, mixed_labels_error
from fairbench.registry.schema import Protocol
from fairbench.training.averaging import WeightAverage, without_average
from fairbench.training.cuda_graphs import CudaGraphs, GraphedSteps, Run, overrides
from fairbench.training.listener import Listener
from fairbench.training.networks import Networks, Speedups, is_finite, tf32
from fairbench.training.saving import Saver, snapshot
from fairbench.training.schedule import learning_rate
from fairbench.training.state import EpochProgress, SavedStates, Stateful, gathered, restore, under
from fairbench.training.statistics import EpochTotals, numbers
from fairbench.training.step import check_epoch, training_step
from fairbench.training.validation import measure

logger = logging.getLogger(__name__)

Validate = Callable[[nn.Module, Batch, Context], LossTerms]
REPORT_SECONDS = 2.0  # reading the loss asks the device for a value, so it is read seldom
SAVE_SECONDS = 600.0  # at most so much of a long epoch is lost to a crash


@dataclass
class Trainer:
    """Trains `model` on `images` as `protocol` says and leaves checkpoints and curves in `folder`.

    `keep` (N,) bool: the images to train on; the others are held out, for methods and averages that measure
    them. `augment`, `awp` and `averaging`: what the house adds. Weights to be evaluated are those of the
    average once it has started; the trained ones are kept beside them.

    `mark` is told when a part of a step is done: "data" and those of `training_step`.
    `before_write` is called before anything is written, and may raise to stop a worker that lost
    its claim on the folder.
    """

    model: nn.Module
    objective: AdversarialObjective
    images: ImageSet
    protocol: Protocol
    augmentation: CropFlip
    seed: int
    folder: Path
    listener: Listener
    keep: Tensor | None = None
    augment: Augment | None = None
    awp: WeightPerturbation | None = None
    averaging: Averaging | None = None
    dtype: torch.dtype = torch.float32
    speedups: Speedups = Speedups()
    before_write: Callable[[], None] = lambda: None
    mark: Callable[[str], None] = lambda part: None
    process: int = field(default_factory=os.getpid, init=False)
    underway: EpochProgress | None = field(default=None, init=False)
    obstacles: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        settings, device = self.protocol.optimizer, self.images.device
        size = (self.protocol.batch_size, *self.images.image_shape)
        self.networks = Networks(
            self.model,
            torch.linspace(0, 1, math.prod(size), dtype=self.dtype, device=device).view(size),
            self.protocol.precision,
            self.speedups,
        )
        self.graphs = CudaGraphs(device) if self.speedups.graph else None
        self.recorded = None if self.graphs is None else GraphedSteps(self.graphs, self.protocol.batch_size)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
            fused=self.speedups.fused,
        )
        self.batch_augmentation = self._build_augmentation()
        self.states = SavedStates(RunFolder(self.folder).checkpoints)
        self.average = None if self.averaging is None else WeightAverage(self.averaging, self.model)
        self.budget = Budget(
            eps=float(self.protocol.threat.eps),
            step_size=float(self.protocol.budget.step_size),
            num_steps=self.protocol.budget.num_steps,
        )

    def _build_augmentation(self) -> BatchAugmentation | None:
        """What `augment` does to images. Raises ConfigError when the method does not go with it."""
        if self.augment is None:
            return None
        if self.augment.mixes and self.objective.resolved_needs().one_label:
            raise mixed_labels_error(self.objective.name, self.augment.kind)
        chosen = self.augment.fitted("", self.images.image_shape)
        return build_augmentation(chosen.kind, policy=chosen.policy, side=chosen.side, alpha=chosen.alpha)

    def run(self, begin: Callable[[], None] = lambda: None) -> None:
        """Train to the last epoch, from the newest full state if there is one, else behind `begin`.

        When the process is asked to stop, the step at work is done, the state saved and Stopped raised.
        Raises DivergedError when an epoch's loss is not finite, ContractError when the method broke
        its contract.
        """
        done = self._resume(begin)
        self.model.train()
        with stopping.defer_signals(), Saver() as saver, self.computing():
            for epoch in range(done + 1, self.protocol.epochs + 1):
                row = self.epoch(epoch, partial(self._save, epoch - 1, None, saver))
                self._save(epoch, row, saver)
                self.listener.epoch(row)
                logger.info("epoch %d of %d: loss %.4f", epoch, self.protocol.epochs, row["loss"])
                stopping.raise_if_requested()

    def about(self) -> dict[str, Any]:
        """How the steps were computed, for the record."""
        about = {"precision": self.protocol.precision, **asdict(self.speedups), "obstacles": self.obstacles}
        return about | ({"lost": self.states.lost} if self.states.lost else {})

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside, the device computes as the protocol and the speedups say."""
        with tf32(self.protocol.precision == "tf32"):
            if self.graphs is None:
                yield
                return
            try:
                with self.graphs.working():
                    yield
            finally:
                self.graphs.close()

    def warnings(self) -> list[str]:
        """What the method warned of in any epoch, each once; and an average that holds nothing."""
        rows = RunFolder(self.folder).read_epochs()
        found = list(dict.fromkeys(text for row in rows for text in row["warnings"]))
        evaluated = rows[-self.protocol.selection.last :]
        return found + ([] if self.averaging is None else without_average(self.averaging, evaluated))

    def weights_path(self, epoch: int, *, raw: bool = False) -> Path:
        """The weights to evaluate of an epoch; with `raw` the trained ones behind an average."""
        run = RunFolder(self.folder)
        return run.raw_weights_file(epoch) if raw else run.weights_file(epoch)

    def epoch(self, epoch: int, save: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Train one epoch, or the rest of it, inside of `computing`; its record. Raises what `run` raises.

        `save` is called between two steps, when there is something to be kept.
        """
        resumed = self.underway is not None and self.underway.epoch == epoch
        underway = self.underway if self.underway is not None and resumed else EpochProgress(epoch)
        self.underway = underway
        began = time.perf_counter() - underway.seconds
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
            keep=self.keep,
            augment=self.batch_augmentation,
        )
        needs = self.objective.resolved_needs()
        if needs.validation == "start" and not resumed:
            self._validate(epoch)
        device = self.images.images.device
        min_share = (self.augment.min_share if self.augment is not None else None) or 0.0
        totals = EpochTotals(self.images.num_classes, needs.epoch_stats, device, min_share=min_share)
        if resumed:
            totals.sums |= underway.sums
        else:
            self.objective.on_epoch_start(self._context(epoch, 0, len(stream)))
        underway.sums = totals.sums
        first = underway.step
        steps = self._steps(epoch, totals, len(stream) - first)
        read = saved = time.perf_counter()
        for step in range(first, len(stream)):
            batch, ctx = stream.batch(step), self._context(epoch, step, len(stream))
            batch = replace(batch, x=self.networks.images(batch.x))
            self.mark("data")
            steps(batch, ctx, step == first)  # a plugin that breaks the contract is stopped at once
            end_if_copied(self.process)
            if self.average is not None:
                self.average.after_step(self.model, epoch)
            loss, now = None, time.perf_counter()
            if now - read > REPORT_SECONDS:
                loss, read = totals.mean_loss(), now
            self.listener.step(epoch, self.protocol.epochs, step + 1, len(stream), loss)
            underway.step, underway.seconds = step + 1, now - began
            if step + 1 < len(stream) and (stopping.stop_requested() or now - saved > SAVE_SECONDS):
                save()
                saved = now
                stopping.raise_if_requested()
        self._explain(epoch)
        mean_loss = totals.mean_loss()
        if not (math.isfinite(mean_loss) and is_finite(self.model)):
            raise DivergedError(epoch)
        check_epoch(self.objective, totals, epoch)
        stats = totals.stats()
        self.objective.on_epoch_end(stats, self._context(epoch, len(stream), len(stream)))
        if needs.validation == "end":
            self._validate(epoch)
        averaged = {}
        if self.average is not None:
            averaged = self.average.after_epoch(self.model, epoch, lambda: self._worst_robust(epoch))
        return {
            "epoch": epoch,
            "lr": rate,
            "loss": mean_loss,
            "terms": totals.mean_terms(),
            "train_clean_accuracy": numbers(stats.clean_accuracy),
            "train_robust_accuracy": numbers(stats.robust_accuracy),
            "logged": underway.logged,
            **({"average": averaged} if averaged else {}),
            "warnings": list(dict.fromkeys(underway.warned)),
            "stream": stream.digest,
            "seconds": time.perf_counter() - began,
        }

    def _steps(self, epoch: int, totals: EpochTotals, num_steps: int) -> Run:
        """What does the steps of an epoch, one at each call."""
        awp = self.awp if self.awp is not None and epoch >= self.awp.start_epoch else None
        in_eval_mode = self.objective.resolved_needs().attack_bn == "eval"

        def plain(batch: Batch, ctx: Context, check: bool) -> None:
            with self.networks.trained():
                training_step(
                    self.model,
                    self.objective,
                    self.optimizer,
                    batch,
                    ctx,
                    totals,
                    check=check,
                    awp=awp,
                    attacked=self.networks.attacked() if in_eval_mode else None,
                    mark=self.mark,
                )

        if self.recorded is None:
            return plain
        self.recorded.begin(plain, num_steps)
        if overrides(self.objective, "on_step_end"):
            self.recorded.obstacle = "the method may change its state after each step (on_step_end)"
        return self.recorded.step

    def _explain(self, epoch: int) -> None:
        """Say once why steps are not recorded."""
        found = None if self.recorded is None else self.recorded.obstacle
        if found and found not in self.obstacles:
            self.obstacles.append(found)
            logger.warning("%s: steps of epoch %d run one by one: %s", self.objective.name, epoch, found)

    def _validate(self, epoch: int) -> None:
        """Tell the objective how the held-out images fare."""
        stats = self._measure(epoch, "validation", self.objective.validate)
        self.objective.on_validation(stats, self._context(epoch, 0, 0))

    def _worst_robust(self, epoch: int) -> float:
        """Robust accuracy of the worst class of the held-out images."""
        return float(self._measure(epoch, "averaging", robust_validation).robust_accuracy.min())

    def _measure(self, epoch: int, purpose: str, validate: Validate) -> ValidationStats:
        held = (
            []
            if self.keep is None
            else torch.split((~self.keep).nonzero().flatten(), self.protocol.batch_size)
        )
        with self.networks.trained():  # in its precision, should it have no twin
            return measure(
                self.networks.attacked(),
                validate,
                (
                    (self._plain_batch(index), self._context(epoch, i, len(held), purpose))
                    for i, index in enumerate(held)
                ),
                num_classes=self.images.num_classes,
                batch_size=self.protocol.batch_size,
            )

    def _plain_batch(self, index: Tensor) -> Batch:
        """Training images as they are, without augmentation."""
        index = index.to(self.images.device)
        x = self.networks.images(to_unit(self.images.images[index], self.dtype))
        return Batch(x, self.images.labels[index], index)

    def _clean_batches(self) -> Iterator[Tensor]:
        """All images that are trained on, without augmentation."""
        kept = torch.arange(len(self.images)) if self.keep is None else self.keep.nonzero().flatten()
        return (self._plain_batch(index).x for index in torch.split(kept, self.protocol.batch_size))

    def _context(self, epoch: int, step: int, num_steps: int, measured_for: str = "") -> Context:
        """Where training stands; draws for measuring are apart from those for training."""

        def rng(purpose: str) -> Draws:
            name = f"{measured_for}.{purpose}" if measured_for else purpose
            return Draws(derive_seed(self.seed, name, epoch, step), self.images.images.device)

        def log(name: str, value: Tensor | float) -> None:
            if self.underway is not None:
                self.underway.logged[name] = numbers(value)

        def warn(text: str) -> None:
            if self.underway is not None:
                self.underway.warned.append(text)

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

    def _save(self, epoch: int, row: dict[str, Any] | None, saver: Saver) -> None:
        """Weights if they will be evaluated, then the curve, then the full state: what comes last counts.

        `epoch` epochs are done, the last of them just now if it comes with its `row`; else the one underway
        is saved in part.
        """
        averaged, underway = None, None
        if row is None and self.underway is not None:
            underway = copy.deepcopy(replace(self.underway, sums={}))
        kept = row is not None and epoch in self.protocol.selection.kept(self.protocol.epochs)
        if kept and self.average is not None and self.average.started:
            averaged = snapshot(self.average.weights(self._clean_batches))
        sums = {} if underway is None or self.underway is None else self.underway.sums
        full = snapshot(gathered(self.model, self.optimizer, self._stateful(), sums))

        def write() -> None:
            self.before_write()
            tensors, about = full(), {"epoch": epoch}
            if kept:
                write_tensors(
                    self.weights_path(epoch, raw=averaged is not None), under("model.", tensors), about
                )
            if averaged is not None:
                write_tensors(self.weights_path(epoch), averaged(), about)
            if row is not None:
                RunFolder(self.folder).append_epoch(row)
            self.states.write(tensors, epoch, underway)

        saver.write(write)

    def _stateful(self) -> dict[str, Stateful]:
        """What keeps a state of its own beside the network and the optimiser."""
        return {"objective": self.objective} | ({} if self.average is None else {"average": self.average})

    def _resume(self, begin: Callable[[], None]) -> int:
        """Load the newest full state; the number of epochs that are done."""
        kept = self.protocol.selection.kept(self.protocol.epochs)

        def usable(done: int) -> bool:
            """Whether the weights that training would not come to again are there."""
            return all(self.weights_path(epoch).exists() for epoch in kept if epoch <= done)

        saved = self.states.read(self.images.images.device, usable)
        if saved is None:
            begin()
        else:
            restore(saved, self.model, self.optimizer, self._stateful())
            self.underway = saved.underway
            step = 0 if saved.underway is None else saved.underway.step
            logger.info("resuming after epoch %d%s", saved.epoch, f" and {step} steps" if step else "")
        done = 0 if saved is None else saved.epoch
        RunFolder(self.folder).keep_epochs(done)
        return done
