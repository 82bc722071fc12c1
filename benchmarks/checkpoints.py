"""Time of training with checkpoints written in a thread, and with training that waits for each, alternating.

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
            model=setting.network(),
            objective=setting.objective("trades"),
            images=setting.images(int(images)),
            protocol=setting.protocol,
            augmentation=setting.augmentation,
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
setting = TimedSetting(
    registry, dataset, model, registry.protocol_for(name, "trades").with_epochs(EPOCHS), device
)
choose_threads(device, setting.protocol.batch_size, setting.shape)
measured = {kind: [] for kind in (WaitingWriter, Writer)}
for _ in range(int(rounds)):
    for kind, times in measured.items():
        times.append(seconds(kind))
waiting, in_thread = (statistics.median(times) for times in measured.values())
ratios = [a / b for a, b in zip(*measured.values(), strict=True)]
print(f"{model}, {images} images of {dataset}, {device.type}, torch {torch.__version__}, {EPOCHS} epochs")
print(f"waiting for the disk {waiting:.3f} s per epoch, in a thread {in_thread:.3f} s")
print(f"ratio {waiting / in_thread:.2f} ({min(ratios):.2f} to {max(ratios):.2f} over {rounds} rounds)")
