"""How long a cell will take: measured where something alike has run, else counted in operations."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from fairbench.core.errors import FairbenchError, RecordError
from fairbench.core.files import read_json, write_json
from fairbench.data.manifest import read_manifest
from fairbench.planning.cells import Cell, epochs_of, read_cell, training_protocol
from fairbench.planning.status import RUNS
from fairbench.records.curves import read_epochs
from fairbench.registry import Registry

BACKWARD = 1.35  # an input gradient in forward passes (measured on a ResNet-18)
UPDATE = 8.6  # two train-mode forwards and the backward pass with parameter gradients, in forward passes
UNKNOWN_MFLOPS = 1000.0  # of a network whose registry entry does not say: like a ResNet-18
UNKNOWN_MPARAMS = 11.0
STEPS = "steps.json"  # in a results folder: what `plan --measure` found
ROW_BYTES = 8  # of a test image in the outcomes of an attack
HALF_ROBUST = 0.5  # share of images that go through all parts of an ensemble
PART_PASSES = {"apgd-ce": 238.0, "apgd-t": 2140.0, "fab-t": 3015.0, "square": 5003.0}
"""Forward passes that an image costs which a part of AutoAttack does not break, backward ones at 1.35."""
CPU_GFLOPS = 60.0  # first guesses; replaced by measurements once something alike has run
CUDA_GFLOPS = 31000.0  # gives the 2.5 h that the TRIX paper reports for a ResNet-18 run on its GPU


@dataclass(frozen=True)
class Estimate:
    """Seconds for training and evaluation, and bytes on disk: what stays, and what is needed while at work.

    `measured`: taken from epochs of the same entry on this kind of device, or at least `scaled` from others.
    """

    seconds: float
    measured: bool
    scaled: bool = False
    kept_bytes: float = 0.0
    work_bytes: float = 0.0


@dataclass(frozen=True)
class Paces:
    """What was measured on one kind of device: seconds of an epoch by entry, and what follows for networks.

    `passes`: seconds of a forward pass of one image, by network and precision.
    """

    epochs: Mapping[str, float] = field(default_factory=dict)
    passes: Mapping[tuple[str, str], float] = field(default_factory=dict)


def read_paces(results: Path, registry: Registry, device: str) -> Paces:
    """What runs in a results folder, and `plan --measure`, have measured on a device of this name."""
    seconds: dict[str, list[float]] = {}
    examples: dict[str, Path] = {}
    runs = results / RUNS
    for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
        rows = read_epochs(folder)
        if rows and _device_of(folder) == device:
            with suppress(RecordError, KeyError, TypeError):  # a damaged folder measures nothing
                entry = str(read_json(folder / "cell.json")["entry"])
                seconds.setdefault(entry, []).extend(row["seconds"] for row in rows)
                examples.setdefault(entry, folder)
    epochs = {**_measured_steps(results, device), **{key: median(values) for key, values in seconds.items()}}
    passes: dict[tuple[str, str], list[float]] = {}
    for entry, folder in examples.items():
        with suppress(FairbenchError, KeyError, TypeError, ValueError):  # of another registry, or damaged
            cell = read_cell(folder)
            passes.setdefault(_kind(cell), []).append(epochs[entry] / max(_passes(cell, registry), 1.0))
    return Paces(epochs, {kind: median(values) for kind, values in passes.items()})


def write_step(results: Path, device: str, entry: str, epoch_seconds: float) -> None:
    """Keep what `plan --measure` found of an entry."""
    known = {**_measured_steps(results, device), entry: epoch_seconds}
    everything = _all_measured_steps(results)
    write_json(results / STEPS, {"schema": 1, "epoch_seconds": {**everything, device: known}})


def estimate(cell: Cell, registry: Registry, paces: Paces, *, cuda: bool) -> Estimate:
    """The time of one cell on one device, and its place on disk."""
    epochs = training_protocol(cell).epochs
    measured, scaled = cell.entry in paces.epochs, _kind(cell) in paces.passes
    passes = _passes(cell, registry)
    if measured:
        epoch = paces.epochs[cell.entry]
    elif scaled:
        epoch = paces.passes[_kind(cell)] * passes
    else:
        _, height, width = registry.get("dataset", cell.dataset).image_shape
        mflops = registry.get("model", cell.model).mflops or UNKNOWN_MFLOPS
        gflop = mflops / 1000 * height * width / 1024
        epoch = passes * gflop / (CUDA_GFLOPS if cuda else CPU_GFLOPS)
    evaluation = _evaluation(cell, registry, epoch / max(passes, 1.0))
    return Estimate(epoch * epochs + evaluation, measured, scaled, *_bytes(cell, registry))


def makespan(seconds: Sequence[float], devices: int) -> float:
    """How long cells take that are handed, in order, to whichever of so many devices is free first."""
    loads = [0.0] * devices
    for each in seconds:
        loads[loads.index(min(loads))] += each
    return max(loads)


def within(
    cells: Sequence[Cell], costs: Mapping[str, Estimate], budget: float, devices: int
) -> tuple[list[Cell], list[Cell]]:
    """The cells that so many devices finish within `budget` seconds, and those that are left.

    Seed after seed, so that methods can be compared on those seeds that are done. A cell that starts from
    another one's weights comes with that one or not at all.
    """
    loads = [0.0] * devices
    taken: set[str] = set()
    here = {cell.id for cell in cells}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        least, price = min(loads), costs[cell.id].seconds
        started = cell.start is None or cell.start.id in taken or cell.start.id not in here
        if started and least + price <= budget:
            loads[loads.index(least)] += price
            taken.add(cell.id)
    return [cell for cell in cells if cell.id in taken], [cell for cell in cells if cell.id not in taken]


def device_name(choice: str) -> str:
    """What records call the device of --device auto, cpu or cuda, without asking torch."""
    if choice != "cpu" and shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        with suppress(OSError, subprocess.SubprocessError):
            found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
            if found.strip():
                return found.splitlines()[0].strip()
    return "cuda" if choice == "cuda" else "cpu"


def _kind(cell: Cell) -> tuple[str, str]:
    return cell.model, str(cell.identity["protocol"].get("precision", "fp32"))


def _device_of(folder: Path) -> str:
    """Of the last attempt at a run: a GPU's name, or "cpu"."""
    try:
        device = read_json(folder / "provenance.json")["device"]
        return str(device.get("name") or device["type"])
    except (RecordError, KeyError, TypeError, AttributeError):
        return ""


