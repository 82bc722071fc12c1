"""Outcomes files, identities and cells that tests write."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from fairbench.core.files import write_atomic
from fairbench.core.identity import digest_bytes
from fairbench.records.cell import cell_ids
from fairbench.records.outcomes import encoded

PARTS = ("method", "dataset", "model", "protocol")


def write_outcomes(
    path: Path, label: ArrayLike, prediction: ArrayLike, correct: ArrayLike, **columns: ArrayLike
) -> str:
    """Write an outcomes file; its SHA-256."""
    content = encoded(label, prediction, correct, **columns)
    write_atomic(path, lambda file: file.write(content))
    return digest_bytes(content)


def identity_of(
    method: str = "trades",
    dataset: str = "digits",
    model: str = "cnn-small",
    protocol: str = "quickstart",
    config: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """The identity of a cell; `settings` are of its protocol."""
    return {
        "method": {"name": method, "class": "Method", "config": config or {}, "fingerprint": "f0"},
        "dataset": {
            "name": dataset,
            "digest": "d0",
            "num_classes": None,
            "image_shape": [1, 8, 8],
            "flip": False,
            "reader": "digits",
        },
        "model": {"name": model},
        "protocol": {
            "name": protocol,
            "version": 2,
            "threat": {"eps": 0.1},
            "budget": {"step_size": 0.05, "num_steps": 2},
            "epochs": 5,
            "optimizer": {"lr": 0.1},
            "selection": {"last": 1},
            **settings,
        },
    }


def whole_cell(cell: dict[str, Any]) -> dict[str, Any]:
    """`cell` with a whole identity, of which it gives parts of parts, and with the ids of that identity."""
    parts = identity_of(**{part: cell[part] for part in PARTS})
    given = {part: {**parts[part], **cell["identity"].get(part, {})} for part in PARTS}
    identity = {**cell["identity"], **given, "seed": cell["seed"]}
    id, entry = cell_ids(identity)
    return {**cell, "id": id, "entry": entry, "identity": identity}


def folder_of(runs: Path, cell: dict[str, Any]) -> Path:
    """The run folder of a cell."""
    return runs / ".".join((*(cell[part] for part in PARTS), f"seed{cell['seed']}", cell["id"]))
