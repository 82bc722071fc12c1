"""Measurements in alternation, so that a busy machine slows all of them alike."""

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from fairbench.registry.protocol import Precision
from fairbench.speed.limits import forward_operations, operations, synchronise
from fairbench.speed.reference import REFERENCES, Images, PlainLoop
from fairbench.speed.subject import TimedSetting, TimedTraining, bare_step
from fairbench.training.networks import Speedups
from fairbench.training.schedule import sgd

PARTS = ("data", "attack", "outer", "bookkeeping")
COUNTED = 8  # images of the batch whose operations are counted


@dataclass
class Blocks:
    """Seconds per step of something, block by block."""

    name: str
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def alternate(blocks: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Blocks]:
    """Each in turn, `rounds` times."""
    found = {name: Blocks(name) for name in blocks}
    for _ in range(rounds):
        for name, block in blocks.items():
            found[name].seconds.append(block())
    return found


def ratio(one: Blocks, other: Blocks) -> tuple[float, float, float]:
    """How many times as long `one` takes: by the medians, and the lowest and highest of a round."""
    each = [a / b for a, b in zip(one.seconds, other.seconds, strict=True)]
    return one.median / other.median, min(each), max(each)


class Reference:
    """The plain loop at a place."""

    def __init__(self, place: TimedSetting, method: str, *, workers: int) -> None:
        self.place = place
        self.method = method if method in REFERENCES else REFERENCES[0]
        protocol = place.protocol
        model, augmentation = place.network(), place.augmentation
        images = place.images(8 * protocol.batch_size)
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
            num_classes=place.num_classes,
            eps=float(protocol.threat.eps),
            step_size=float(protocol.budget.step_size),
            num_steps=protocol.budget.num_steps,
            device=place.device,
            workers=workers,
        )
        self.num_steps = 1

    def start(self, seconds: float) -> None:
        """Warm up, and find how many steps take about `seconds`."""
        self.block()
        self.num_steps = max(1, round(seconds / self.block()))

    def block(self) -> float:
        """Seconds per step, with cuDNN's choice of kernels by the clock, as programs of papers ask for it."""
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False):
            synchronise(self.place.device)
            began = time.perf_counter()
            for _ in range(self.num_steps):
                self.loop.step()
            synchronise(self.place.device)
        return (time.perf_counter() - began) / self.num_steps


class PartClock:
    """Seconds of each part of the steps, the device waited for after each."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.begin()

    def begin(self) -> None:
        """Forget what was; the time up to the next mark does not count either."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.before: float | None = None

    def __call__(self, part: str) -> None:
        synchronise(self.device)
        now = time.perf_counter()
        self.seconds[part] += 0.0 if self.before is None else now - self.before
        self.before = now

    def shares(self) -> dict[str, float]:
        """Of all of it, in 0..1."""
        total = sum(self.seconds.values())
        return {part: value / total for part, value in self.seconds.items()}


def split(place: TimedSetting, method: str, precision: Precision, speedups: Speedups) -> dict[str, float]:
    """The shares of a step's parts, measured on steps that are not recorded."""
    clock = PartClock(place.device)
    with TimedTraining(place, method, precision, replace(speedups, graph=False), mark=clock) as subject:
        subject.epoch(2)
        clock.begin()
        subject.epoch(4)
    return clock.shares()


def forward_equivalents(place: TimedSetting, method: str) -> tuple[float, float]:
    """Operations of a training step for one image, and how many forward passes these are."""
    protocol = place.protocol.model_copy(update={"batch_size": COUNTED})
    small = replace(place, protocol=protocol)
    with TimedTraining(small, method, "fp32", Speedups.none()) as subject:
        counts = [operations(partial(subject.epoch, steps)) for steps in (2, 3)]
    images = place.images(COUNTED).images.float() / 255
    step = counts[1] - counts[0]
    return step / COUNTED, step / forward_operations(place.network(), images)


def overhead(
    place: TimedSetting, precision: Precision, speedups: Speedups, seconds: float, rounds: int
) -> Blocks:
    """What the house's step of TRADES takes beyond attack, loss and update, as a share, round by round."""
    with (
        TimedTraining(place, "trades", precision, speedups) as whole,
        TimedTraining(place, "trades", precision, speedups, step=bare_step) as bare,
    ):
        for subject in (whole, bare):
            subject.start(seconds)
        found = alternate({"house": whole.block, "bare": bare.block}, rounds)
    pairs = zip(found["house"].seconds, found["bare"].seconds, strict=True)
    return Blocks("overhead", [house / bare - 1 for house, bare in pairs])


class Memory:
    """GiB taken at most since this was made: of a GPU by torch's tensors, of a CPU by the process."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.before = device, 0
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)

    def peak(self) -> float:
        """So far."""
        if self.device.type == "cuda":
            return (torch.cuda.max_memory_allocated(self.device) - self.before) / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
