"""Readers of image files in folders: a user's own data set, and Tiny-ImageNet."""

from pathlib import Path

import numpy as np

from fairbench.core.errors import ConfigError, DataError, DataMissingError
from fairbench.data.image_files import folder_content, hidden, listed, read_images, side_file
from fairbench.data.splits import RawData, Split, empty_split

Shape = tuple[int, int, int]
TRAIN = ("train", "training")  # names of folders, in any case
TEST = ("test", "testing", "val", "valid", "validation")  # the first one with class folders is the test split


def read_folder(source: Path, image_shape: Shape) -> RawData:
    """A data set from PATH/train/CLASS/* and PATH/test/CLASS/* (or val), sorted by name, images resized.

    Labels are the positions of the sorted names of the class folders. Images in sub-folders of a class belong
    to it. Without a folder train, the data set can only be evaluated.
    """
    notes: list[str] = []
    folders = find_splits(source, notes)
    train, test = folders.get("train"), folders["test"]
    classes = subfolders(train or test)
    unknown = sorted(set(subfolders(test)) - set(classes))
    if unknown:
        raise DataError(
            f"{test} has a class {unknown[0]!r} that {train} does not have.",
            hint="both splits need the same class folders",
        )
    if len(classes) < 2:
        inside = sorted(path.name for path in (train or test).joinpath(classes[0]).iterdir())
        raise DataError(
            f"{train or test} has one class folder, {classes[0]!r} (with {listed(inside)}).",
            hint="one folder for each class is needed, directly in train and test",
        )
    if all(name.isdecimal() for name in classes) and classes != sorted(classes, key=int):
        notes.append(
            f"the class folders are numbers, ordered as text: {', '.join(classes[:4])}, ...; "
            "for another order give `classes` in the registry"
        )
    splits = {
        name: read_classes(folder, classes, image_shape, name, notes) for name, folder in folders.items()
    }
    return RawData(
        splits.get("train", empty_split(image_shape)), splits["test"], tuple(classes), tuple(notes)
    )


def find_splits(source: Path, notes: list[str]) -> dict[str, Path]:
    """The folders "train" (if there is one) and "test"; adds to `notes` what other folders are not read.

    An archive often has one folder around the splits. Raises DataMissingError.
    """
    inner = _folders(source) if source.is_dir() else []
    names = {path.name.lower(): path for path in inner}
    if len(inner) == 1 and not names.keys() & {*TRAIN, *TEST}:
        return find_splits(inner[0], notes)
    train = [names[name] for name in TRAIN if name in names]
    tests = [names[name] for name in TEST if name in names]
    tests = [path for path in tests if _folders(path)] or tests  # a test set without labels has none
    missing = source / "test" if train else source / "train"
    if not tests:
        others = f"{source} has {listed([path.name for path in inner])}. " if inner else ""
        raise DataMissingError(
            f"there is no folder {missing}.",
            hint=f"{others}expected images as {source}/train/CLASS/*.png and {source}/test/CLASS/*.png\n"
            "(val is read like test); without train the data set can only be evaluated",
        )
    if tests[0].name.lower() != "test":
        notes.append(f"the test split is the folder {tests[0].name}")
    if not train:
        notes.append("there is no folder train: these images can be evaluated, not trained on")
    unused = [path.name for path in inner if path not in (*train[:1], tests[0])]
    if unused:
        notes.append(f"not read: the folder {listed(unused)}")
    return {**({"train": train[0]} if train else {}), "test": tests[0]}


def read_classes(folder: Path, classes: list[str], image_shape: Shape, split: str, notes: list[str]) -> Split:
    """The images of one split, class by class; adds to `notes` what was left out or changed."""
    outside = [path.name for path in sorted(folder.iterdir()) if path.is_file() and not side_file(path)]
    if outside:
        raise DataError(
            f"{folder} has files outside of the class folders: {listed(outside)}.",
            hint=f"their class is not known: move them to {folder}/CLASS/",
        )
    items, texts, num_hidden, num_nested = [], list[str](), 0, 0
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            content = folder_content(folder / name)
            items += [(path, label) for path in content.images]
            texts += [path.name for path in content.texts]
            num_hidden, num_nested = num_hidden + content.num_hidden, num_nested + content.num_nested
    data, changes = read_images(items, image_shape)
    if num_nested:
        changes.insert(0, f"{num_nested} of {len(items)} images are in sub-folders of the class folders")
    if texts:
        changes.append(f"not read, because they are text: {listed(texts)}")
    if num_hidden:
        changes.append(f"not read: {num_hidden} hidden files")
    notes += [f"{split}: {change}" for change in changes]
    return data


def read_tiny_imagenet(folder: Path, image_shape: Shape) -> RawData:
    """Tiny-ImageNet from the folder tiny-imagenet-200; the test split is `val`.

    Labels are positions in the sorted WordNet ids. Validation images are in the order of their file
    names, read from val/images with val_annotations.txt or from folders val/WNID; both layouts give the
    same arrays. Grey images are converted to RGB.
    """
    classes = subfolders(folder / "train")
    label = {wnid: k for k, wnid in enumerate(classes)}
    train = [(path, label[wnid]) for path, wnid in images_by_class(folder / "train")]
    val = folder / "val"
    pairs = annotated_images(val) if (val / "images").is_dir() else images_by_class(val)
    unknown = sorted({wnid for _, wnid in pairs} - set(classes))
    if unknown:
        raise DataError(f"{folder}/val has class {unknown[0]!r}, which {folder}/train does not have.")
    test = [(path, label[wnid]) for path, wnid in sorted(pairs, key=lambda pair: pair[0].name)]
    return RawData(read_images(train, image_shape)[0], read_images(test, image_shape)[0], tuple(classes))


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
    """(image file, class) in the layout WNID/images/* or WNID/*; without tables of boxes."""
    return [(path, wnid) for wnid in subfolders(folder) for path in folder_content(folder / wnid).images]


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted."""
    names = [path.name for path in _folders(folder)]
    if not names:
        raise DataMissingError(f"{folder} has no class folders.")
    return names


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not hidden(path.name))


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
