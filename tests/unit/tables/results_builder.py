"""A small builder of results folders: runs whose hits per class are chosen, not trained."""

from pathlib import Path

import numpy as np
from outcome_files import identity_of, write_outcomes

from fairbench.core.files import write_json
from fairbench.core.identity import digest

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
        arithmetic=None,
    ):
        """One run. clean, robust: per checkpoint the hits of each class, of `size` images each, or
        `size[c]`.

        `counted` runs have their hits in the record, as those of today; the others are older.
        """
        settings = {"protocol": protocol, **(protocol_content or {})}
        settings["protocol"] = settings.pop("name", settings["protocol"])
        identity = identity_of(method, dataset, config=config, **settings)
        entry = digest([identity, overrides])
        cell = {
            "schema": 1,
            "id": digest([entry, seed]),
            "entry": entry,
            "method": method,
            "dataset": dataset,
            "model": "cnn-small",
            "protocol": protocol,
            "seed": seed,
            "overrides": overrides or {},
            "identity": {**identity, "seed": seed},
            "evaluation": [attack] if attack else [],
            "titles": titles or {},
        }
        runs = (into or self.path) / "runs"
        safe = "".join(char if char.isalnum() else "-" for char in method)
        folder = runs / f"{safe}.{dataset}.cnn-small.{protocol}.seed{seed}.{cell['id']}"
        folder.mkdir(parents=True)
        write_json(folder / "cell.json", cell)
        if state is None:
            return folder
        epochs = list(range(6 - len(clean), 6))
        sides = [("clean", "", clean)] + (
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
            "entry": entry,
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
        write_json(folder / "record.json", record)
        return folder
