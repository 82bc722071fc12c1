"""Measurements that alternate, so that other work on the machine slows all of them alike."""

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from fairbench.attacks.budget import Budget
from fairbench.speed.limits import forward_operations, operations, synchronise
from fairbench.speed.reference import REFERENCES, Images, PlainLoop
from fairbench.speed.timed_training import TimedSetting, TimedTraining, bare_step
from fairbench.training.networks import Speedups
from fairbench.training.schedule import sgd

PARTS = ("data", "attack", "outer", "bookkeeping")
COUNTED = 8  # images of the batch whose operations are counted


def alternate(blocks: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Time a block of each in turn, `rounds` times; seconds per step."""
    timed: dict[str, list[float]] = {name: [] for name in blocks}
    for _ in range(rounds):
        for name, block in blocks.items():
            timed[name].append(block())
    return timed


def ratio(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Time of `one` divided by that of `other`: of the medians, and the lowest and highest of a round."""
    each = [a / b for a, b in zip(one, other, strict=True)]
    return statistics.median(one) / statistics.median(other), min(each), max(each)


class Reference:
    """The plain loop in a setting; a method for which there is none is replaced by TRADES.

    Convolutions use TF32 where the GPU has it, as PyTorch does by default; with `strict` they use float32.
    `workers` processes load the images.
    """

    def __init__(self, setting: TimedSetting, method: str, *, workers: int, strict: bool = False) -> None:
        self.device, self.strict = setting.device, strict
        self.method = method if method in REFERENCES else REFERENCES[0]
        protocol, augmentation, model = setting.protocol, setting.augmentation, setting.network()
        images = setting.images(8 * protocol.batch_size)
        self.loop = PlainLoop(
            self.method,
            model,
            sgd(model, protocol),
            Images(
                images.images.cpu(),
                images.labels.cpu(),
                padding=augmentation.crop_padding,
                flip=augmentation.flip,
            ),
            batch_size=protocol.batch_size,
            num_classes=setting.num_classes,
            budget=Budget(
                float(protocol.threat.eps), float(protocol.budget.step_size), protocol.budget.num_steps
            ),
            device=setting.device,
            workers=workers,
        )
        self.num_steps = 1

    def start(self, seconds: float) -> None:
        """Warm up, and set `num_steps` so that a block takes about `seconds`."""
        self.block()
        self.num_steps = max(1, round(seconds / self.block()))

    def block(self) -> float:
        """Seconds per step. cuDNN chooses its kernels by timing them, as programs of papers ask for it."""
        cudnn = torch.backends.cudnn
        with cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=not self.strict):
            synchronise(self.device)
            began = time.perf_counter()
            for _ in range(self.num_steps):
                self.loop.step()
            synchronise(self.device)
        return (time.perf_counter() - began) / self.num_steps


class PartClock:
    """Seconds of each part of the steps; waits for the device after each part."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.begin()

    def begin(self) -> None:
        """Start again. The time until the next mark is not counted."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.before: float | None = None

    def __call__(self, part: str) -> None:
        synchronise(self.device)
        now = time.perf_counter()
        self.seconds[part] += 0.0 if self.before is None else now - self.before
        self.before = now

    def shares(self) -> dict[str, float]:
        """The share of each part in the whole time, in 0..1."""
        total = sum(self.seconds.values())
        return {part: value / total for part, value in self.seconds.items()}


def split(setting: TimedSetting, method: str) -> dict[str, float]:
    """The shares of a step's parts, measured on steps without CUDA graph."""
    clock = PartClock(setting.device)
    with TimedTraining(setting, method, replace(setting.speedups, graph=False), mark=clock) as training:
        training.epoch(2)
        clock.begin()
        training.epoch(4)
    return clock.shares()


def forward_equivalents(setting: TimedSetting, method: str) -> tuple[float, float]:
    """Operations of a training step per image, and the number of forward passes with as many operations."""
    protocol = setting.protocol.model_copy(update={"batch_size": COUNTED})
    small = replace(setting, protocol=protocol).with_precision("fp32")
    with TimedTraining(small, method, Speedups.none()) as training:
        counts = [operations(partial(training.epoch, steps)) for steps in (2, 3)]
    images = setting.images(COUNTED).images.float() / 255
    step = counts[1] - counts[0]
    return step / COUNTED, step / forward_operations(setting.network(), images)


def overhead(setting: TimedSetting, seconds: float, rounds: int) -> list[float]:
    """The extra time of the trainer's step of TRADES over attack, loss and update, as shares, by round."""
    with (
        TimedTraining(setting, "trades") as whole,
        TimedTraining(setting, "trades", step=bare_step) as bare,
    ):
        for training in (whole, bare):
            training.start(seconds)
        blocks = alternate({"whole": whole.block, "bare": bare.block}, rounds)
    pairs = zip(blocks["whole"], blocks["bare"], strict=True)
    return [one / other - 1 for one, other in pairs]


class Memory:
    """Peak memory since this was made, in GiB: on a GPU of torch's tensors, on a CPU of the process."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.before = device, 0
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)

    def peak(self) -> float:
        """The peak so far."""
        if self.device.type == "cuda":
            return (torch.cuda.max_memory_allocated(self.device) - self.before) / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
