"""Read `cell.json` and `record.json` as typed objects. All checks of what they hold are here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import le
from pathlib import Path
from typing import Any, cast, get_args

from fairbench.core.errors import RecordError, SchemaError
from fairbench.core.files import WRITE_AGAIN, read_sealed
from fairbench.records import MAX_CLASSES
from fairbench.records import cell as cells
from fairbench.records import read as records
from fairbench.records.cell import CLEAN, Cell, EvaluationAttack, cell_ids
from fairbench.records.read import Evaluation, FailedEvaluation, Record, TrainingState, numbered
from fairbench.registry.protocol import TIERS
from fairbench.registry.seeds import MAX_SEED

MAX_IMAGES = 10**6  # of a class
LATER = "a later evaluation failed: "  # begins the reason in records of schema 1
NAMED_PARTS = ("method", "dataset", "model", "protocol")  # of an identity
_PLAIN = (str, int, float, bool, type(None))  # a tuple: a union takes three times as long to check
_PLAIN_OR_LIST = (*_PLAIN, list)
_STATES = get_args(TrainingState)


def read_cell(path: Path) -> Cell:
    """The cell in `path`. Raises RecordError when it is damaged, changed, not sealed or of another schema."""
    return parse_cell(_mapping(path, (cells.SCHEMA,)), path)


def read_record(path: Path, cell: Cell) -> Record:
    """The record in `path`, which must be that of `cell`. Raises as `read_cell` does."""
    return parse_record(_mapping(path, records.SCHEMAS), path, cell)


def parse_cell(data: Mapping[str, Any], path: Path) -> Cell:
    """The cell that `Cell.to_json` wrote, from the file `path`. Raises RecordError for anything else.

    Only the types of what programs look at are checked; the rest is what its id was hashed from. The ids and
    the names must be those of the identity.
    """
    get = data.get
    for key in ("id", "entry", *NAMED_PARTS):
        _require(is_text(get(key)), path, f"{key} is not a text")
    seed: Any = get("seed")
    _require(is_count(seed) and seed <= MAX_SEED, path, f"seed is not a number in 0..{MAX_SEED}")
    parts: dict[str, Any] = {}
    for key in ("overrides", "identity", "titles", "locations"):
        parts[key] = get(key) or {}
        _require(isinstance(parts[key], dict), path, f"{key} is no mapping")
    for key in ("titles", "locations"):
        _require(all(map(is_text, parts[key].values())), path, f"{key} is not all texts")
    nested = any(isinstance(value, dict) for value in parts["overrides"].values())
    _require(not nested, path, "overrides hold a mapping")
    _check_identity(parts["identity"], path)
    attacks = get("evaluation") or []
    _require(_is_list_of(attacks, dict), path, "evaluation is no list of attacks")
    start = get("start")
    if start is not None:
        # The start of a start is refused when cells are planned.
        _require(isinstance(start, dict) and start.get("start") is None, path, "start is no cell")
    teachers = get("teachers") or {}
    _require(isinstance(teachers, dict), path, "teachers is no mapping")
    for teacher in teachers.values():
        # A teacher of a teacher is refused too.
        _require(isinstance(teacher, dict) and not teacher.get("teachers"), path, "a teacher is no cell")
    cell = Cell(
        **{key: data[key] for key in ("id", "entry", *NAMED_PARTS)},
        seed=seed,
        evaluation=tuple(_attack(settings, path) for settings in attacks),
        start=None if start is None else parse_cell(start, path),
        teachers={name: parse_cell(teacher, path) for name, teacher in teachers.items()},
        preparation=bool(get("preparation")),
        **parts,
    )
    _require_unchanged(cell, path)
    return cell


def _require_unchanged(cell: Cell, path: Path) -> None:
    """Raise RecordError when its ids, names or seed are not those of its identity."""
    identity = cell.identity
    fits = (
        cell_ids(identity) == (cell.id, cell.entry)
        and identity.get("seed") == cell.seed
        and _name(identity, "method") == cell.method
        and _name(identity, "dataset") == cell.dataset
        and _name(identity, "model") == cell.model  # a protocol may let each method use its own
    )
    if not fits:
        raise RecordError(
            f"{path.parent.name}: {path.name} was changed by hand: its ids and names do not fit its content.",
            hint="move the folder away and run again; change settings with --set",
        )


def _name(identity: Mapping[str, Any], part: str) -> Any:
    return (identity.get(part) or {}).get("name")


def _attack(settings: dict[str, Any], path: Path) -> EvaluationAttack:
    own = {key: value for key, value in settings.items() if key not in ("id", "at")}
    name, id, at = own.get("name"), settings.get("id", ""), settings.get("at", "selected")
    plain = all(isinstance(value, _PLAIN_OR_LIST) for value in own.values())
    fits = is_text(name) and is_text(id) and plain and isinstance(at, str) and at in TIERS
    _require(fits, path, "evaluation holds something else than attacks")
    return EvaluationAttack(cast(str, name), id, at, own)


def _check_identity(identity: Mapping[str, Any], path: Path) -> None:
    for part in NAMED_PARTS:
        _require(isinstance(identity.get(part) or {}, dict), path, f"identity.{part} is no mapping")
    method: Any = identity.get("method") or {}
    protocol: Any = identity.get("protocol") or {}
    dataset: Any = identity.get("dataset") or {}
    _require(isinstance(method.get("config") or {}, dict), path, "identity.method.config is no mapping")
    texts = ((method, "fingerprint"), (method, "class"), (protocol, "name"), (protocol, "precision"))
    for part, key in texts:
        _require(is_text(part.get(key) or ""), path, f"{key} is not a text")
    for key in ("threat", "budget", "selection", "optimizer", "augmentation", "subset"):
        settings: Any = protocol.get(key) or {}
        _require(isinstance(settings, dict), path, f"identity.protocol.{key} is no mapping")
        _require(all(isinstance(v, _PLAIN) for v in settings.values()), path, f"{key} holds no plain values")
    _require(is_count(protocol.get("epochs", 1)), path, "identity.protocol.epochs is no count")
    _require(_is_list_of(dataset.get("image_shape") or [], int), path, "image_shape is no list of counts")


def parse_record(data: Mapping[str, Any], path: Path, cell: Cell) -> Record:
    """The record of `cell` that `Record.to_json` wrote, now or in schema 1, from the file `path`."""
    get = data.get
    for key, own in (("id", cell.id), ("entry", cell.entry)):
        _require(get(key) == own, path, f"its {key} is not that of its cell")
    state = get("state")
    _require(isinstance(state, str) and state in _STATES, path, f"unknown state {state!r}")
    for key in ("reason", "finished", "fault"):
        _require(is_text(get(key) or ""), path, f"{key} is not a text")
    _require(_is_list_of(get("warnings") or [], str), path, "warnings is no list of texts")
    epoch = get("epoch")
    record = Record(
        folder=path.parent,
        cell=cell,
        state=cast(TrainingState, state),
        reason=get("reason") or "",
        epoch=epoch if is_count(epoch) else None,
        fault=get("fault") or "",
        warnings=tuple(get("warnings") or ()),
        finished=get("finished") or "",
        **(_of_done(data, path) if state == "done" else {}),
    )
    if state == "done" and record.reason:  # schema 1
        return replace(record, failures=tuple(_failures_in(record.reason, record)), reason="")
    return record


def _of_done(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What only the record of a training that is done has."""
    get = data.get
    num_classes: Any = get("num_classes")
    _require(is_count(num_classes) and 1 <= num_classes <= MAX_CLASSES, path, "num_classes is no class count")
    names = get("class_names") or []
    _require(_is_list_of(names, str), path, "class_names is no list of texts")
    counts = get("class_count") or []
    fits = _is_list_of(counts, int) and len(counts) in (0, num_classes)
    fits = fits and all(1 <= count <= MAX_IMAGES for count in counts)
    _require(fits, path, "class_count is not a number of images for each class")
    epochs = get("epochs_evaluated")
    _require(bool(epochs) and _is_list_of(epochs, int), path, "epochs_evaluated is no list of epochs")
    kept = get("epochs_kept") or []
    _require(_is_list_of(kept, int), path, "epochs_kept is no list of epochs")
    lines: Any = get("evaluations")
    _require(_is_list_of(lines, dict), path, "evaluations is no list of evaluations")
    evaluations, failures = [], []
    for line in lines:
        parsed = _failed(line) if "error" in line else _evaluation(line, num_classes, counts)
        if isinstance(parsed, Evaluation):
            evaluations.append(parsed)
        elif parsed is not None:
            failures.append(parsed)
        else:
            _require(False, path, f"bad evaluation {line}")
    return {
        "num_classes": num_classes,
        "class_names": tuple(names) if len(names) == num_classes else numbered(num_classes),
        "class_count": tuple(counts),
        "epochs_evaluated": tuple(sorted(cast("list[int]", epochs))),
        "epochs_kept": tuple(sorted(kept or cast("list[int]", epochs))),
        "evaluations": tuple(evaluations),
        "failures": tuple(failures),
        "training": get("training") if isinstance(get("training"), dict) else {},
        "seconds": get("seconds") if isinstance(get("seconds"), dict) else {},
        "curve": get("curve") if is_text(get("curve")) else "",
    }


