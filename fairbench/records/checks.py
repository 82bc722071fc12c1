"""What `cell.json` and `record.json` must be, checked once when they are read."""

from collections.abc import Mapping
from operator import le
from pathlib import Path
from typing import Any

from fairbench.core.errors import RecordError, SchemaError
from fairbench.core.files import read_sealed
from fairbench.records import MAX_CLASSES

SCHEMA = 1
MAX_SEED = 2**31 - 1
MAX_IMAGES = 10**6  # of a class
_PLAIN = str | int | float | bool | None
_STATES = ("done", "diverged", "failed", "interrupted", "skipped")


def checked_cell(path: Path) -> dict[str, Any]:
    """The content of a run's cell.json. Raises RecordError when it is damaged or of another schema."""
    cell = _mapping(path)
    for key in ("id", "entry", "method", "dataset", "model", "protocol"):
        _require(_is_text(cell.get(key)), path, f"{key} is not a text")
    seed: Any = cell.get("seed")
    _require(_is_count(seed) and seed <= MAX_SEED, path, f"seed is not a number in 0..{MAX_SEED}")
    for key in ("overrides", "identity", "titles", "locations"):
        _require(isinstance(cell.get(key) or {}, dict), path, f"{key} is no mapping")
    for key in ("titles", "locations"):
        _require(all(map(_is_text, (cell.get(key) or {}).values())), path, f"{key} is not all texts")
    overrides = (cell.get("overrides") or {}).values()
    _require(not any(isinstance(value, dict) for value in overrides), path, "overrides hold a mapping")
    _check_identity(cell.get("identity") or {}, path)
    attacks = cell.get("evaluation") or []
    _require(_is_list_of(attacks, dict), path, "evaluation is no list of attacks")
    for attack in attacks:
        named = _is_text(attack.get("name")) and _is_text(attack.get("id", ""))
        plain = all(isinstance(value, _PLAIN | list) for value in attack.values())
        _require(named and plain, path, "evaluation holds something else than attacks")
    return cell


def _check_identity(identity: Mapping[str, Any], path: Path) -> None:
    """Types of what programs look at; the rest only has to be what its id was hashed from."""
    for part in ("method", "dataset", "model", "protocol"):
        _require(isinstance(identity.get(part) or {}, dict), path, f"identity.{part} is no mapping")
    method: Any = identity.get("method") or {}
    protocol: Any = identity.get("protocol") or {}
    dataset: Any = identity.get("dataset") or {}
    _require(isinstance(method.get("config") or {}, dict), path, "identity.method.config is no mapping")
    for part, key in ((method, "fingerprint"), (method, "class"), (protocol, "precision")):
        _require(_is_text(part.get(key) or ""), path, f"{key} is not a text")
    for key in ("threat", "budget", "selection", "optimizer", "augmentation", "subset"):
        settings: Any = protocol.get(key) or {}
        _require(isinstance(settings, dict), path, f"identity.protocol.{key} is no mapping")
        _require(all(isinstance(v, _PLAIN) for v in settings.values()), path, f"{key} holds no plain values")
    _require(_is_count(protocol.get("epochs", 1)), path, "identity.protocol.epochs is no count")
    _require(_is_list_of(dataset.get("image_shape") or [], int), path, "image_shape is no list of counts")


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
    fits = _is_list_of(counts, int) and len(counts) in (0, num_classes)
    fits = fits and all(1 <= count <= MAX_IMAGES for count in counts)
    _require(fits, path, "class_count is not a number of images for each class")
    epochs = record.get("epochs_evaluated")
    _require(bool(epochs) and _is_list_of(epochs, int), path, "epochs_evaluated is no list of epochs")
    kept = record.get("epochs_kept") or []
    _require(_is_list_of(kept, int), path, "epochs_kept is no list of epochs")
    evaluations = record.get("evaluations")
    _require(_is_list_of(evaluations, dict), path, "evaluations is no list of evaluations")
    for evaluation in evaluations or ():
        if not _is_evaluation(evaluation, num_classes, counts):
            _require(False, path, f"bad evaluation {evaluation}")


def _is_evaluation(evaluation: Mapping[str, Any], num_classes: int, counts: list[int]) -> bool:
    get = evaluation.get
    digest, hits = get("digest"), get("hits") or []
    return (
        _is_text(get("attack"))
        and _is_text(get("file"))
        and _is_text(get("id") or "")
        and _is_text(digest or "")
        and isinstance(get("about") or {}, dict)
        and _is_list_of((get("about") or {}).get("stages") or [], dict)
        and _is_list_of((get("about") or {}).get("health") or [], dict)
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
    if value.get("schema") != SCHEMA:
        raise SchemaError(
            f"{path.parent.name}: {path.name} has schema {value.get('schema')!r}; "
            f"this version reads {SCHEMA}.",
            hint="use the version of fairbench that wrote it, or move the folder away and run again",
        )
    return dict(value)


def _require(fits: bool, path: Path, fault: str) -> None:
    if not fits:
        raise RecordError(
            f"{path.name} in {path.parent.name} cannot be used: {fault}.",
            hint="move the run folder away and run the same command again",
        )


def _is_text(value: object) -> bool:
    """Text that can be written to a file: no half of a character."""
    return isinstance(value, str) and (
        value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {kind}
