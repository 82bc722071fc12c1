"""Training of the toy network on toy images with the trainer of the house."""

from fairbench.data.holdout import training_mask
from fairbench.models.checkpoints import read_tensors
from fairbench.records.curves import read_epochs
from fairbench.registry import Protocol
from fairbench.registry.components import Augment, Averaging, WeightPerturbation


class Silent:
    def step(self, epoch, num_epochs, step, num_steps, loss):
        pass

    def epoch(self, row):
        pass


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


def weights(folder, epoch=4):
    return read_tensors(folder / "checkpoints" / f"epoch-{epoch:04d}.safetensors")[0]


def rows(folder):
    return [{key: v for key, v in row.items() if key != "seconds"} for row in read_epochs(folder)]


HOUSES = {
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
