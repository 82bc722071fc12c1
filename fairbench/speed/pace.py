"""How long an epoch of planned cells takes on this device, from some of their steps."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fairbench.core.files import make_folder
from fairbench.planning.cost import device_name, read_paces, train_size, write_step
from fairbench.planning.status import CellStatus
from fairbench.registry import Registry
from fairbench.runner.device import check_precision, choose_device
from fairbench.speed.subject import TimedSetting, TimedTraining
from fairbench.training.networks import Speedups

SECONDS = 1.0  # of steps for each entry


def measure_paces(
    planned: Sequence[CellStatus], registry: Registry, results: Path, device: str
) -> Iterator[tuple[str, float]]:
    """Measure one cell of each entry of which nothing is known here; its name and the seconds of an epoch.

    Methods are measured with their registered settings. What is found is kept in the results folder.
    Raises EnvironmentFault where the device cannot train them, PluginError where a method cannot be had.
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
        steps = -(-train_size(cell, registry) // protocol.batch_size)
        place = TimedSetting(registry, cell.dataset, cell.model, protocol, where)
        speedups = Speedups.of(where, steps * protocol.epochs, protocol.precision)
        with TimedTraining(place, cell.method, protocol.precision, speedups) as subject:
            subject.start(SECONDS)
            seconds = subject.block() * steps + subject.fixed_seconds
        write_step(results, name, cell.entry, seconds)
        yield f"{cell.method} {cell.dataset} {cell.model}", seconds
