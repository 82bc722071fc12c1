"""Prepare a data set of the registry."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fairbench.core.errors import DataError, DataMissingError, FairbenchError, indent
from fairbench.data.manifest import EMBEDDED, Manifest
from fairbench.data.prepare import prepare
from fairbench.registry import DatasetEntry


def prepare_datasets(
    entries: Sequence[DatasetEntry], data_root: Path, *, source: Path | None = None, unofficial: bool = False
) -> Iterator[tuple[str, Manifest | None]]:
    """The name and manifest of each data set as it is prepared, as in `prepare_dataset`.

    An error does not stop the others: the last one is raised at the end, with what was wrong with each.
    """
    faults: dict[str, FairbenchError] = {}
    for entry in entries:
        try:
            manifest = prepare_dataset(entry, data_root, source=source, unofficial=unofficial)
        except FairbenchError as error:
            faults[entry.name] = error
            continue
        yield entry.name, manifest
    if len(faults) == 1:
        raise next(iter(faults.values()))
    if faults:
        absent = any(isinstance(error, DataMissingError) for error in faults.values())
        hint = "\n".join(f"{name}: {error.message}\n{indent(error.hint)}" for name, error in faults.items())
        raise (DataMissingError if absent else DataError)(
            f"{len(faults)} data sets could not be prepared.", hint=hint
        )


def prepare_dataset(
    entry: DatasetEntry, data_root: Path, *, source: Path | None = None, unofficial: bool = False
) -> Manifest | None:
    """The manifest of a data set after its images are checked and written; None when nothing is to be done.

    Without a `source` folder the files are downloaded, unless the registry entry has a path. Raises the
    errors of `fairbench.data.prepare.prepare`.
    """
    if entry.reader == EMBEDDED:  # comes with scikit-learn
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
