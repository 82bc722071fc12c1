"""Records as one tidy pandas frame: one row per run, checkpoint, attack and class."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fairbench.core.errors import RecordError
from fairbench.records.read import Problem, Record, scan

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "method",
    "overrides",
    "dataset",
    "model",
    "protocol",
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
_TEXTS = ("method", "overrides", "dataset", "model", "protocol", "attack", "attack_id", "class", "record")


def load_records(results: str | Path = "results") -> "pd.DataFrame":
    """One row per method, dataset, model, seed, epoch, attack and class of the runs that are done.

    Columns: method, overrides (what was set by hand, "strength=1.5"), dataset, model, protocol, seed,
    epoch, attack ("clean" for none), attack_id (of its settings), class (its name), num_images and
    num_correct of that class, accuracy in [0, 1], selected (whether tables average over this epoch),
    record (the run's folder). Texts are categories. Runs that cannot be read are named in
    `frame.attrs["problems"]`. Raises ResultsError when the folder cannot be listed.

    >>> frame = load_records("results")                                          # doctest: +SKIP
    >>> frame[frame.selected].groupby(["method", "attack", "class"]).accuracy.mean()  # doctest: +SKIP
    """
    records, problems = scan(Path(results))
    return frame_of((record for record in records if not record.preparation), problems)


def frame_of(records: Iterable[Record], problems: Iterable[Problem] = ()) -> "pd.DataFrame":
    """The frame of `load_records` from records already read; those that are not done have no row."""
    import pandas as pd

    told = [str(problem) for problem in problems]
    codes: dict[str, dict[str, int]] = {name: {} for name in _TEXTS}
    rows: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    lengths: list[int] = []

    def code(name: str, text: str) -> int:
        return codes[name].setdefault(text, len(codes[name]))

    for record in records:
        if record.state != "done":
            continue
        overrides = ", ".join(f"{key}={value}" for key, value in sorted(record.overrides.items()))
        place = {
            name: code(name, getattr(record, name)) for name in ("method", "dataset", "model", "protocol")
        }
        place |= {"overrides": code("overrides", overrides), "record": code("record", record.folder.name)}
        classes = np.array([code("class", name) for name in record.class_names])
        for evaluation in record.evaluations:
            try:
                hits, count = record.class_hits(evaluation.attack, evaluation.epoch, evaluation.id)
            except RecordError as error:
                told.append(f"{record.folder.name}: {error.message}")
                continue
            here = place | {
                "seed": record.seed,
                "epoch": evaluation.epoch,
                "attack": code("attack", evaluation.attack),
                "attack_id": code("attack_id", evaluation.id),
                "selected": evaluation.epoch in record.epochs_evaluated,
            }
            for name, value in here.items():
                rows[name].append(value)
            lengths.append(len(hits))
            for name, values in (("class", classes), ("num_images", count), ("num_correct", hits)):
                rows[name].append(values)
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        if name == "accuracy":
            with np.errstate(invalid="ignore"):  # a class without an image has no accuracy
                columns[name] = columns["num_correct"] / columns["num_images"]
        elif name in ("class", "num_images", "num_correct"):
            columns[name] = np.concatenate([*rows[name], np.zeros(0, np.int64)]).astype(np.int32)
        else:
            kind = bool if name == "selected" else np.int32
            columns[name] = np.repeat(np.array(rows[name], dtype=kind), lengths)
    for name in _TEXTS:
        columns[name] = pd.Categorical.from_codes(columns[name], pd.Index(list(codes[name]), dtype=str))
    frame = pd.DataFrame(columns)
    frame.attrs["problems"] = told
    return frame
