"""Weights that a user gives in a file: the start of a fine-tuning, and teachers."""

import logging
from pathlib import Path

import torch
from torch import nn

from fairbench.core.errors import CheckpointError
from fairbench.core.identity import digest_bytes
from fairbench.data.images import ImageSet
from fairbench.evaluation.checkpoint_layout import ChosenWeights
from fairbench.evaluation.external_checkpoint import Checkpoint, read_checkpoint
from fairbench.records.cell import Cell
from fairbench.registry import Registry
from fairbench.registry.trained_weights import FINE_TUNE
from fairbench.runner.external_checkpoint import load_foreign, normalised, try_out
from fairbench.runner.external_evaluation import find_architecture

logger = logging.getLogger(__name__)


def load_start(model: nn.Module, cell: Cell, registry: Registry) -> None:
    """Load the weights that the cell's fine-tuning starts from. Raises CheckpointError."""
    checkpoint = _read(cell, FINE_TUNE)
    path = checkpoint.path
    _, architecture = find_architecture(cell.model, path, cell.dataset, registry)
    chosen = load_foreign(model, checkpoint, architecture)
    _log(FINE_TUNE, path, chosen)
    if chosen.normalisation is not None:
        raise CheckpointError(
            f"the network in {path} was trained behind a normalisation, which {cell.model} does not have.",
            hint="write a network that contains it, and name it with --models: docs/foreign-models.md",
        )


def file_teacher(
    cell: Cell, name: str, images: ImageSet, registry: Registry, device: torch.device
) -> nn.Module:
    """The cell's teacher `name`, whose weights are in a file.

    Raises CheckpointError or ConfigError when the weights do not fit the network, or the network the images.
    """
    checkpoint = _read(cell, name)
    path = checkpoint.path
    network = getattr(cell.components, name).model or cell.model
    _, architecture = find_architecture(network, path, cell.dataset, registry)
    model = architecture.build(images.num_classes, images.image_shape)
    chosen = load_foreign(model, checkpoint, architecture)
    model, notes = normalised(model, chosen, None, images.image_shape[0])
    _log(name, path, chosen, *notes)
    model.to(device)
    try_out(model, images)
    return model


def _log(component: str, path: Path, chosen: ChosenWeights, *notes: str) -> None:
    logger.info("%s: %d tensors of %s", component, len(chosen.weights), path)
    for note in (*chosen.notes(path.name), *notes):
        logger.info("%s: %s", component, note)


def _read(cell: Cell, component: str) -> Checkpoint:
    """The file of a component, which must be the one that the cell was planned with."""
    path = Path(cell.locations.get(component, ""))
    again = f"plan again: --set methods.{cell.method}.{component}.weights=FILE"
    if not path.is_file():
        raise CheckpointError(f"there is no file {path} with the weights for {component}.", hint=again)
    if digest_bytes(path.read_bytes()) != getattr(cell.components, component).weights:
        raise CheckpointError(f"{path} changed since this cell was planned.", hint=again)
    return read_checkpoint(path)
