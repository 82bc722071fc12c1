"""Run folders for tests of the report: hits per class are chosen, nothing is trained."""

import json
from pathlib import Path

import numpy as np
from outcome_files import folder_of, whole_cell, write_outcomes

from fairbench.core.files import write_sealed

PGD = {"name": "pgd-20", "id": "pgdid", "kind": "pgd", "eps": 0.1, "step_size": 0.02, "num_steps": 20}
PROVENANCE = {
    "versions": {"torch": "2.11.0", "numpy": "2.4.0"},
    "python": "3.11.7",
    "platform": "Linux x86_64",
    "device": {"type": "cpu", "threads": 2},
    "commit": "0123456789abcdef+",
    "command": ["fairbench", "run", "--seeds", "0..2"],
    "plugin_source": "a" * 64,
    "data_digest": "b" * 64,
    "started": "2026-11-22T09:00:00Z",
    "earlier": [],
}


def write_run(
    results: Path,
    method: str = "trades",
    seed: int = 0,
    clean: tuple[int, ...] = (9, 8, 7),
    robust: tuple[int, ...] | None = (6, 5, 4),
    *,
    dataset: str = "digits",
    model: str = "cnn-small",
    protocol: str = "quickstart",
    attack: dict = PGD,
    size: int = 10,
    names: list[str] | None = None,
    overrides: dict | None = None,
    state: str = "done",
    warnings: tuple[str, ...] = (),
    provenance: object = PROVENANCE,
    epochs: int = 4,
    title: str | None = None,
    command: list[str] | None = None,
) -> Path:
    """One run with one checkpoint. clean, robust: the hits of each class, of `size` images each."""
    identity = {
        "method": {"config": {"beta": 6.0, "own": 1}, "fingerprint": "f0", "overrides": overrides},
        "dataset": {"digest": "d0"},
        "protocol": {"version": 2, "epochs": epochs},
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
        "evaluation": [attack] if robust else [],
        "titles": {"method": title} if title else {},
    }
    cell = whole_cell(cell)
    folder = folder_of(results / "runs", cell)
    folder.mkdir(parents=True)
    write_sealed(folder / "cell.json", cell)
    evaluations = []
    for name, id, hits in (("clean", "", clean), (attack["name"], attack["id"], robust)):
        if hits is None or state != "done":
            continue
        file = f"outcomes/epoch-{epochs:04d}/{len(evaluations)}.npy"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        label = np.repeat(np.arange(len(hits)), size)
        correct = np.concatenate([np.arange(size) < k for k in hits])
        sha = write_outcomes(folder / file, label, np.where(correct, label, (label + 1) % len(hits)), correct)
        evaluations.append({"attack": name, "epoch": epochs, "file": file, "digest": sha, "id": id})
    record = {
        "schema": 1,
        "id": cell["id"],
        "entry": cell["entry"],
        "state": state,
        "reason": "the loss was not finite",
        "epoch": epochs,
        "num_classes": len(clean),
        "class_names": names,
        "epochs_evaluated": [epochs],
        "evaluations": evaluations,
        "warnings": list(warnings),
        "finished": "2026-11-22T10:00:00Z",
    }
    write_sealed(folder / "record.json", record)
    if provenance is not None:
        given = provenance if command is None else {**PROVENANCE, "command": command}
        text = given if isinstance(given, str) else json.dumps(given)
        (folder / "provenance.json").write_text(text)
    with (folder / "epochs.jsonl").open("w") as file:
        for epoch in range(1, epochs + 1):
            accuracy = [0.2 + 0.1 * epoch, 0.1 + 0.1 * epoch]
            row = {"epoch": epoch, "seconds": 1.0, "loss": 2.0 / epoch, "train_clean_accuracy": accuracy}
            file.write(json.dumps({**row, "train_robust_accuracy": [each / 2 for each in accuracy]}) + "\n")
    return folder


def write_three_methods(results: Path, **options: object) -> None:
    """TRADES, DAFA and TRIX with three seeds each; DAFA's worst class under attack is the highest."""
    for seed in range(3):
        write_run(results, "trades", seed, (95, 90, 80 - seed), (70, 60, 30 + seed), size=100, **options)
        write_run(results, "dafa", seed, (94, 90, 84 + seed), (66, 60, 45 - seed), size=100, **options)
        write_run(results, "trix", seed, (93, 89, 85), (68, 59, 9 + seed), size=100, **options)