def _evaluation(line: Mapping[str, Any], num_classes: int, counts: Sequence[int]) -> Evaluation | None:
    """An evaluation that is done; None when the line is none."""
    get = line.get
    attack, epoch, file, digest = get("attack"), get("epoch"), get("file"), get("digest")
    id = CLEAN if attack == CLEAN else get("id") or ""
    hits, about = get("hits") or (), get("about") or {}
    try:
        texts = "".join((attack, file, id, digest or ""))  # type: ignore[arg-type]
    except TypeError:
        return None
    fits = (
        is_text(texts)
        and is_count(epoch)
        and (not hits or _is_list_of(hits, int))
        and (
            not (hits and counts)
            or (len(hits) == num_classes and min(hits) >= 0 and all(map(le, hits, counts)))
        )
        and isinstance(about, dict)
        and _is_list_of(about.get("stages") or [], dict)
        and _is_list_of(about.get("health") or [], dict)
    )
    if not fits:
        return None
    return Evaluation(attack, epoch, file, digest, id, tuple(hits), about)  # type: ignore[arg-type]


def _failed(line: Mapping[str, Any]) -> FailedEvaluation | None:
    attack, id, epoch, error = (line.get(key) for key in FailedEvaluation._fields)
    if is_text(attack) and is_text(id) and is_count(epoch) and is_text(error):
        return FailedEvaluation(attack, id, epoch, error)  # type: ignore[arg-type]
    return None


