"""A small builder of results folders: runs whose hits per class are chosen, not trained."""

from pathlib import Path

import numpy as np
from outcome_files import folder_of, whole_cell, write_outcomes

from fairbench.core.files import write_sealed

PGD = {
    "name": "pgd-20",
    "id": "pgdid",
    "kind": "pgd",
    "version": 1,
    "eps": 0.1,
    "step_size": 0.02,
    "num_steps": 20,
}
NAMES = ["cat", "dog", "owl"]


class ResultsBuilder:
    """Writes run folders under `path`; `scan(builder.path)` reads them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(
        self,
        method="trades",
        seed=0,
        clean=((9, 8, 7),),
        robust=((6, 5, 4),),
        *,
        size=10,
        dataset="digits",
        model="cnn-small",
        protocol="quickstart",
        protocol_content=None,
        overrides=None,
        config=None,
        state="done",
        reason=None,
        warnings=(),
        names=None,
        attack=PGD,
        into=None,
        finished="2026-11-22T10:00:00Z",
        counted=False,
        titles=None,
        components=None,
        arithmetic=None,
    ):
        """One run. clean, robust: per checkpoint the hits of each class, of `size` images each, or
        `size[c]`.

        `counted` runs have their hits in the record, as those of today; the others are older.
        """
        identity = {
            "method": {"config": config or {}, "fingerprint": "f0", "overrides": overrides},
            "dataset": {"digest": "d0"},
            "protocol": {"version": 2, "epochs": 5, **(protocol_content or {})},
            **(components or {}),
        }
        cell = {
            "schema": 1,
            "method": method,
            "dataset": dataset,
            "model": model,
            "protocol": protocol,
            "seed": seed,
            "overrides": overrides or {},
            "identity": identity,
            "evaluation": [attack] if attack else [],
            "titles": titles or {},
        }
        cell = whole_cell(cell)
        folder = folder_of((into or self.path) / "runs", cell)
        folder.mkdir(parents=True)
        write_sealed(folder / "cell.json", cell)
        if state is None:
            return folder
        epochs = list(range(6 - len(clean), 6))
        sides = [("clean", "clean", clean)] + (
            [(attack["name"], attack["id"], robust)] if attack and robust else []
        )
        evaluations = []
        if state == "done":
            for attack_name, evaluation_id, hits in sides:
                for epoch, per_class in zip(epochs, hits, strict=True):
                    file = f"outcomes/epoch-{epoch:04d}/{attack_name}.npy"
                    (folder / file).parent.mkdir(parents=True, exist_ok=True)
                    sizes = np.broadcast_to(size, len(per_class))
                    label = np.repeat(np.arange(len(per_class)), sizes)
                    correct = np.concatenate(
                        [np.arange(n) < k for n, k in zip(sizes, per_class, strict=True)]
                    )
                    prediction = np.where(correct, label, (label + 1) % len(per_class))
                    sha = write_outcomes(folder / file, label, prediction, correct)
                    evaluations.append(
                        {
                            "attack": attack_name,
                            "epoch": epoch,
                            "file": file,
                            "digest": sha,
                            "id": evaluation_id,
                        }
                    )
                    if counted:
                        evaluations[-1]["hits"] = list(per_class)
        record = {
            "schema": 1,
            "id": cell["id"],
            "entry": cell["entry"],
            "state": state,
            "reason": reason,
            "epoch": 5,
            "num_classes": len(clean[0]),
            "class_names": NAMES if names is None and len(clean[0]) == 3 else names,
            "epochs_evaluated": epochs,
            "evaluations": evaluations,
            "warnings": list(warnings),
            "finished": finished,
        }
        if arithmetic is not None:
            record["training"] = {"arithmetic": arithmetic}
        if counted:
            record["class_count"] = [size] * len(clean[0])
        write_sealed(folder / "record.json", record)
        return folder
