"""Records that were changed and sealed again: `verify` finds every kind, and tables most."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flow_files import REGISTRY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outcome_files import write_outcomes

from fairbench.cli.main import main
from fairbench.core.files import read_json, write_sealed
from fairbench.core.identity import digest_bytes
from fairbench.models.checkpoints import read_tensors, write_tensors
from fairbench.records.cell import cell_ids
from fairbench.records.outcomes import read_outcomes

ATTACKS = """
  parts: {kind: autoattack, version: 1, eps: 0.1, attacks: [apgd-ce, apgd-t], num_steps: 10}
  small: {kind: autoattack, version: 1, eps: 0.08, attacks: [apgd-ce, apgd-t], num_steps: 10}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registry and the results of one run under PGD, AutoAttack at two radii."""
    folder = tmp_path_factory.mktemp("forged")
    text = REGISTRY.replace("attacks:\n", f"attacks:{ATTACKS}").replace(
        "train_per_class: 12", "train_per_class: 60"
    )
    (folder / "registry.yaml").write_text(text)
    torch.set_num_threads(1)
    chosen = ("--suite", "tiny", "--methods", "trades", "--attacks", "pgd-2,parts,small", "--epochs", "6")
    assert call(folder, "run", *chosen) == 0
    return folder


def call(folder: Path, command: str, *words: str) -> int:
    """The exit code of a command on the results in a folder."""
    options = ["--results", str(folder / "results")]
    if command not in ("table", "status", "logs"):
        options += ["--registry", str(folder / "registry.yaml"), "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main([command, *words, *options])
    return int(ended.value.code or 0)


def run_of(folder: Path) -> Path:
    (run,) = (folder / "results" / "runs").iterdir()
    return run


def line_of(record: dict[str, Any], attack: str) -> dict[str, Any]:
    return next(line for line in record["evaluations"] if line["attack"] == attack)


def count_all(run: Path, rng: random.Random) -> None:
    """Let the record count every image as correct."""
    record = read_json(run / "record.json")
    for line in record["evaluations"]:
        line["hits"] = record["class_count"]
    write_sealed(run / "record.json", record)


def unsealed(run: Path, rng: random.Random) -> None:
    """The same without a digest."""
    count_all(run, rng)
    record = read_json(run / "record.json")
    del record["digest"]
    (run / "record.json").write_text(json.dumps(record))


def robust(attack: str) -> Callable[[Path, random.Random], None]:
    """Turn the images that `attack` broke into robust ones and drop its evidence."""

    def forge(run: Path, rng: random.Random) -> None:
        record = read_json(run / "record.json")
        line, clean = line_of(record, attack), read_outcomes(run / line_of(record, "clean")["file"])
        rows = read_outcomes(run / line["file"])
        more = dict.fromkeys(rows.dtype.names[3:], clean["correct"])
        label, prediction, correct = (clean[name] for name in ("label", "prediction", "correct"))
        line["digest"] = write_outcomes(run / line["file"], label, prediction, correct, **more)
        line["hits"] = line_of(record, "clean")["hits"]
        proof = (run / line["file"]).with_suffix(".adversarial.safetensors")
        if proof.exists():
            tensors, about = read_tensors(proof)
            write_tensors(proof, {name: tensor[:0] for name, tensor in tensors.items()}, about)
            line["about"]["adversarial"]["digest"] = digest_bytes(proof.read_bytes())
        write_sealed(run / "record.json", record)

    return forge


def another_seed(run: Path, rng: random.Random) -> None:
    """Pass the run off as one of another seed."""
    cell, record = (read_json(run / name) for name in ("cell.json", "record.json"))
    seed = rng.randrange(1, 100)
    identity = {**cell["identity"], "seed": seed}
    id, entry = cell_ids(identity)
    write_sealed(run / "cell.json", {**cell, "identity": identity, "seed": seed, "id": id, "entry": entry})
    write_sealed(run / "record.json", {**record, "id": id, "entry": entry})
    run.rename(run.with_name(f"trades.digits.cnn-small.tiny.seed{seed}.{id}"))


def another_name(run: Path, rng: random.Random) -> None:
    """Change one of the names, ids or the seed of the cell, or the name of the folder."""
    cell = read_json(run / "cell.json")
    key = rng.choice(("id", "entry", "method", "dataset", "model", "protocol", "seed", "folder"))
    if key == "folder":
        run.rename(run.with_name(run.name.replace("seed0", "seed1")))
    else:
        write_sealed(run / "cell.json", {**cell, key: 7 if key == "seed" else "dafa"})


def change_curve(run: Path, rng: random.Random) -> None:
    """Change a number of the training curve."""
    text = (run / "epochs.jsonl").read_text()
    (run / "epochs.jsonl").write_text(text.replace('"loss": ', '"loss": 1', 1))


def change_description(run: Path, rng: random.Random) -> None:
    """Change a description of outcomes, and seal it again."""
    path = rng.choice(sorted(run.glob("outcomes/*/*.json")))
    write_sealed(path, {**read_json(path), "images": 7})


IN_TABLES = (  # verified by weights only, or not used in tables
    *map(robust, ("pgd-2", "parts", "small")),
    another_seed,
    change_curve,
    change_description,
)
FORGERIES = {
    "unsealed": unsealed,
    "counts": count_all,
    "pgd": IN_TABLES[0],
    "autoattack": IN_TABLES[1],
    "smaller radius": IN_TABLES[2],
    "seed": another_seed,
    "names": another_name,
    "curve": change_curve,
    "description": change_description,
}


def test_verify_approves_of_the_run_as_it_was(made):
    assert call(made, "verify", run_of(made).name) == 0


@pytest.mark.parametrize("kind", FORGERIES)
@settings(
    max_examples=2,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_a_forged_record_is_found(made, tmp_path, capsys, kind, seed):
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    FORGERIES[kind](run_of(folder), random.Random(seed))
    assert call(folder, "verify", str(run_of(folder))) in (1, 2)
    capsys.readouterr()
    call(folder, "table", "--format", "csv")
    out, error = capsys.readouterr()
    if FORGERIES[kind] not in IN_TABLES:
        assert ",100.00" not in out
        assert run_of(folder).name in error or "left out" in out + error or "no runs" in error


def test_both_ensembles_made_robust_are_refuted_by_a_new_search(made, tmp_path):
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    for attack in ("parts", "small"):
        robust(attack)(run_of(folder), random.Random(0))
    rows = [read_outcomes(path) for path in run_of(folder).rglob("*.npy") if "pgd" not in path.name]
    assert all(np.array_equal(rows[0]["correct"], other["correct"]) for other in rows)
    assert call(folder, "verify", run_of(folder).name) == 1