def _failures_in(reason: str, record: Record) -> Iterable[FailedEvaluation]:
    """The evaluations that failed by the reason of a record of schema 1.

    It is "NAME: why; NAME: why", or `LATER` and why, for every attack that was not evaluated.
    """
    evaluated = {evaluation.id for evaluation in record.evaluations}
    lacking = [attack for attack in record.cell.evaluation if attack.id not in evaluated]
    starts = {attack.id: f"; {reason}".find(f"; {attack.name}: ") for attack in lacking}
    for attack in lacking:
        begin, error = starts[attack.id], reason
        if reason.startswith(LATER):
            error = reason.removeprefix(LATER)
        elif begin >= 0:
            end = min((start for start in starts.values() if start > begin), default=len(reason))
            error = reason[begin:end].removeprefix(f"{attack.name}: ").removesuffix("; ")
        yield FailedEvaluation(attack.name, attack.id, record.epochs_evaluated[-1], error)


def _mapping(path: Path, schemas: Sequence[int]) -> dict[str, Any]:
    value, sealed = read_sealed(path)
    _require(isinstance(value, dict), path, "it is no mapping")
    schema = value.get("schema")
    if type(schema) is not int or schema not in schemas:
        raise SchemaError(
            f"{path.parent.name}: {path.name} has schema {schema!r}; "
            f"this version reads {' and '.join(map(str, schemas))}.",
            hint="use the version of fairbench that wrote it, or move the folder away and run again",
        )
    if not sealed:
        raise RecordError(
            f"{path.parent.name}: {path.name} has no digest, so it may have been changed.", hint=WRITE_AGAIN
        )
    return dict(value)


def _require(fits: bool, path: Path, fault: str) -> None:
    if not fits:
        raise RecordError(
            f"{path.name} in {path.parent.name} cannot be used: {fault}.",
            hint="move the run folder away and run the same command again",
        )


def is_text(value: object) -> bool:
    """Whether it is text that can be written to a file: no half of a character."""
    return isinstance(value, str) and (
        value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    )


def is_count(value: object) -> bool:
    """Whether it is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {kind}
