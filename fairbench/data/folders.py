"""Readers of image files in folders: a user's own data set, and Tiny-ImageNet."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fairbench.core.errors import ConfigError, DataError, DataMissingError
from fairbench.data.splits import RawData, Split, make_split

Shape = tuple[int, int, int]
SUFFIXES = (".png", ".jpg", ".jpeg")
MODES = {1: "L", 3: "RGB"}


def read_folder(source: Path, image_shape: Shape) -> RawData:
    """A data set from PATH/train/CLASS/*.png|jpg and PATH/test/CLASS/*, sorted by name, images resized."""
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
            f"{source}/test has a class {unknown[0]!r} that {source}/train does not have.",
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

    Labels are positions in the sorted WordNet ids. Validation images are in the order of their file
    names, read from val/images with val_annotations.txt or from folders val/WNID; both layouts give the
    same arrays. Grey images are converted to RGB.
    """
    folder = source if source.name == "tiny-imagenet-200" else source / "tiny-imagenet-200"
    classes = subfolders(folder / "train")
    label = {wnid: k for k, wnid in enumerate(classes)}
    train = [(path, label[wnid]) for path, wnid in images_by_class(folder / "train")]
    val = folder / "val"
    pairs = annotated_images(val) if (val / "images").is_dir() else images_by_class(val)
    unknown = sorted({wnid for _, wnid in pairs} - set(classes))
    if unknown:
        raise DataError(f"{folder}/val has class {unknown[0]!r}, which {folder}/train does not have.")
    test = [(path, label[wnid]) for path, wnid in sorted(pairs, key=lambda pair: pair[0].name)]
    return RawData(read_files(train, image_shape), read_files(test, image_shape), tuple(classes))


def annotated_images(folder: Path) -> list[tuple[Path, str]]:
    """(image file, class) in the original layout: one folder, and a table of file names and classes."""
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


def images_by_class(folder: Path) -> list[tuple[Path, str]]:
    """(image file, class) in the layout WNID/images/* or WNID/*."""
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
    """Image files, sorted by name, of the first folder that exists; empty when none exists."""
    for folder in folders:
        if folder.is_dir():
            return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return []


def read_files(items: Iterable[tuple[Path, int]], image_shape: Shape) -> Split:
    """A split from (file, label) pairs, images resized if needed. Raises DataError naming the file."""
    from PIL import Image

    channels, height, width = image_shape
    if channels not in MODES:
        raise ConfigError(f"image files have 1 or 3 channels, image_shape has {channels}.")
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
    """uint8 images (N, H, W, 3) resized to (N, 3, height, width): bilinear with antialiasing.

    Pillow uses integer arithmetic, so pixels, and hence digests, are the same on every machine.
    """
    from PIL import Image

    channels, height, width = image_shape
    if channels != 3:
        raise ConfigError(f"these images have 3 channels, image_shape has {channels}.")
    out = np.empty((len(images), height, width, 3), np.uint8)
    for k, image in enumerate(images):
        original = Image.fromarray(np.ascontiguousarray(image))
        out[k] = np.asarray(original.resize((width, height), Image.Resampling.BILINEAR))
    return out.transpose(0, 3, 1, 2)
