"""Prepare a data set of the registry."""

from pathlib import Path

from fairbench.data.manifest import Manifest
from fairbench.data.prepare import prepare
from fairbench.registry import DatasetEntry


def prepare_dataset(
    entry: DatasetEntry, data_root: Path, *, source: Path | None = None, unofficial: bool = False
) -> Manifest | None:
    """The manifest of a data set after its images are checked and written; None when nothing is to be done.

    Without a `source` folder the files are downloaded, unless the registry entry has a path. Raises the
    errors of `fairbench.data.prepare.prepare`.
    """
    if entry.reader == "digits":  # comes with scikit-learn
        return None
    return prepare(
        entry.name,
        reader=entry.reader,
        image_shape=entry.image_shape,
        num_classes=entry.num_classes,
        classes=entry.classes,
        expected_digest=entry.digest,
        source=source or (Path(entry.path) if entry.path else None),
        root=data_root,
        download=source is None,
        unofficial=unofficial,
    )
