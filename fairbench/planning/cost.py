"""How long a cell will take: measured where something alike has run, else counted in operations."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from statistics import median

from fairbench.core.devices import parse_device
from fairbench.core.errors import FairbenchError, RecordError
from fairbench.core.files import read_json, write_json
from fairbench.core.processes import query_gpus
from fairbench.data.manifest import manifest_of
from fairbench.records.cell import CLEAN, Cell
from fairbench.records.results_folder import ResultsFolder
from fairbench.records.run_folder import RunFolder
from fairbench.registry import A3Attack, AttackEntry, PgdAttack, Registry
from fairbench.registry.trained_weights import TEACHERS

BACKWARD = 1.35  # an input gradient in forward passes (measured on a ResNet-18)
UPDATE = 8.6  # two train-mode forwards and the backward pass with parameter gradients, in forward passes
UNKNOWN_MFLOPS = 1000.0  # of a network without them in the registry: like a ResNet-18
UNKNOWN_MPARAMS = 11.0
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
    examples: dict[str, Cell] = {}
    for run in ResultsFolder(results).run_folders():
        rows = run.read_epochs()
        if rows and _device_of(run) == device:
            with suppress(RecordError):  # a damaged folder measures nothing
                cell = run.read_cell()
                seconds.setdefault(cell.entry, []).extend(row["seconds"] for row in rows)
                examples.setdefault(cell.entry, cell)
    epochs = {
        **_measured_steps(results).get(device, {}),
        **{key: median(values) for key, values in seconds.items()},
    }
    passes: dict[tuple[str, str], list[float]] = {}
    for entry, cell in examples.items():
        with suppress(FairbenchError):  # of another registry, or damaged
            seconds_per_pass = epochs[entry] / max(epoch_passes(cell, registry), 1.0)
            passes.setdefault(_kind(cell), []).append(seconds_per_pass)
    return Paces(epochs, {kind: median(values) for kind, values in passes.items()})


def write_step(results: Path, device: str, entry: str, epoch_seconds: float) -> None:
    """Keep the seconds of an epoch that `plan --measure` measured for an entry."""
    steps = _measured_steps(results)
    steps.setdefault(device, {})[entry] = epoch_seconds
    write_json(ResultsFolder(results).steps_file, {"schema": 1, "epoch_seconds": steps})


def estimate(cell: Cell, registry: Registry, paces: Paces, *, cuda: bool) -> Estimate:
    """The time of one cell on one device, and its place on disk."""
    epochs = cell.training_protocol.epochs
    measured, scaled = cell.entry in paces.epochs, _kind(cell) in paces.passes
    passes = epoch_passes(cell, registry)
    if measured:
        epoch = paces.epochs[cell.entry]
    elif scaled:
        epoch = paces.passes[_kind(cell)] * passes
    else:
        _, height, width = registry.get("dataset", cell.dataset).image_shape
        gflop = _mflops(cell.model, registry) / 1000 * height * width / 1024
        epoch = passes * gflop / (CUDA_GFLOPS if cuda else CPU_GFLOPS)
    evaluation = sum(evaluation_passes(cell, registry).values()) * epoch / max(passes, 1.0)
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

    Seed after seed, so that methods can be compared on those seeds that are done. A cell that needs another
    one's weights comes with that one or not at all.
    """
    loads = [0.0] * devices
    taken: set[str] = set()
    here = {cell.id for cell in cells}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        least, price = min(loads), costs[cell.id].seconds
        possible = all(needed.id in taken or needed.id not in here for needed in cell.needed)
        if possible and least + price <= budget:
            loads[loads.index(least)] += price
            taken.add(cell.id)
    return [cell for cell in cells if cell.id in taken], [cell for cell in cells if cell.id not in taken]


def device_name(choice: str) -> str:
    """What records call the device of --device, without asking torch."""
    kind, number = parse_device(choice)
    if kind != "cpu" and (names := query_gpus("name")):
        return names[number or 0] if (number or 0) < len(names) else names[0]
    return "cuda" if kind == "cuda" else "cpu"


def _kind(cell: Cell) -> tuple[str, str]:
    return cell.model, cell.training_protocol.precision


