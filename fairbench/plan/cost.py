"""How long a cell will take: measured where something alike has run, else counted in operations."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairbench.core.errors import RecordError
from fairbench.core.files import read_json
from fairbench.data.manifest import read_manifest
from fairbench.plan.cells import Cell, epochs_of, training_protocol
from fairbench.records.curves import read_epochs
from fairbench.registry import Registry

BACKWARD = 1.35  # an input gradient in forward passes (measured on a ResNet-18)
UPDATE = 8.6  # two train-mode forwards and the backward pass with parameter gradients, in forward passes
UNKNOWN_MFLOPS = 1000.0  # of a network whose registry entry does not say: like a ResNet-18
CPU_GFLOPS = 60.0  # first guesses; replaced by measurements once something alike has run
CUDA_GFLOPS = 31000.0  # gives the 2.5 h that the TRIX paper reports for a ResNet-18 run on its GPU


@dataclass(frozen=True)
class Estimate:
    """Seconds for training and evaluation; `measured` when taken from epochs on this results folder."""

    seconds: float
    measured: bool


def measured_epochs(folders: Iterable[Path]) -> dict[str, float]:
    """Median seconds per epoch by entry (cells that differ only in seed), from finished epochs."""
    seconds: dict[str, list[float]] = {}
    for folder in folders:
        rows = read_epochs(folder)
        if rows:
            with suppress(RecordError, KeyError, TypeError):  # a damaged folder measures nothing
                entry = str(read_json(folder / "cell.json")["entry"])
                seconds.setdefault(entry, []).extend(row["seconds"] for row in rows)
    return {key: sorted(values)[len(values) // 2] for key, values in seconds.items()}


def estimate(cell: Cell, registry: Registry, measured: dict[str, float], *, cuda: bool) -> Estimate:
    """The time of one cell on one device."""
    protocol: dict[str, Any] = cell.identity["protocol"]
    epochs = training_protocol(cell).epochs
    images = registry.get("dataset", cell.dataset)
    train = _size(cell, registry, "train")
    passes = protocol["budget"]["num_steps"] * (1 + BACKWARD) + 1 + UPDATE
    if "awp" in cell.identity:
        passes += UPDATE  # the loss and its gradient once more
    cost = registry.get("method", cell.method).cost
    if cell.entry in measured:
        epoch = measured[cell.entry]
    else:
        _, height, width = images.image_shape
        mflops = registry.get("model", cell.model).mflops or UNKNOWN_MFLOPS
        gflop = mflops / 1000 * height * width / 1024
        epoch = train * passes * cost * gflop / (CUDA_GFLOPS if cuda else CPU_GFLOPS)
    return Estimate(
        epoch * epochs + _evaluation(cell, registry, epoch / max(train * passes * cost, 1)),
        cell.entry in measured,
    )


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


HALF_ROBUST = 0.5  # share of images that go through all parts of an ensemble
PART_PASSES = {"apgd-ce": 238.0, "apgd-t": 2140.0, "fab-t": 3015.0, "square": 5003.0}
"""Forward passes that an image costs which a part of AutoAttack does not break, backward ones at 1.35."""


def attack_passes(settings: Mapping[str, Any]) -> float:
    """Forward passes per test image of an evaluation attack, on a model that is half robust."""
    if settings["kind"] == "pgd":
        return float(settings["num_steps"] * (1 + BACKWARD) + 1)
    if settings["kind"] == "a3":
        return 400.0  # measured on small networks; arXiv 2203.05154 reports more
    parts = PART_PASSES if settings["attacks"] == "standard" else settings["attacks"]
    return HALF_ROBUST * sum(PART_PASSES[part] for part in parts)
