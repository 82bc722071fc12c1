"""What writing checkpoints costs training: beside it in a thread, against waiting for each, in alternation.

python benchmarks/checkpoints.py [MODEL] [DATASET] [IMAGES] [ROUNDS]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from fairbench.records.run_folder import RunFolder
from fairbench.registry import load_registry
from fairbench.runner.device import choose_device, choose_threads
from fairbench.speed.timed_training import Clock, TimedSetting
from fairbench.training import checkpointing
from fairbench.training.checkpointing import Writer
from fairbench.training.networks import Speedups
from fairbench.training.trainer import Trainer

model, dataset, images, rounds = (*sys.argv[1:], *("cnn-small", "digits", "640", "7")[len(sys.argv) - 1 :])
EPOCHS = 8


class WaitingWriter(Writer):
    """Waits for each write."""

    def write(self, work):
        super().write(work)
        self.finish()


def seconds(writer):
    """Seconds per epoch of a whole training."""
    checkpointing.Writer = writer
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoints").mkdir()
        training = Trainer(
            model=place.network(),
            objective=place.objective("trades"),
            images=place.images(int(images)),
            protocol=place.protocol,
            augmentation=place.augmentation,
            seed=0,
            run_folder=RunFolder(Path(folder)),
            listener=Clock(device),
            speedups=Speedups(graph=device.type == "cuda"),
        )
        began = time.perf_counter()
        training.run()
        return (time.perf_counter() - began) / EPOCHS


device = choose_device("auto")
registry = load_registry()
name = "quickstart" if dataset == "digits" else "trix-150"
place = TimedSetting(
    registry, dataset, model, registry.protocol_for(name, "trades").with_epochs(EPOCHS), device
)
choose_threads(device, place.protocol.batch_size, place.shape)
found = {kind: [] for kind in (WaitingWriter, Writer)}
for _ in range(int(rounds)):
    for kind, times in found.items():
        times.append(seconds(kind))
waiting, beside = (statistics.median(times) for times in found.values())
each = [a / b for a, b in zip(*found.values(), strict=True)]
print(f"{model}, {images} images of {dataset}, {device.type}, torch {torch.__version__}, {EPOCHS} epochs")
print(f"waiting for the disk {waiting:.3f} s per epoch, in a thread {beside:.3f} s")
print(f"ratio {waiting / beside:.2f} ({min(each):.2f} to {max(each):.2f} over {rounds} rounds)")
