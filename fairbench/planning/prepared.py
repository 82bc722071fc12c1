"""Which data sets of a selection are prepared on this machine, and the command that prepares the others."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fairbench.core.errors import DataMissingError
from fairbench.data.manifest import EMBEDDED, data_root, manifest_of, read_manifest
from fairbench.planning.selection import Selection
from fairbench.registry import Registry


def unprepared(names: Iterable[str], registry: Registry, root: Path) -> tuple[str, ...]:
    """Those of the data sets that are not in the data folder `root`, each once."""
    return tuple(
        name
        for name in dict.fromkeys(names)
        if registry.get("dataset", name).reader != EMBEDDED and read_manifest(root, name) is None
    )


def prepared_only(selection: Selection, registry: Registry, root: Path) -> tuple[Selection, tuple[str, ...]]:
    """The selection without data sets that were not named and that cannot be trained on, and these data sets.

    They are not prepared, or have no training images. Raises DataMissingError when no data set is left.
    """
    by_pattern = [name for name in selection.datasets if name in selection.by_pattern]
    skipped = (*unprepared(by_pattern, registry, root), *_untrainable(by_pattern, registry, root))
    left = tuple(name for name in selection.datasets if name not in skipped)
    if skipped and not left:
        require_prepared(skipped, registry, root)
        left = skipped  # prepared, but without training images: refused with the reason
    return replace(selection, datasets=left), tuple(name for name in skipped if name not in left)


def _untrainable(names: Iterable[str], registry: Registry, root: Path) -> list[str]:
    """Prepared data sets without training images, which only `fairbench evaluate` can use."""
    manifests = {name: manifest_of(root, name, registry.get("dataset", name).reader) for name in names}
    return [name for name, manifest in manifests.items() if manifest and not manifest.train_size]


def require_prepared(names: Sequence[str], registry: Registry, root: Path) -> None:
    """Raise one DataMissingError for all of the data sets that are not prepared."""
    missing = unprepared(names, registry, root)
    if missing:
        listed, are = ", ".join(missing), "is" if len(missing) == 1 else "are"
        raise DataMissingError(
            f"{listed} {are} not prepared in the data folder {root}.",
            hint=f"on a machine with network: {prepare_command(missing, registry, root)}\n"
            "then copy that folder here, or set another folder with FAIRBENCH_DATA",
        )


def prepare_command(names: Sequence[str], registry: Registry, root: Path) -> str:
    """The command that prepares these data sets, with its registry files and data folder."""
    words = ["fairbench", "prepare", *names]
    origins = {registry.origins.get(("dataset", name), "").rpartition(":")[0] for name in names}
    for file in registry.files:
        if str(file) in origins:
            words += ["--registry", str(file)]
    if root != data_root(None):
        words += ["--data", str(root)]
    return shlex.join(words)


def skipped_note(names: Sequence[str], registry: Registry, root: Path) -> str:
    """The note on data sets that are skipped because they are not prepared or cannot be trained on."""
    missing = unprepared(names, registry, root)
    others = [name for name in names if name not in missing]
    command = missing and f"{', '.join(missing)} (to prepare: {prepare_command(missing, registry, root)})"
    reasons = {"not prepared here": command, "without training images": ", ".join(others)}
    return "; ".join(f"skipped, because {reason}: {what}" for reason, what in reasons.items() if what)
