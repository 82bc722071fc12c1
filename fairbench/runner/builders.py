"""Build what a cell is made of: its network, its images and its method."""

import os
from pathlib import Path

import torch

from fairbench.core.errors import ContractError, EnvironmentFault, PluginError
from fairbench.core.seeds import derive_seed
from fairbench.data.holdout import training_mask
from fairbench.data.images import ImageSet, load_images
from fairbench.data.manifest import Manifest, data_root, manifest_of
from fairbench.data.stream import CropFlip
from fairbench.models.build import build_model
from fairbench.models.checkpoints import load_weights, read_tensors
from fairbench.objectives.contract import AdversarialObjective, DataInfo, build_config
from fairbench.objectives.load import load_plugin
from fairbench.records.cell import Cell, ImageFacts
from fairbench.records.run_folder import RunFolder
from fairbench.registry import describe


def initial_model(cell: Cell, images: ImageSet, device: torch.device) -> torch.nn.Module:
    """The cell's network with the initial weights of its seed."""
    return build_model(
        cell.locations["model"], images.num_classes, images.image_shape, derive_seed(cell.seed, "init")
    ).to(device)


def trained_model(
    cell: Cell, run: RunFolder, epoch: int, images: ImageSet, device: torch.device
) -> torch.nn.Module:
    """The network of the cell in `run` as it was evaluated at `epoch`. Raises CheckpointError."""
    model = initial_model(cell, images, device)
    path = run.weights_file(epoch)
    weights, _ = read_tensors(path, device)
    load_weights(model, weights, str(path))
    return model


def load_split(cell: Cell, split: str, device: torch.device) -> tuple[ImageSet, Manifest | None]:
    """One split of the cell's data set; refuses data other than the cell was planned with."""
    facts, root = cell.images, Path(cell.locations["data_root"])
    if not os.access(root, os.R_OK | os.X_OK):  # the folder came here from another machine or person
        root = data_root(None)
    try:
        return _load_split(cell, facts, split, device, root)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot read the data set {facts.name} in {root}: {error.strerror or error}.",
            hint="make it readable, or name another folder: --data DIR or $FAIRBENCH_DATA",
        ) from error


def _load_split(
    cell: Cell, facts: ImageFacts, split: str, device: torch.device, root: Path
) -> tuple[ImageSet, Manifest | None]:
    manifest = manifest_of(root, facts.name, facts.reader)
    subset = cell.full_protocol.subset
    per_class = None
    if subset is not None:
        per_class = subset.train_per_class if split == "train" else subset.test_per_class
    images = load_images(
        facts.name,
        split,
        root=root,
        device=device,
        reader=facts.reader,
        subset_per_class=per_class,
        expected_digest=facts.digest,
    )
    return images, manifest


def kept_images(cell: Cell, train: ImageSet, objective: AdversarialObjective) -> torch.Tensor | None:
    """Which images (N,) are trained on; None when the cell holds none out.

    Raises ContractError when the method needs held-out images and its source does not declare it.
    """
    if cell.components.hold_out is None:
        needs = objective.resolved_needs()
        if needs.validation is not None and needs.validation_on == "held-out":
            raise ContractError(
                f"method {cell.method!r} needs held-out images, but the plan could not read that.",
                hint='write Needs(validation="start") (or "end") in its class',
            )
        return None
    return drawn_images(cell, train)


def drawn_images(cell: Cell, train: ImageSet) -> torch.Tensor | None:
    """Which images (N,) the hold-out leaves for training; None when the cell holds none out."""
    hold_out = cell.components.hold_out
    if hold_out is None:
        return None
    return training_mask(
        train.labels,
        train.num_classes,
        share=hold_out.share,
        min_per_class=hold_out.min_per_class,
        pick=hold_out.pick,
        seed=cell.seed,
    )


def build_objective(cell: Cell, train: ImageSet, device: torch.device) -> AdversarialObjective:
    """The cell's method, configured. Raises PluginError or ContractError when it cannot be had."""
    check_fingerprint(cell)
    cls = load_plugin(cell.locations["target"], cell.method)
    counts = torch.bincount(train.labels.cpu(), minlength=train.num_classes).tolist()
    info = DataInfo(num_classes=train.num_classes, class_count=tuple(counts), image_shape=train.image_shape)
    return cls(build_config(cls, cell.code.config), info, device)


def check_fingerprint(cell: Cell) -> None:
    """Raise PluginError when the method's code is not what the cell was planned with."""
    path, class_name = Path(cell.locations["plugin"]), cell.locations["target"].rpartition(":")[2]
    if describe(path, class_name).fingerprint != cell.code.fingerprint:
        raise PluginError(
            f"the code of method {cell.method!r} changed since this cell was planned ({path}).",
            hint="run fairbench run again, which makes a new folder, or undo the change",
        )


def augmentation(cell: Cell) -> CropFlip:
    """The protocol's crop and flip; no flip where a mirrored image may be of another class."""
    chosen = cell.full_protocol.augmentation
    flip = chosen.flip and cell.images.flip
    return CropFlip(crop_padding=chosen.crop_padding, padding=chosen.padding, flip=flip)