def _device_of(run: RunFolder) -> str:
    """Of the last attempt at a run: a GPU's name, or "cpu"."""
    try:
        device = run.attempts()[-1]["device"]
        return str(device.get("name") or device["type"])
    except (RecordError, KeyError, TypeError, AttributeError):
        return ""


def _measured_steps(results: Path) -> dict[str, dict[str, float]]:
    """Seconds of an epoch by device and entry, as `write_step` keeps them."""
    try:
        seconds = read_json(ResultsFolder(results).steps_file)["epoch_seconds"]
        return {
            str(device): {str(entry): float(value) for entry, value in entries.items()}
            for device, entries in seconds.items()
        }
    except (RecordError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _mflops(model: str, registry: Registry) -> float:
    """Millions of operations of a forward pass of a 32x32 image."""
    known = registry.get("model", model).mflops if registry.has_model(model) else None
    return float(known or UNKNOWN_MFLOPS)


def epoch_passes(cell: Cell, registry: Registry) -> float:
    """Forward passes of single images in an epoch."""
    per_image = cell.training_protocol.budget.num_steps * (1 + BACKWARD) + 1 + UPDATE
    if cell.components.awp is not None:
        per_image += UPDATE  # the loss and its gradient once more
    for name in TEACHERS:  # each is asked once a step
        teacher = getattr(cell.components, name)
        if teacher is not None:
            per_image += _mflops(teacher.model or cell.model, registry) / _mflops(cell.model, registry)
    return float(num_images(cell, registry, "train") * per_image * registry.get("method", cell.method).cost)


def _bytes(cell: Cell, registry: Registry) -> tuple[float, float]:
    """What a cell leaves on disk, and what it needs there besides while at work."""
    selected, kept = cell.selected_epochs, cell.kept_epochs
    weights = 4e6 * (registry.get("model", cell.model).mparams or UNKNOWN_MPARAMS)
    averaged = 1 if cell.components.averaging is None else 2
    images = num_images(cell, registry, "test")
    rows = len(selected) + sum(len(attack.epochs(selected, kept)) for attack in cell.evaluation)
    pixels = 1.0 * prod(registry.get("dataset", cell.dataset).image_shape)
    ensembles = [attack for attack in cell.evaluation if not isinstance(attack.attack, PgdAttack)]
    proofs = sum(len(attack.epochs(selected, kept)) for attack in ensembles)
    stays = weights * averaged * len(kept) + images * (ROW_BYTES * rows + pixels * proofs * (1 - HALF_ROBUST))
    states = 3  # the newest, the one before it, and the one being written
    return stays, weights * (1 + averaged) * states


def num_images(cell: Cell, registry: Registry, split: str) -> int:
    """Images of a split, at most; 0 when neither the registry nor a manifest has the number."""
    entry = registry.get("dataset", cell.dataset)
    facts = manifest_of(Path(cell.locations["data_root"]), cell.dataset, entry.reader) or entry
    size = int(getattr(facts, f"{split}_size") or 0)
    per_class = getattr(cell.training_protocol.subset, f"{split}_per_class", None)
    if per_class and facts.num_classes:
        part = int(per_class * facts.num_classes)
        return min(size, part) if size else part
    return size


def evaluation_passes(cell: Cell, registry: Registry) -> dict[tuple[str, int], float]:
    """Forward passes of single images of each evaluation, by attack and epoch, in the order of the work."""
    selected, kept = cell.selected_epochs, cell.kept_epochs
    count = num_images(cell, registry, "test")
    asked = cell.evaluations(cell.images.num_classes or 10)
    return {
        (attack.name, epoch): count * (1.0 if attack.name == CLEAN else attack_passes(attack.attack))
        for epoch in kept
        for attack in asked
        if epoch in attack.epochs(selected, kept)
    }


def attack_passes(attack: AttackEntry) -> float:
    """Forward passes per test image of an evaluation attack, on a model that is half robust."""
    if isinstance(attack, PgdAttack):
        return float(attack.num_steps * (1 + BACKWARD) + 1)
    if isinstance(attack, A3Attack):
        return 400.0  # measured on small networks; arXiv 2203.05154 reports more
    return HALF_ROBUST * sum(PART_PASSES[part] for part in attack.parts)
