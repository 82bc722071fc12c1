"""Seconds of an epoch of planned cells on this device, estimated from some of their steps."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fairbench.core.files import make_folder
from fairbench.planning.cost import device_name, num_images, read_paces, write_step
from fairbench.planning.status import CellStatus
from fairbench.registry import Registry
from fairbench.runner.device import check_precision, choose_device
from fairbench.speed.timed_training import TimedSetting, TimedTraining
from fairbench.training.networks import Speedups
from fairbench.training.schedule import steps_per_epoch

SECONDS = 1.0  # of steps for each entry


def measure_paces(
    planned: Sequence[CellStatus], registry: Registry, results: Path, device: str
) -> Iterator[tuple[str, float]]:
    """Measure one cell of each entry without a measurement; yields its name and the seconds of an epoch.

    Methods are measured with their registered settings. Measurements are written to the results folder.
    Raises EnvironmentFault when the device cannot train a cell, PluginError when a method cannot be loaded.
    """
    where, name = choose_device(device), device_name(device)
    known = set(read_paces(results, registry, name).epochs)
    make_folder(results)
    for cell in (item.cell for item in planned):
        if cell.entry in known:
            continue
        known.add(cell.entry)
        protocol = cell.training_protocol
        check_precision(protocol.precision, where)
        size = num_images(cell, registry, "train")
        setting = TimedSetting(registry, cell.dataset, cell.model, protocol, where)
        with TimedTraining(setting, cell.method, Speedups.of(where, protocol, size)) as training:
            training.start(SECONDS)
            seconds = training.block() * steps_per_epoch(protocol, size) + training.fixed_seconds
        write_step(results, name, cell.entry, seconds)
        yield f"{cell.method} {cell.dataset} {cell.model}", seconds
