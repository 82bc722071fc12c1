"""Preparation: read published files once, check them, and write arrays that can be memory-mapped."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fairbench.core.errors import (
    ConfigError,
    DataError,
    DataMissingError,
    EnvironmentFault,
    ResultsError,
    UnknownNameError,
)
from fairbench.core.files import make_folder, write_atomic, write_json
from fairbench.data.fetch import fetch
from fairbench.data.manifest import Manifest, data_folder, file_digest
from fairbench.data.readers import PUBLISHED, READERS, missing_files
from fairbench.data.splits import RawData, check_split, digest_splits

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

    `source` is the folder of the published files, in torchvision's layout (for the readers `folder` and `npz`
    the user's path); by default ROOT/downloads/<name>, where `download` puts missing files. The digest
    decides whether images are the official ones, or the number of images where no digest is known; with
    `unofficial`, others are accepted and marked. Raises DataError, EmptyClassError, DataMissingError,
    ConfigError and EnvironmentFault.
    """
    if reader not in READERS:
        raise UnknownNameError("reader", reader, READERS, asked_by=f"datasets.{name}.reader in registry.yaml")
    target = data_folder(root, name)
    channels, height, width = image_shape
    shape = (channels, height, width)
    data = read_source(name, reader, source, shape, root=root, download=download)
    labels = class_names(name, reader, data, num_classes, classes)
    for split, part in (("train", data.train), ("test", data.test)):
        check_split(name, split, part, shape, labels)
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
    if source is None and reader in ("folder", "npz"):
        raise ConfigError(
            f"the data set {name} has no path to read from.",
            hint=f"set datasets.{name}.path in registry.yaml, or give --source DIR",
        )
    folder = source or root / "downloads" / name
    missing = missing_files(folder, reader)
    if missing and download and source is None:
        fetch(name, reader, folder)
        missing = missing_files(folder, reader)
    if missing:
        raise DataMissingError(
            f"{name}: {missing[0]} is missing"
            + (f", and {len(missing) - 1} more files." if missing[1:] else "."),
            hint=f"on a machine with network: fairbench prepare --datasets {name}\n"
            f"or give the folder of the published files: fairbench prepare --datasets {name} --source DIR",
        )
    return READERS[reader](folder, image_shape)


def class_names(
    name: str, reader: str, data: RawData, num_classes: int | None, classes: Sequence[str] | None
) -> tuple[str, ...]:
    """Class names in label order: of the registry, else of the files, else numbers. Or raises DataError."""
    in_files = data.classes
    if reader in ("folder", "npz") and classes and in_files and tuple(classes) != in_files:
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
            hint="make the data folder writable, or choose another with --root DIR or FAIRBENCH_DATA",
        ) from error
    return manifest
