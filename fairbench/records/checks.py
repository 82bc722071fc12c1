"""What `cell.json` and `record.json` must be, checked once when they are read."""

from collections.abc import Mapping
from operator import le
from pathlib import Path
from typing import Any

from fairbench.core.errors import RecordError
from fairbench.core.files import read_sealed
from fairbench.records import MAX_CLASSES

SCHEMA = 1
MAX_SEED = 2**31 - 1
_STATES = ("done", "diverged", "failed", "interrupted", "skipped")


def checked_cell(path: Path) -> dict[str, Any]:
    """The content of a run's cell.json. Raises RecordError when it is damaged or of another schema."""
    cell = _mapping(path)
    for key in ("id", "entry", "method", "dataset", "model", "protocol"):
        _require(isinstance(cell.get(key), str), path, f"{key} is not a text")
    seed: Any = cell.get("seed")
    _require(_is_count(seed) and seed <= MAX_SEED, path, f"seed is not a number in 0..{MAX_SEED}")
    for key in ("overrides", "identity", "titles"):
        _require(isinstance(cell.get(key) or {}, dict), path, f"{key} is no mapping")
    _require(_is_list_of(cell.get("evaluation") or [], dict), path, "evaluation is no list of attacks")
    return cell


def checked_record(path: Path, cell: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a run's record.json, which must be that of `cell`. Raises as `checked_cell` does."""
    record = _mapping(path)
    for key in ("id", "entry"):
        _require(record.get(key) == cell[key], path, f"its {key} is not that of cell.json")
    _require(record.get("state") in _STATES, path, f"unknown state {record.get('state')!r}")
    _require(_is_list_of(record.get("warnings") or [], str), path, "warnings is no list of texts")
    if record["state"] == "done":
        _check_done(path, record)
    return record


def _check_done(path: Path, record: Mapping[str, Any]) -> None:
    num_classes: Any = record.get("num_classes")
    _require(
        _is_count(num_classes) and 1 <= num_classes <= MAX_CLASSES, path, "num_classes is no class count"
    )
    _require(_is_list_of(record.get("class_names") or [], str), path, "class_names is no list of texts")
    counts = record.get("class_count") or []
    fits = _is_list_of(counts, int) and len(counts) in (0, num_classes) and all(n >= 1 for n in counts)
    _require(fits, path, "class_count is not a number of images for each class")
    epochs = record.get("epochs_evaluated")
    _require(bool(epochs) and _is_list_of(epochs, int), path, "epochs_evaluated is no list of epochs")
    evaluations = record.get("evaluations")
    _require(_is_list_of(evaluations, dict), path, "evaluations is no list of evaluations")
    for evaluation in evaluations or ():
        if not _is_evaluation(evaluation, num_classes, counts):
            _require(False, path, f"bad evaluation {evaluation}")


def _is_evaluation(evaluation: Mapping[str, Any], num_classes: int, counts: list[int]) -> bool:
    get = evaluation.get
    digest, hits = get("digest"), get("hits") or []
    return (
        isinstance(get("attack"), str)
        and isinstance(get("file"), str)
        and (digest is None or isinstance(digest, str))
        and _is_count(get("epoch"))
        and _is_list_of(hits, int)
        and (
            not (hits and counts)
            or (len(hits) == num_classes and min(hits) >= 0 and all(map(le, hits, counts)))
        )
    )


def _mapping(path: Path) -> dict[str, Any]:
    value = read_sealed(path)
    _require(isinstance(value, dict), path, "it is no mapping")
    _require(value.get("schema") == SCHEMA, path, f"schema {value.get('schema')!r}, expected {SCHEMA}")
    return dict(value)


def _require(fits: bool, path: Path, fault: str) -> None:
    if not fits:
        raise RecordError(
            f"{path.name} in {path.parent.name} cannot be used: {fault}.",
            hint="move the run folder away and run the same command again",
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {kind}
