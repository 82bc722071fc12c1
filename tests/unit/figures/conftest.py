"""A builder of results folders for figures: several attacks and training curves; nothing is trained."""

import json
from pathlib import Path

import numpy as np
import pytest
from outcome_files import folder_of, whole_cell, write_outcomes

from fairbench.core.files import write_sealed
from fairbench.core.identity import digest
from fairbench.records.results_folder import scan

PGD = {"kind": "pgd", "version": 1, "eps": 0.1, "step_size": 0.0125, "num_steps": 20}
TARGETED = {**PGD, "target": "random"}
WEAKER = {**PGD, "eps": 0.05, "step_size": 0.00625}
ATTACKS = {"pgd": PGD, "pgd-targeted": TARGETED, "pgd-weak": WEAKER}
STRENGTH = {"clean": 0.0, "pgd-weak": 0.2, "pgd-targeted": 0.1, "pgd": 0.4}  # share of images that fall
NAMES = ("cat", "horse", "owl")
EPOCHS = 6


class Results:
    """Writes run folders; `records()` reads them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(
        self,
        method="trades",
        seed=0,
        *,
        title=None,
        dataset="digits",
        names=NAMES,
        size=20,
        attacks=ATTACKS,
        checkpoints=2,
        logged=("weight",),
        curves=True,
        overrides=None,
    ):
        """One run whose accuracies depend on method, seed, class and epoch."""
        rng = np.random.default_rng(int(digest([method, seed, dataset]), 16) % 2**32)
        base = rng.uniform(0.5, 1.0, len(names))
        identity = {
            "method": {"config": overrides or {}},
            "protocol": {"version": 2, "epochs": EPOCHS},
        }
        cell = {
            "schema": 1,
            "method": method,
            "dataset": dataset,
            "model": "cnn-small",
            "protocol": "quickstart",
            "seed": seed,
            "overrides": overrides or {},
            "identity": identity,
            "evaluation": [{"name": name, "id": f"id-{name}", **rest} for name, rest in attacks.items()],
            "titles": {"method": title or method.upper()},
        }
        cell = whole_cell(cell)
        head = {key: cell[key] for key in ("schema", "id", "entry")}
        folder = folder_of(self.path / "runs", cell)
        folder.mkdir(parents=True)
        write_sealed(folder / "cell.json", cell)
        epochs = list(range(EPOCHS - checkpoints + 1, EPOCHS + 1))
        evaluations = []
        label = np.repeat(np.arange(len(names)), size)
        for epoch in epochs:
            for name in ("clean", *attacks):
                share = np.clip(base - STRENGTH[name] + 0.01 * epoch, 0, 1)
                correct = np.concatenate([np.arange(size) < round(size * p) for p in share])
                prediction = np.where(correct, label, (label + 1) % len(names))
                more = {}
                if name == "pgd-targeted":
                    more = {"reached_target": ~correct & (np.arange(len(label)) % 2 == 0)}
                file = f"outcomes/epoch-{epoch:04d}/{name}.npy"
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                sha = write_outcomes(folder / file, label, prediction, correct, **more)
                where = {"attack": name, "id": "" if name == "clean" else f"id-{name}"}
                evaluations.append({**where, "epoch": epoch, "file": file, "digest": sha})
        record = {**head, "state": "done", "num_classes": len(names), "class_names": list(names)}
        write_sealed(
            folder / "record.json", {**record, "epochs_evaluated": epochs, "evaluations": evaluations}
        )
        if curves:
            with (folder / "epochs.jsonl").open("w") as file:
                for epoch in range(1, EPOCHS + 1):
                    row = {"epoch": epoch, "loss": 2.0 / epoch + 0.1 * seed, "seconds": 1.0}
                    for side, lower in (("clean", 0.0), ("robust", 0.3)):
                        row[f"train_{side}_accuracy"] = list(np.clip(base - lower + 0.01 * epoch, 0, 1))
                    row["logged"] = {name: [1.0 + 0.1 * seed] * len(names) for name in logged}
                    file.write(json.dumps(row) + "\n")
        return folder

    def records(self):
        records, problems = scan(self.path)
        assert not problems
        return records


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results")


def fill(results):
    """Three methods with two seeds each."""
    for method in ("trades", "dafa", "trix"):
        for seed in (0, 1):
            results.run(method, seed)
    return results


@pytest.fixture(scope="session")
def trio(tmp_path_factory):
    """The records of three methods with two seeds each, written once."""
    return tuple(fill(Results(tmp_path_factory.mktemp("trio") / "results")).records())


@pytest.fixture
def three(results):
    """The same as a folder to add to."""
    return fill(results)


@pytest.fixture
def project():
    """In place of the door to the weights: points that depend on the record."""
    from fairbench.metrics.projection import Projection

    def made(record, classes, attack, id):
        count = 6
        point = np.random.default_rng(record.seed).normal(size=(2 * count, 2))
        label = np.tile(np.repeat(classes, count // 2), 2)
        image = np.tile(np.arange(count), 2)
        return Projection(point, label, label, np.arange(2 * count) >= count, image, (0.6, 0.2))

    return made
