"""Readers of image files in folders: a user's own set, and Tiny-ImageNet's original layout."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fairbench.core.errors import ConfigError, DataError, DataMissingError
from fairbench.data.splits import RawData, Split, make_split

Shape = tuple[int, int, int]
SUFFIXES = (".png", ".jpg", ".jpeg")
MODES = {1: "L", 3: "RGB"}


def read_folder(source: Path, image_shape: Shape) -> RawData:
    """PATH/train/CLASS/*.png|jpg and PATH/test/CLASS/*: both sorted by name, images resized to fit."""
    for name in ("train", "test"):
        if not (source / name).is_dir():
            raise DataMissingError(
                f"there is no folder {source / name}.",
                hint=f"expected images as {source}/train/CLASS/*.png and {source}/test/CLASS/*.png",
            )
    classes = subfolders(source / "train")
    unknown = sorted(set(subfolders(source / "test")) - set(classes))
    if unknown:
        raise DataError(
            f"{source}/test has a class {unknown[0]!r} that {source}/train has not.",
            hint="both splits need the same class folders",
        )
    train, test = (
        read_files(
            [(path, k) for k, label in enumerate(classes) for path in image_files(source / name / label)],
            image_shape,
        )
        for name in ("train", "test")
    )
    return RawData(train, test, tuple(classes))


def read_tiny_imagenet(source: Path, image_shape: Shape) -> RawData:
    """Tiny-ImageNet from tiny-imagenet-200; the test split is `val`.

    Labels are positions in the sorted WordNet ids. Validation images come in the order of their file
    names, from val/images with val_annotations.txt or from folders val/WNID: both layouts give the
    same arrays. Grey images become RGB.
    """
    folder = source if source.name == "tiny-imagenet-200" else source / "tiny-imagenet-200"
    classes = subfolders(folder / "train")
    label = {wnid: k for k, wnid in enumerate(classes)}
    train = [
        (path, label[wnid])
        for wnid in classes
        for path in image_files(folder / "train" / wnid / "images", folder / "train" / wnid)
    ]
    pairs = annotated(folder / "val") if (folder / "val" / "images").is_dir() else foldered(folder / "val")
    unknown = sorted({wnid for _, wnid in pairs} - set(classes))
    if unknown:
        raise DataError(f"{folder}/val has class {unknown[0]!r}, which {folder}/train has not.")
    test = [(path, label[wnid]) for path, wnid in sorted(pairs, key=lambda pair: pair[0].name)]
    return RawData(read_files(train, image_shape), read_files(test, image_shape), tuple(classes))


def annotated(folder: Path) -> list[tuple[Path, str]]:
    """(image, class) of the original layout: one folder and a table of names."""
    table = folder / "val_annotations.txt"
    if not table.is_file():
        raise DataMissingError(
            f"there is no file {table}.", hint="unpack the original archive, or use folders val/WNID/images"
        )
    rows = [line.split("\t") for line in table.read_text().splitlines() if line.strip()]
    if any(len(row) < 2 for row in rows):
        raise DataError(
            f"{table} has a line that is not NAME<TAB>WNID...", hint="unpack the original archive again"
        )
    return [(folder / "images" / row[0], row[1]) for row in rows]


def foldered(folder: Path) -> list[tuple[Path, str]]:
    """(image, class) of val/WNID/images/* or val/WNID/*."""
    return [
        (path, wnid)
        for wnid in subfolders(folder)
        for path in image_files(folder / wnid / "images", folder / wnid)
    ]


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataMissingError(f"{folder} has no class folders.")
    return names


def image_files(*folders: Path) -> list[Path]:
    """Image files of the first folder that exists, by name; none when no folder exists."""
    for folder in folders:
        if folder.is_dir():
            return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return []


def read_files(items: Iterable[tuple[Path, int]], image_shape: Shape) -> Split:
    """Decoded images of (file, label), resized where they differ. Raises DataError naming the file."""
    from PIL import Image

    channels, height, width = image_shape
    if channels not in MODES:
        raise ConfigError(f"image files have 1 or 3 channels, image_shape asks for {channels}.")
    items = list(items)
    images = np.empty((len(items), channels, height, width), np.uint8)
    for k, (path, _) in enumerate(items):
        try:
            with Image.open(path) as file:
                image = file.convert(MODES[channels])
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(
                f"the image {path} cannot be read: {error}.", hint="replace the file or remove it"
            ) from error
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        images[k] = np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)
    return make_split(images, [label for _, label in items])


def resize(images: np.ndarray, image_shape: Shape) -> np.ndarray:
    """uint8 (N, H, W, 3) as (N, 3, height, width): bilinear with antialiasing.

    Pillow's whole-number arithmetic gives the same pixels on every machine, so a digest can name them.
    """
    from PIL import Image

    channels, height, width = image_shape
    if channels != 3:
        raise ConfigError(f"these images have 3 channels, image_shape asks for {channels}.")
    out = np.empty((len(images), height, width, 3), np.uint8)
    for k, image in enumerate(images):
        whole = Image.fromarray(np.ascontiguousarray(image))
        out[k] = np.asarray(whole.resize((width, height), Image.Resampling.BILINEAR))
    return out.transpose(0, 3, 1, 2)
