"""Weights that a user gives in a file: the start of a fine-tuning, and teachers."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from fairbench.core.errors import CheckpointError
from fairbench.core.identity import digest_bytes
from fairbench.data.images import ImageSet
from fairbench.evaluation.external_checkpoint import read_checkpoint
from fairbench.records.cell import Cell
from fairbench.registry import Registry
from fairbench.registry.trained_weights import FINE_TUNE
from fairbench.runner.external_checkpoint import load_foreign, try_out
from fairbench.runner.external_evaluation import find_architecture

logger = logging.getLogger(__name__)


def load_start(model: nn.Module, cell: Cell, registry: Registry) -> None:
    """Load the weights that the cell's fine-tuning starts from. Raises CheckpointError."""
    path, weights = _read(cell, FINE_TUNE)
    _, architecture = find_architecture(cell.model, path, cell.dataset, registry)
    load_foreign(model, weights, architecture, str(path))


def file_teacher(
    cell: Cell, name: str, images: ImageSet, registry: Registry, device: torch.device
) -> nn.Module:
    """The cell's teacher `name`, whose weights are in a file.

    Raises CheckpointError or ConfigError when the weights do not fit the network, or the network the images.
    """
    path, weights = _read(cell, name)
    network = getattr(cell.components, name).model or cell.model
    _, architecture = find_architecture(network, path, cell.dataset, registry)
    model = architecture.build(images.num_classes, images.image_shape)
    load_foreign(model, weights, architecture, str(path))
    model.to(device)
    try_out(model, images)
    return model


def _read(cell: Cell, component: str) -> tuple[Path, dict[str, Tensor]]:
    """The file of a component and the weights in it, which must be those that the cell was planned with."""
    path = Path(cell.locations.get(component, ""))
    again = f"plan again: --set methods.{cell.method}.{component}.weights=FILE"
    if not path.is_file():
        raise CheckpointError(f"there is no file {path} with the weights for {component}.", hint=again)
    if digest_bytes(path.read_bytes()) != getattr(cell.components, component).weights:
        raise CheckpointError(f"{path} changed since this cell was planned.", hint=again)
    weights = read_checkpoint(path)
    logger.info("%s: %d tensors of %s", component, len(weights), path)
    return path, weights
