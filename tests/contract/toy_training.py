"""Training of the toy network on toy images with the trainer of fairbench."""

import os
import signal
from contextlib import contextmanager

import toys

from fairbench.core import stopping
from fairbench.data.holdout import training_mask
from fairbench.data.stream import CropFlip
from fairbench.models.checkpoints import read_tensors
from fairbench.records.run_folder import RunFolder
from fairbench.registry import Protocol
from fairbench.registry.components import Augment, Averaging, WeightPerturbation
from fairbench.training.trainer import Trainer


class Silent:
    def step(self, epoch, num_epochs, step, num_steps, loss):
        pass

    def epoch(self, row):
        pass


class Asks(Silent):
    """Asks the process to stop after a step (counted from 1), or when an epoch's record is there."""

    def __init__(self, epoch, step=None, number=signal.SIGTERM):
        self.place, self.number = (epoch, step), number

    def step(self, epoch, num_epochs, step, num_steps, loss):
        if (epoch, step) == self.place:
            os.kill(os.getpid(), self.number)

    def epoch(self, row):
        if (row["epoch"], None) == self.place:
            os.kill(os.getpid(), self.number)


@contextmanager
def listening():
    """Signals as the command line takes them, and as they were afterwards."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    stopping.install_handlers()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def protocol(**changes):
    given = {
        "version": 1,
        "threat": {"eps": 0.1},
        "budget": {"step_size": 0.05, "num_steps": 2},
        "epochs": 4,
        "batch_size": 10,
        "optimizer": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
        "milestones": {3: 0.1},
        "selection": {"last": 2},
        **changes,
    }
    return Protocol(name="toy", **given)


def half_kept(images, seed=0):
    """Half of each class is held out, by seed."""
    share = {"share": 0.5, "min_per_class": 1, "pick": "seeded"}
    return training_mask(images.labels, images.num_classes, seed=seed, **share)


def trainer(folder, name="dafa", seed=0, listener=None, images=None, method=None, components=None, **changes):
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    options = {"warmup_epochs": 2} if "warmup_epochs" in toys.REGISTRY.method_config(name) else {}
    images = images or toys.images(24)
    components = dict(components or {})
    objective = method or toys.objective(name, images.num_classes, **options)
    if objective.resolved_needs().validation is not None or "averaging" in components:
        components.setdefault("keep", half_kept(images, seed))
    return Trainer(
        model=toys.network(images.num_classes, seed=seed),
        objective=objective,
        images=images,
        **components,
        protocol=protocol(**changes),
        augmentation=CropFlip(crop_padding=1, flip=True),
        seed=seed,
        run_folder=RunFolder(folder),
        listener=listener or Silent(),
        teachers=toy_teachers(objective),
    )


def toy_teachers(objective, device="cpu"):
    """A function that returns the networks that the method learns from."""
    names = objective.resolved_needs().teachers
    return lambda: toys.teachers(objective.info.num_classes, names, device=device).networks


def weights(folder, epoch=4):
    return read_tensors(folder / "checkpoints" / f"epoch-{epoch:04d}.safetensors")[0]


def rows(folder):
    return [{key: v for key, v in row.items() if key != "seconds"} for row in RunFolder(folder).read_epochs()]


class Repeats:
    """Graphs for a device without them: the same code once more, on the captured batch and draws."""

    def __init__(self):
        self.captured = self.replayed = 0

    @contextmanager
    def working(self):
        yield

    @contextmanager
    def watched(self):
        yield []

    def capture(self, work, draws):
        self.captured += 1

        def replay():
            self.replayed += 1
            work()

        return replay

    def close(self):
        pass


COMPONENTS = {
    "ema": {"averaging": Averaging(kind="ema", decay=0.9)},
    "fawa": {"averaging": Averaging(kind="fawa", threshold=0.0, start_epoch=2)},
    "swa": {"averaging": Averaging(kind="swa", start_epoch=2)},
    "awp": {"awp": WeightPerturbation(gamma=0.01, start_epoch=2)},
    "autoaugment": {"augment": Augment(kind="autoaugment")},
    "cutout": {"augment": Augment(kind="cutout")},
    "mixup": {"augment": Augment(kind="mixup")},
    "cutmix": {"augment": Augment(kind="cutmix")},
    "mixup, awp, ema": {
        "augment": Augment(kind="mixup"),
        "averaging": Averaging(kind="ema", decay=0.9),
        "awp": WeightPerturbation(gamma=0.01, start_epoch=2),
    },
}
