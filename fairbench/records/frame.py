"""Records as one tidy pandas frame: one row per run, checkpoint, attack and class."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairbench.core.errors import RecordError
from fairbench.core.identity import digest
from fairbench.metrics.classwise import class_accuracy
from fairbench.records.deduplicate import distinct
from fairbench.records.read import CLEAN, Evaluation, Problem, Record, no_collection, scan

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
_PLAIN_TEXTS = ("method", "dataset", "model", "protocol", "precision")
_OF_RUN = (*_PLAIN_TEXTS, "overrides", "seed", "record")
_OF_EVALUATION = ("epoch", "attack", "attack_id", "selected")
_OF_CLASS = ("class", "num_images", "num_correct")
_TEXTS = (*_PLAIN_TEXTS, "overrides", "attack", "attack_id", "class", "record")


def load_records(results: str | Path = "results") -> "pd.DataFrame":
    """One row per method, dataset, model, seed, epoch, attack and class of the runs that are done.

    Columns: method, overrides (what was set by hand, "strength=1.5"), dataset, model, protocol,
    precision (of training), seed, epoch, attack ("clean" for none), attack_id (of its settings, the same in
    every run), class (its name), num_images and num_correct of that class, accuracy in [0, 1], selected
    (whether tables average over this epoch), record (the run's folder). Texts are categories. A run that
    was copied counts once. Runs that cannot be read are named in `frame.attrs["problems"]`. Raises
    ResultsError when the folder cannot be listed.

    >>> frame = load_records("results")                                          # doctest: +SKIP
    >>> frame[frame.selected].groupby(["method", "attack", "class"]).accuracy.mean()  # doctest: +SKIP
    """
    records, problems = scan(Path(results))
    kept, _ = distinct([record for record in records if not record.preparation])
    return frame_of(kept, problems)


@no_collection()
def frame_of(records: Iterable[Record], problems: Iterable[Problem] = ()) -> "pd.DataFrame":
    """The frame of `load_records` from records already read; those that are not done have no row."""
    import pandas as pd

    told = [str(problem) for problem in problems]
    codes: dict[str, dict[str, int]] = {name: {} for name in _TEXTS}
    runs: dict[str, list[Any]] = {name: [] for name in _OF_RUN}  # one value of each run
    evaluations: dict[str, list[Any]] = {name: [] for name in _OF_EVALUATION}
    classes: dict[str, list[Any]] = {name: [] for name in _OF_CLASS}  # one array of each run
    num_rows: list[int] = []  # of each run
    num_classes: list[int] = []  # of each evaluation

    def code(name: str, text: str) -> int:
        return codes[name].setdefault(text, len(codes[name]))

    for record in records:
        if record.state != "done":
            continue
        counted, hits, count = _counted(record, told)
        if not counted:
            continue
        overrides = ", ".join(f"{key}={value}" for key, value in sorted(record.overrides.items()))
        texts = {name: getattr(record, name) for name in _PLAIN_TEXTS}
        texts |= {"overrides": overrides, "record": record.folder.name}
        for name, text in texts.items():
            runs[name].append(code(name, text))
        runs["seed"].append(record.seed)
        selected = set(record.epochs_evaluated)
        evaluations["epoch"] += [e.epoch for e in counted]
        evaluations["attack"] += [code("attack", e.attack) for e in counted]
        settings = {id: digest(attack.settings, 8) for attack, id in record.attack_ids.items()}
        evaluations["attack_id"] += [code("attack_id", settings.get(e.id, CLEAN)) for e in counted]
        evaluations["selected"] += [e.epoch in selected for e in counted]
        names = np.array([code("class", name) for name in record.class_names], dtype=np.int32)
        classes["class"].append(np.tile(names, len(counted)))
        classes["num_images"].append(count.ravel())
        classes["num_correct"].append(hits.ravel())
        num_rows.append(hits.size)
        num_classes += [names.size] * len(counted)
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        if name == "accuracy":
            columns[name] = class_accuracy(columns["num_correct"], columns["num_images"])
        elif name in classes:
            columns[name] = np.concatenate([*classes[name], np.zeros(0, np.int64)]).astype(np.int32)
        elif name in runs:
            columns[name] = np.repeat(np.array(runs[name], dtype=np.int32), num_rows)
        else:
            kind = bool if name == "selected" else np.int32
            columns[name] = np.repeat(np.array(evaluations[name], dtype=kind), num_classes)
    for name in _TEXTS:
        columns[name] = pd.Categorical.from_codes(columns[name], pd.Index(list(codes[name]), dtype=str))
    frame = pd.DataFrame(columns)
    frame.attrs["problems"] = told
    return frame


def _counted(
    record: Record, told: list[str]
) -> tuple[Sequence[Evaluation], NDArray[np.int64], NDArray[np.int64]]:
    """The evaluations whose images are counted, and their correct and all images of each class (E, C).

    What is wrong with the others is added to `told`.
    """
    if record.all_hits is not None:
        hits, count = record.all_hits
        return record.evaluations, hits, np.broadcast_to(count, hits.shape)
    found = []
    for evaluation in record.evaluations:
        try:
            counts = record.class_hits(evaluation.attack, evaluation.epoch, evaluation.id)
        except RecordError as error:
            told.append(f"{record.folder.name}: {error.message}")
        else:
            found.append((evaluation, *counts))
    kept = [evaluation for evaluation, _, _ in found]
    return kept, np.array([hits for _, hits, _ in found]), np.array([count for _, _, count in found])
