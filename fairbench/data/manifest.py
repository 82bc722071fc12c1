"""The manifest of a prepared data set, and the folders of prepared data sets.

Layout     ROOT/<name>/manifest.json, written last, beside train_images.npy, train_labels.npy,
           test_images.npy, test_labels.npy (images uint8 (N, channels, H, W), labels int64 (N,)).
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fairbench.core.errors import ConfigError, DataError, DataMissingError, RecordError
from fairbench.core.files import read_json
from fairbench.core.home import expanded, user_cache

SCHEMA = 2
SPLITS = ("train", "test")
EMBEDDED = "digits"  # the reader whose images come with scikit-learn: they need no preparation
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Manifest:
    """The description of one prepared data set; the same `digest` means the same images and labels."""

    name: str
    digest: str  # SHA-256 of both splits, see fairbench.data.splits.digest_splits
    num_classes: int
    classes: tuple[str, ...]  # in label order
    image_shape: tuple[int, int, int]  # channels, height, width
    train_size: int
    test_size: int
    official: bool  # if False, tables made with these images carry a mark
    source: str  # reader and source folder
    arrays: dict[str, str] = field(hash=False)  # SHA-256 of each file of ARRAYS, checked at every load
    notes: tuple[str, ...] = ()  # what was left out or changed when the images were read
    num_shared: int = 0  # test images that are training images too

    def size(self, split: str) -> int:
        """Number of images of "train" or "test"."""
        return self.train_size if split == "train" else self.test_size

    def to_json(self) -> dict[str, Any]:
        """The content of manifest.json."""
        return {"schema": SCHEMA, **asdict(self)}


def data_root(option: str | None, environ: Mapping[str, str] | None = None) -> Path:
    """The data folder: `option`, else $FAIRBENCH_DATA, else fairbench/data in the user's cache folder.

    Raises EnvironmentFault for a user without a home folder.
    """
    environ = os.environ if environ is None else environ
    chosen = option or environ.get("FAIRBENCH_DATA")
    if chosen:
        return expanded(chosen)
    return user_cache(environ) / "data"


def data_folder(root: Path, name: str) -> Path:
    """ROOT/<name>. Raises ConfigError when `name` is not a plain folder name."""
    if not name or name.startswith(".") or Path(name).name != name:
        raise ConfigError(
            f"the data set name {name!r} is not a plain name.", hint="use letters, digits and -"
        )
    return root / name


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes in `path`. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(root: Path, name: str) -> Manifest | None:
    """The manifest of a data set, or None if it is not prepared. Raises DataError when damaged."""
    path = data_folder(root, name) / "manifest.json"
    if not path.is_file():
        return None
    from pydantic import TypeAdapter

    hint = f"prepare it again: fairbench prepare {name} --data {root}"
    try:
        content = read_json(path)
    except RecordError as error:
        raise DataError(error.message, hint=hint) from error
    try:
        if content["schema"] != SCHEMA:
            raise DataError(f"{path} has schema {content['schema']}, expected {SCHEMA}.", hint=hint)
        manifest = TypeAdapter(Manifest).validate_python(content)
        arrays = {array: manifest.arrays[array] for array in ARRAYS}
        return replace(manifest, arrays=arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a manifest of fairbench ({error!r}).", hint=hint) from error


def manifest_of(root: Path, name: str, reader: str) -> Manifest | None:
    """The manifest of a data set with this reader; None if it is not prepared, or needs no preparation.

    Raises DataError when damaged.
    """
    return None if reader == EMBEDDED else read_manifest(root, name)


def require_training_images(manifest: Manifest) -> None:
    """Raise DataError if a data set has test images only."""
    if manifest.train_size == 0:
        raise DataError(
            f"{manifest.name} has no training images: nothing can be trained on it.",
            hint=f"evaluate a model: fairbench evaluate CHECKPOINT --models NAME --datasets {manifest.name}\n"
            "or add a training half to its files and prepare it again",
        )


def require_manifest(root: Path, name: str) -> Manifest:
    """The manifest of a data set. Raises DataMissingError if it is not prepared."""
    manifest = read_manifest(root, name)
    if manifest is None:
        raise DataMissingError(
            f"{name} is not prepared in the data folder {root}.",
            hint=f"on a machine with network: fairbench prepare {name} --data {root}\n"
            "then copy that folder here, or set another folder with FAIRBENCH_DATA",
        )
    return manifest
