"""How many images a cell is trained on, and what its data set makes impossible. No torch."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from fairbench.core.errors import ConfigError
from fairbench.data.manifest import EMBEDDED, data_folder, read_manifest
from fairbench.data.readers import read_digits
from fairbench.data.splits import held_out_count
from fairbench.records.cell import Cell


def check_images(cells: Sequence[Cell]) -> None:
    """Raise ConfigError for a cell whose images allow no held-out images or no crop of its protocol."""
    for cell in _distinct(cells):
        _check_crop(cell)
        counts = None if cell.components.hold_out is None else class_counts(cell)
        if counts is not None and min(counts) < 2:
            label = counts.index(min(counts))
            raise ConfigError(
                f"methods.{cell.method}.hold_out: class {label} of {cell.dataset} has "
                f"{counts[label]} training images, so none can be held out.",
                hint="take more images per class, or a method that holds none out "
                "(see: fairbench list methods --verbose)",
            )


def _check_crop(cell: Cell) -> None:
    augmentation = cell.full_protocol.augmentation
    height, width = cell.images.image_shape[1:]
    if augmentation.padding == "reflect" and augmentation.crop_padding >= min(height, width):
        raise ConfigError(
            f"protocol.augmentation.crop_padding: {augmentation.crop_padding} is too large to reflect the "
            f"{height}x{width} images of {cell.dataset}.",
            hint=f"for instance: --set protocol.augmentation.crop_padding={min(height, width) // 8}",
        )


def single_image_notes(cells: Sequence[Cell]) -> list[str]:
    """A note for each data set and batch size that leave a last batch of one image."""
    notes = (
        f"{cell.dataset}: with batch size {cell.training_protocol.batch_size}, the last batch of "
        f"{trained_images(cell)} images has one image, which is all that BatchNorm measures there"
        for cell in _distinct(cells)
        if has_single_image(cell)
    )
    return list(dict.fromkeys(notes))


def has_single_image(cell: Cell) -> bool:
    """Whether the last batch of an epoch has one image."""
    return (trained_images(cell) or 0) % cell.training_protocol.batch_size == 1


def trained_images(cell: Cell) -> int | None:
    """The number of images in an epoch; None while the data set is not prepared."""
    hold_out = cell.components.hold_out
    if hold_out is None and cell.full_protocol.subset is None and cell.images.reader != EMBEDDED:
        manifest = read_manifest(Path(cell.locations["data_root"]), cell.dataset)
        return None if manifest is None else manifest.train_size
    counts = class_counts(cell)
    if counts is None:
        return None
    if hold_out is None:
        return sum(counts)
    return sum(n - held_out_count(n, hold_out.share, hold_out.min_per_class) for n in counts)


def class_counts(cell: Cell) -> list[int] | None:
    """The training images of each class that the protocol uses; None while they are not prepared."""
    root = Path(cell.locations["data_root"])
    embedded = cell.images.reader == EMBEDDED
    if not embedded and read_manifest(root, cell.dataset) is None:
        return None
    counts = _counts(None if embedded else str(data_folder(root, cell.dataset)))
    subset = cell.full_protocol.subset
    if counts is None or subset is None:
        return counts
    return [min(count, subset.train_per_class) for count in counts]


@lru_cache(maxsize=64)
def _counts(folder: str | None) -> list[int] | None:
    """Training images by class in a prepared folder, or of the digits; None for files that are damaged."""
    if folder is None:
        return [int(count) for count in np.bincount(read_digits(Path(), (1, 8, 8)).train.labels)]
    try:
        labels = np.load(Path(folder) / "train_labels.npy", mmap_mode="r", allow_pickle=False)
        return [int(count) for count in np.bincount(labels)]
    except (OSError, ValueError, TypeError, EOFError):
        return None  # loading the images raises what is wrong with them


def _distinct(cells: Sequence[Cell]) -> list[Cell]:
    """One cell for each choice of what decides on its training images."""
    return list(
        {
            (
                cell.dataset,
                str(cell.components.hold_out),
                str(cell.full_protocol.subset),
                str(cell.full_protocol.augmentation),
                cell.training_protocol.batch_size,
            ): cell
            for cell in cells
        }.values()
    )
