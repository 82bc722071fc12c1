"""Preparation: read published files once, check them, and write arrays that can be memory-mapped."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fairbench.core.class_names import class_names_fault
from fairbench.core.errors import (
    ConfigError,
    DataError,
    DataMissingError,
    EnvironmentFault,
    ResultsError,
    UnknownNameError,
)
from fairbench.core.files import make_folder, write_atomic, write_json
from fairbench.data.archives import find_archive, unpacked
from fairbench.data.fetch import fetch
from fairbench.data.image_files import listed
from fairbench.data.manifest import Manifest, data_folder, file_digest
from fairbench.data.readers import PUBLISHED, READERS, missing_files
from fairbench.data.splits import RawData, check_pixels, check_split, digest_splits, shared_images

OWN = ("folder", "npz")  # readers of the user's own images
DARK = 64  # of 255
log = logging.getLogger(__name__)


def prepare(
    name: str,
    *,
    reader: str,
    image_shape: Sequence[int],
    num_classes: int | None,
    classes: Sequence[str] | None,
    expected_digest: str | None,
    source: Path | None,
    root: Path,
    download: bool,
    unofficial: bool,
) -> Manifest:
    """The manifest of `name`, after reading and checking its images and writing them to ROOT/<name>.

    `source` is the folder of the published files, unpacked or as they are downloaded (for the readers
    `folder` and `npz` the user's path); by default ROOT/downloads/<name>, where `download` puts missing
    files. The digest decides whether images are the official ones, or the number of images where no digest
    is known; with `unofficial`, others are accepted and marked. Raises DataError, EmptyClassError,
    DataMissingError, ConfigError and EnvironmentFault.
    """
    if reader not in READERS:
        raise UnknownNameError("reader", reader, READERS, asked_by=f"datasets.{name}.reader in registry.yaml")
    target = data_folder(root, name)
    channels, height, width = image_shape
    shape = (channels, height, width)
    data = read_source(name, reader, source, shape, root=root, download=download)
    labels = class_names(name, reader, data, num_classes, classes)
    if reader == "folder":
        data = in_order(data, labels)
    for split, part in (("train", data.train), ("test", data.test)):
        if split == "test" or len(part.labels) or len(part.images):  # without a training half
            check_split(name, split, part, shape, labels)
            if reader in OWN:
                check_pixels(name, split, part.images)
    num_shared, notes = more_notes(data, reader)
    digest = digest_splits(data.train, data.test)
    official = is_official(name, reader, data, digest, expected_digest, unofficial)
    manifest = Manifest(
        name=name,
        digest=digest,
        num_classes=len(labels),
        classes=labels,
        image_shape=shape,
        train_size=len(data.train.labels),
        test_size=len(data.test.labels),
        official=official,
        source=f"{reader}:{source.name}" if source else reader,
        arrays={},  # filled in by `write`
        notes=(*data.notes, *notes),
        num_shared=num_shared,
    )
    manifest = write(target, data, manifest)
    log.info(
        "prepared %s: %d + %d images, digest %s", name, manifest.train_size, manifest.test_size, digest[:12]
    )
    return manifest


def read_source(
    name: str,
    reader: str,
    source: Path | None,
    image_shape: tuple[int, int, int],
    *,
    root: Path,
    download: bool,
) -> RawData:
    """The data set as the reader returns it; with `download`, missing files are downloaded first."""
    if source is None and reader in OWN:
        raise ConfigError(
            f"the data set {name} has no path to read from.",
            hint=f"set datasets.{name}.path in registry.yaml, or give --source DIR",
        )
    place = source or root / "downloads" / name
    if download and source is None and find_archive(place, reader) is None and missing_files(place, reader):
        fetch(name, reader, place)
    with unpacked(place, reader, root) as folder:
        missing = missing_files(folder, reader)
        if missing:
            more = f", and {len(missing) - 1} more files" if missing[1:] else ""
            raise DataMissingError(
                f"{name}: {missing[0] if folder == place else missing[0].name} is missing{more}."
                + contents(folder, place),
                hint=f"on a machine with network: fairbench prepare {name}\n"
                f"or give the folder of the published files, unpacked or as they are downloaded:\n"
                f"fairbench prepare {name} --source DIR",
            )
        return READERS[reader](folder, image_shape)


def contents(folder: Path, place: Path) -> str:
    """What is in a folder that lacks published files, in a sentence; "" if there is nothing."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return f" {place} holds {listed(names)}." if names else ""


def in_order(data: RawData, classes: Sequence[str]) -> RawData:
    """The same images with the labels of the order `classes`, which has the names of the class folders."""
    if data.classes is None or tuple(classes) == data.classes:
        return data
    position = np.array([classes.index(name) for name in data.classes])
    train, test = (part._replace(labels=position[part.labels]) for part in (data.train, data.test))
    return data._replace(train=train, test=test, classes=tuple(classes))


def more_notes(data: RawData, reader: str) -> tuple[int, list[str]]:
    """The number of test images that are training images too; notes on them, and on images that are dark."""
    notes = []
    num_shared, relabelled = shared_images(data)
    if num_shared:
        other = f", {relabelled} of them with another label" if relabelled else ""
        notes.append(
            f"{num_shared} of {len(data.test.labels)} test images are training images too{other}: "
            "their accuracy is no measure for new images"
        )
    brightest = max(int(part.images.max(initial=0)) for part in (data.train, data.test))
    if reader in OWN and brightest < DARK:
        notes.append(f"no pixel is above {brightest} of 255: are these images scaled to 0..255?")
    return num_shared, notes


def class_names(
    name: str, reader: str, data: RawData, num_classes: int | None, classes: Sequence[str] | None
) -> tuple[str, ...]:
    """Class names in label order: of the registry, else of the files, else numbers. Or raises DataError."""
    in_files = data.classes
    own_order = reader == "folder" and sorted(classes or ()) == sorted(in_files or ())
    if reader in OWN and classes and in_files and tuple(classes) != in_files and not own_order:
        raise DataError(
            f"{name}: the files name the classes {', '.join(in_files)}, the registry {', '.join(classes)}.",
            hint=f"their order defines the labels: correct datasets.{name}.classes, or leave it out",
        )
    names = tuple(classes) if classes else in_files
    if names is None:
        highest = int(max(part.labels.max(initial=0) for part in (data.train, data.test)))
        names = tuple(str(k) for k in range(num_classes or highest + 1))
    if num_classes is not None and len(names) != num_classes:
        raise DataError(
            f"{name}: {len(names)} classes found, the registry expects {num_classes}.",
            hint=f"correct datasets.{name}.num_classes in registry.yaml",
        )
    fault = class_names_fault(names)
    if fault:
        raise DataError(f"{name}: {fault}.", hint="give each class a name of its own, in the order of labels")
    return names


def is_official(
    name: str, reader: str, data: RawData, digest: str, expected_digest: str | None, unofficial: bool
) -> bool:
    """Whether these are the published images. Raises DataError if not, unless `unofficial`."""
    sizes = (len(data.train.labels), len(data.test.labels))
    if expected_digest is not None:
        official, reason = digest == expected_digest, f"digest {digest[:12]}, expected {expected_digest[:12]}"
    elif reader in PUBLISHED:
        expected_sizes = PUBLISHED[reader].sizes
        official = sizes == expected_sizes and not unofficial
        reason = f"{sizes[0]} + {sizes[1]} images, expected {expected_sizes[0]} + {expected_sizes[1]}"
    else:
        return not unofficial
    if not official and not unofficial:
        raise DataError(
            f"{name}: these are not the official images ({reason}).",
            hint="download the official files, or accept these with --unofficial, which marks every table",
        )
    return official


def write(target: Path, data: RawData, manifest: Manifest) -> Manifest:
    """`manifest` with the SHA-256 of the arrays; written last, so a folder with a manifest is complete."""
    sums: dict[str, str] = {}
    try:
        make_folder(target)
        (target / "manifest.json").unlink(missing_ok=True)
        for split, part in (("train", data.train), ("test", data.test)):
            for name, array in ((f"{split}_images", part.images), (f"{split}_labels", part.labels)):
                path = target / f"{name}.npy"
                write_atomic(path, partial(np.save, arr=array, allow_pickle=False))
                sums[name] = file_digest(path)
        manifest = replace(manifest, arrays=sums)
        write_json(target / "manifest.json", manifest.to_json())
    except ResultsError as error:
        raise EnvironmentFault(
            error.message,
            hint="make the data folder writable, or choose another with --data DIR or FAIRBENCH_DATA",
        ) from error
    return manifest