def _all_measured_steps(results: Path) -> dict[str, dict[str, float]]:
    try:
        found = read_json(results / STEPS)["epoch_seconds"]
        return {
            str(device): {str(entry): float(value) for entry, value in entries.items()}
            for device, entries in found.items()
        }
    except (RecordError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _measured_steps(results: Path, device: str) -> dict[str, float]:
    return _all_measured_steps(results).get(device, {})


def _passes(cell: Cell, registry: Registry) -> float:
    """Forward passes of single images in an epoch."""
    per_image = cell.identity["protocol"]["budget"]["num_steps"] * (1 + BACKWARD) + 1 + UPDATE
    if "awp" in cell.identity:
        per_image += UPDATE  # the loss and its gradient once more
    return float(train_size(cell, registry) * per_image * registry.get("method", cell.method).cost)


def _bytes(cell: Cell, registry: Registry) -> tuple[float, float]:
    """What a cell leaves on disk, and what it needs there besides while at work."""
    protocol = training_protocol(cell)
    selected, kept = (rule(protocol.epochs) for rule in (protocol.selection.epochs, protocol.selection.kept))
    weights = 4e6 * (registry.get("model", cell.model).mparams or UNKNOWN_MPARAMS)
    averaged = 2 if "averaging" in cell.identity else 1
    images = _size(cell, registry, "test")
    rows = len(selected) + sum(len(epochs_of(item, selected, kept)) for item in cell.evaluation)
    pixels = 1.0 * prod(registry.get("dataset", cell.dataset).image_shape)
    ensembles = [item for item in cell.evaluation if item["kind"] in ("autoattack", "a3")]
    proofs = sum(len(epochs_of(item, selected, kept)) for item in ensembles)
    stays = weights * averaged * len(kept) + images * (ROW_BYTES * rows + pixels * proofs * (1 - HALF_ROBUST))
    states = 3  # the newest, the one before it, and the one being written
    return stays, weights * (1 + averaged) * states


def train_size(cell: Cell, registry: Registry) -> int:
    """Training images of a cell, at most; 0 when neither the registry nor a manifest knows."""
    return _size(cell, registry, "train")


def _size(cell: Cell, registry: Registry, split: str) -> int:
    """Images of a split, at most; 0 when neither the registry nor a manifest knows."""
    entry = registry.get("dataset", cell.dataset)
    embedded = entry.reader == "digits"
    facts = (None if embedded else read_manifest(Path(cell.locations["data_root"]), cell.dataset)) or entry
    size = int(getattr(facts, f"{split}_size") or 0)
    per_class = (cell.identity["protocol"].get("subset") or {}).get(f"{split}_per_class")
    if per_class and facts.num_classes:
        part = int(per_class * facts.num_classes)
        return min(size, part) if size else part
    return size


def _evaluation(cell: Cell, registry: Registry, seconds_per_pass: float) -> float:
    protocol = training_protocol(cell)
    selected, kept = (rule(protocol.epochs) for rule in (protocol.selection.epochs, protocol.selection.kept))
    passes = float(len(selected))  # clean
    for item in cell.evaluation:
        passes += attack_passes(item) * len(epochs_of(item, selected, kept))
    return _size(cell, registry, "test") * passes * seconds_per_pass


def attack_passes(settings: Mapping[str, Any]) -> float:
    """Forward passes per test image of an evaluation attack, on a model that is half robust."""
    if settings["kind"] == "pgd":
        return float(settings["num_steps"] * (1 + BACKWARD) + 1)
    if settings["kind"] == "a3":
        return 400.0  # measured on small networks; arXiv 2203.05154 reports more
    parts = PART_PASSES if settings["attacks"] == "standard" else settings["attacks"]
    return HALF_ROBUST * sum(PART_PASSES[part] for part in parts)
