"""Check before anything is written that options, network, images and batches of a cell go together."""

from collections.abc import Iterable
from contextlib import suppress

import torch

from fairbench.core.devices import parse_device
from fairbench.core.errors import ConfigError, ContractError, FairbenchError, PluginError
from fairbench.models.build import build_model
from fairbench.objectives.contract import build_config
from fairbench.objectives.load import load_plugin
from fairbench.planning.training_images import trained_images
from fairbench.records.cell import Cell
from fairbench.registry.components import mixed_labels_error


def check_cells(cells: Iterable[Cell], device: str = "auto", *, elsewhere: bool = False) -> None:
    """Raise ConfigError for the first cell whose options, network or last batch cannot be trained.

    `elsewhere`: the cells run on other machines, so whether there is a GPU here does not matter. A network is
    tried out on the CPU; where cells run on a GPU, only a refusal by fairbench itself counts.
    """
    kind = parse_device(device).kind
    on_cpu = kind == "cpu" or (kind == "auto" and not elsewhere and not torch.cuda.is_available())
    networks = set()
    for cell in {cell.entry: cell for cell in cells}.values():  # the seed changes nothing of these
        check_options(cell)
        images, size = cell.images, cell.training_protocol.batch_size
        if images.num_classes is None:
            continue  # not prepared
        count = trained_images(cell) or 0
        network = (cell.locations["model"], images.num_classes, images.image_shape, count % size == 1)
        if network not in networks:
            networks.add(network)
            check_network(cell, images.num_classes, count, on_cpu=on_cpu)


def check_options(cell: Cell) -> None:
    """Raise ConfigError when the method refuses its options or mixed images.

    A plugin that cannot be loaded is no error here: the record of its cell will contain what is wrong.
    """
    with suppress(PluginError, ContractError):
        cls = load_plugin(cell.locations["target"], cell.method)
        needs = cls.needs_of(build_config(cls, cell.code.config))
        augment = cell.components.augment
        if augment is not None and augment.mixes and needs.one_label:
            raise mixed_labels_error(cell.method, augment.kind)


def check_network(cell: Cell, num_classes: int, num_images: int, *, on_cpu: bool) -> None:
    """Raise ConfigError when the network does not take the images, or cannot be trained on the last batch."""
    fault = forward_fault(cell, num_classes, 2)
    shape, size = "x".join(map(str, cell.images.image_shape)), cell.training_protocol.batch_size
    if fault and on_cpu:
        raise ConfigError(
            f"the model {cell.model} cannot take images of {shape} ({cell.dataset}): {fault}.",
            hint="choose another one: --models NAME; see: fairbench list models",
        )
    if not fault and num_images % size == 1 and (fault := forward_fault(cell, num_classes, 1)):
        other = next(other for other in range(size + 1, 2 * size + 2) if num_images % other != 1)
        raise ConfigError(
            f"with batch size {size}, the last batch of {num_images} images of {cell.dataset} has one image, "
            f"and {cell.model} cannot be trained on one: {fault}.",
            hint=f"choose another size: --batch-size {other}",
        )


def forward_fault(cell: Cell, num_classes: int, batch_size: int) -> str:
    """Why the cell's network cannot compute a batch in training mode on the CPU; "" when it can.

    Raises ConfigError when the network cannot be built.
    """
    shape = cell.images.image_shape
    try:
        model = build_model(cell.locations["model"], num_classes, shape, 0).train()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model(torch.zeros(batch_size, *shape))
    except FairbenchError:
        raise
    except Exception as error:  # the code of a network may raise anything
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0].rstrip('.')}"
    return ""
