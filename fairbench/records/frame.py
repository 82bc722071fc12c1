"""Records as one tidy pandas frame: one row per run, checkpoint, attack and class."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairbench.core.errors import RecordError
from fairbench.core.identity import digest
from fairbench.metrics.classwise import class_accuracy
from fairbench.records.cell import CLEAN
from fairbench.records.deduplicate import distinct
from fairbench.records.read import Evaluation, Record
from fairbench.records.results_folder import Problem, no_collection, scan

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "method",
    "overrides",
    "dataset",
    "model",
    "protocol",
    "precision",
    "seed",
    "epoch",
    "attack",
    "attack_id",
    "class",
    "num_images",
    "num_correct",
    "accuracy",
    "selected",
    "record",
)
_CELL_TEXTS = ("method", "dataset", "model", "protocol", "precision")
_TEXTS = (*_CELL_TEXTS, "overrides", "attack", "attack_id", "class", "record")
_OF_CLASS = ("class", "num_images", "num_correct")


def load_records(results: str | Path = "results") -> "pd.DataFrame":
    """One row per run, epoch, attack and class, of the runs that are done.

    Columns: method, overrides (options set by hand, "strength=1.5"), dataset, model, protocol, precision (of
    training), seed, epoch, attack ("clean" for none), attack_id (a digest of its settings, the same in every
    run), class (its name), num_images and num_correct of that class, accuracy in [0, 1], selected (whether
    tables average over this epoch), record (the name of the run folder). Texts are categories. Copies of a
    run count once. `frame.attrs["problems"]` lists the runs that cannot be read. Raises ResultsError when
    the folder cannot be listed.

    >>> frame = load_records("results")                                          # doctest: +SKIP
    >>> frame[frame.selected].groupby(["method", "attack", "class"]).accuracy.mean()  # doctest: +SKIP
    """
    records, problems = scan(Path(results))
    kept, _ = distinct([record for record in records if not record.preparation])
    return frame_of(kept, problems)


@no_collection()
def frame_of(records: Iterable[Record], problems: Iterable[Problem] = ()) -> "pd.DataFrame":
    """The frame of `load_records` from records already read; records that are not done have no row."""
    import pandas as pd

    messages = [str(problem) for problem in problems]
    codes: dict[str, dict[str, int]] = {name: {} for name in _TEXTS}  # number of each text
    by_class: dict[str, list[NDArray[Any]]] = {name: [] for name in _OF_CLASS}  # one array of each run
    by_evaluation: dict[str, list[Any]] = {  # one value of each evaluation
        name: [] for name in COLUMNS if name not in _OF_CLASS and name != "accuracy"
    }
    num_classes: list[int] = []  # of each evaluation

    def code(name: str, text: str) -> int:
        return codes[name].setdefault(text, len(codes[name]))

    for record in records:
        if record.state != "done":
            continue
        evaluations, hits, count = _counted(record, messages)
        if not evaluations:
            continue
        texts = {name: getattr(record, name) for name in _CELL_TEXTS}
        texts["overrides"] = ", ".join(f"{key}={value}" for key, value in sorted(record.overrides.items()))
        texts["record"] = record.folder.name
        for name, text in texts.items():
            by_evaluation[name] += [code(name, text)] * len(evaluations)
        settings = {id: digest(attack.settings, 8) for attack, id in record.attack_ids.items()}
        selected = set(record.epochs_evaluated)
        by_evaluation["seed"] += [record.seed] * len(evaluations)
        by_evaluation["epoch"] += [e.epoch for e in evaluations]
        by_evaluation["attack"] += [code("attack", e.attack) for e in evaluations]
        by_evaluation["attack_id"] += [code("attack_id", settings.get(e.id, CLEAN)) for e in evaluations]
        by_evaluation["selected"] += [e.epoch in selected for e in evaluations]
        names = np.array([code("class", name) for name in record.class_names], dtype=np.int32)
        by_class["class"].append(np.tile(names, len(evaluations)))
        by_class["num_images"].append(count.ravel())
        by_class["num_correct"].append(hits.ravel())
        num_classes += [names.size] * len(evaluations)
    columns: dict[str, Any] = {
        name: np.concatenate([*arrays, np.zeros(0, np.int64)]).astype(np.int32)
        for name, arrays in by_class.items()
    }
    for name, values in by_evaluation.items():
        kind = bool if name == "selected" else np.int32
        columns[name] = np.repeat(np.array(values, dtype=kind), num_classes)
    columns["accuracy"] = class_accuracy(columns["num_correct"], columns["num_images"])
    for name in _TEXTS:
        columns[name] = pd.Categorical.from_codes(columns[name], pd.Index(list(codes[name]), dtype=str))
    frame = pd.DataFrame({name: columns[name] for name in COLUMNS})
    frame.attrs["problems"] = messages
    return frame


def _counted(
    record: Record, messages: list[str]
) -> tuple[Sequence[Evaluation], NDArray[np.int64], NDArray[np.int64]]:
    """The readable evaluations E of a record, their correct and all images of each class, (E, C) each.

    A message for each unreadable evaluation is appended to `messages`.
    """
    if record.all_hits is not None and not record.outcome_faults:
        hits, count = record.all_hits
        return record.evaluations, hits, np.broadcast_to(count, hits.shape)
    counted = []
    for evaluation in record.evaluations:
        try:
            counts = record.class_hits(evaluation.attack, evaluation.epoch, evaluation.id)
        except RecordError as error:
            messages.append(f"{record.folder.name}: {error.message}")
        else:
            counted.append((evaluation, *counts))
    hits, count = (np.array([item[k] for item in counted]) for k in (1, 2))
    return [item[0] for item in counted], hits, count
