"""Attacks from the command line: tiers, what is kept, what is never done twice, and how it is checked."""

import json
from pathlib import Path

import numpy as np
import pytest
from interrupted import stop_after
from outcome_files import write_outcomes
from safetensors.numpy import load_file, save_file

from fairbench.core.files import write_sealed
from fairbench.evaluation.journal import Journal
from fairbench.records.outcomes import read_outcomes

EVALUATION = """
version: 1
protocols:
  tiered:
    extends: tiny
    version: 1
    source: none; a test
    epochs: 4
    selection: {last: 2, every: 1}
    evaluation: [pgd-2@every, parts, pgd-3@last]
attacks:
  parts: {kind: autoattack, eps: 0.1, attacks: [apgd-ce, square], num_steps: 5, num_queries: 20}
  adaptive: {kind: a3, eps: 0.1}
"""
METHOD = ("--methods", "trades")


@pytest.fixture
def attacks(bench, tmp_path: Path):
    """The bench with a protocol of three tiers."""
    (tmp_path / "attacks.yaml").write_text(EVALUATION)
    return ("--registry", str(tmp_path / "attacks.yaml"), *METHOD)


def evaluated(record):
    """Epochs by attack."""
    found = {}
    for line in record["evaluations"]:
        found.setdefault(line["attack"], []).append(line["epoch"])
    return found


def test_each_attack_is_run_on_the_checkpoints_of_its_tier(bench, attacks):
    out, _ = bench.run(*attacks, "--protocol", "tiered")
    record = bench.record("trades")
    everywhere = {"clean": [1, 2, 3, 4], "pgd-2": [1, 2, 3, 4]}
    assert evaluated(record) == {**everywhere, "parts": [3, 4], "pgd-3": [4]}
    assert record["epochs_evaluated"] == [3, 4]
    pages = " ".join(out.split()).split("CNN-small, Digits, tiered")
    parts, pgd = (next(page for page in pages if name in page) for name in ("parts, 0.1", "PGD-3"))
    assert "epochs 3-4. Upper bound by parts of AutoAttack, not AutoAttack standard." in parts
    assert "epoch 4. Upper bound by PGD" in pgd


def test_more_checkpoints_and_more_attacks_never_retrain_and_never_repeat(bench, attacks):
    bench.run(*attacks, "--attacks", "parts@last")
    folder = bench.folder_of("trades")
    (weights,) = folder.glob("checkpoints/epoch-*.safetensors")
    before = {path: path.stat().st_mtime_ns for path in (weights, *folder.rglob("*.npy"))}
    assert bench.states(*attacks, "--attacks", "parts@last") == {"trades.0": "done"}
    assert bench.states(*attacks, "--attacks", "parts,adaptive") == {"trades.0": "partial"}
    bench.run(*attacks, "--attacks", "parts,adaptive")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(evaluated(bench.record("trades"))) == {"clean", "parts", "adaptive"}
    assert list(folder.rglob("*.partial")) == []


def test_an_evaluation_killed_between_blocks_goes_on_behind_them(bench, attacks, monkeypatch):
    bench.run(*attacks, "--attacks", "adaptive")
    (whole,) = (path.read_bytes() for path in bench.folder_of("trades").rglob("adaptive.*.npy"))
    bench.results = bench.folder / "again"
    written = stop_after(4, monkeypatch)
    bench.run(*attacks, "--attacks", "adaptive", code=130)
    (partial,) = bench.folder_of("trades").rglob("adaptive.*.partial")
    assert len(list(partial.iterdir())) == 4
    bench.run(*attacks, "--attacks", "adaptive")
    assert len(written) == len(set(written))
    (again,) = (path.read_bytes() for path in bench.folder_of("trades").rglob("adaptive.*.npy"))
    assert again == whole


def test_verify_finds_a_record_as_it_was_and_names_what_was_changed(bench, attacks):
    bench.run(*attacks, "--attacks", "pgd-2,parts")
    name = bench.folder_of("trades").name

    def verify(code=0):
        out, _ = bench.call("verify", name, "--results", str(bench.results), "--all", "--json", code=code)
        return {check["attack"]: (check["checked"], check["wrong"]) for check in json.loads(out)["checks"]}

    assert verify() == {"clean": (50, 0), "pgd-2": (50, 0), "parts": (50, 0)}
    out, _ = bench.call("verify", "trades", "--results", str(bench.results))
    assert "all as recorded" in out

    (proof,) = bench.results.rglob("*.adversarial.safetensors")
    kept = proof.read_bytes()
    tensors = load_file(proof)
    assert len(tensors["index"]) > 0
    tensors["scale"] = np.zeros_like(tensors["scale"])  # clean images, passed off as adversarial
    save_file(tensors, proof)
    assert verify(code=1)["parts"][1] > 0
    proof.write_bytes(kept)
    inflate(bench.folder_of("trades"), "parts")
    assert verify(code=1)["parts"][1] > 0
    (rows,) = bench.results.rglob("pgd-2.*.npy")
    rows.write_bytes(rows.read_bytes()[:-1])
    assert verify(code=1)["pgd-2"] == (0, 1)


def inflate(folder: Path, attack: str) -> None:
    """Let the record claim that `attack` broke nothing."""
    record = json.loads((folder / "record.json").read_text())
    lines = {line["attack"]: line for line in record["evaluations"]}
    rows = read_outcomes(folder / lines[attack]["file"]).copy()
    rows["correct"] = read_outcomes(folder / lines["clean"]["file"])["correct"]
    columns = {name: rows["correct"] for name in rows.dtype.names if name.startswith("survived")}
    path = folder / lines[attack]["file"]
    lines[attack]["digest"] = write_outcomes(
        path, rows["label"], rows["prediction"], rows["correct"], **columns
    )
    del record["digest"]
    write_sealed(folder / "record.json", record)


def test_seeds_under_different_tiers_share_one_table_of_the_last_checkpoint(bench, attacks):
    changes = (*attacks, "--protocol", "tiered", "--epochs", "3")
    bench.run(*changes, "--attacks", "pgd-2@last", "--seeds", "0")
    out, _ = bench.run(*changes, "--attacks", "pgd-2", "--seeds", "0,1")
    assert "left out" not in out
    assert "epochs 2-3" in out
    (bench.results / "runs").rename(bench.results / "old")
    bench.run(*changes, "--attacks", "pgd-2@last", "--seeds", "0")
    bench.run(*changes, "--attacks", "pgd-2", "--seeds", "1")
    out, _ = bench.call("table", "--results", str(bench.results))
    assert out.count("CNN-small, Digits, tiered") == 1  # one title
    assert "epoch 3." in " ".join(out.split())
    assert "left out" not in out


def test_an_attack_that_is_asked_for_and_missing_shows_in_the_status(bench, attacks, monkeypatch):
    bench.run(*attacks)
    monkeypatch.setattr(Journal, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    bench.run(*attacks, "--attacks", "parts", code=130)
    out, _ = bench.call("status", "--results", str(bench.results))
    assert "not yet evaluated: parts" in out


def test_a_radius_of_ones_own_scales_the_step_and_holds_for_one_norm(bench, attacks, tmp_path):
    bench.run(*attacks)
    (weights,) = bench.folder_of("trades").glob("checkpoints/epoch-*.safetensors")
    given = ["evaluate", str(weights), "--model", "cnn-small", "--dataset", "digits", "--per-class", "4"]
    given += ["--results", str(tmp_path / "there"), "--eps", "0.3"]
    bench.call(*given, "--attacks", "pgd-20")
    (about,) = (json.loads(path.read_text()) for path in (tmp_path / "there").rglob("pgd-20.*.json"))
    assert about["settings"]["step_size"] == pytest.approx(0.003 * 0.3 / 0.031)
    _, error = bench.call(*given, "--attacks", "pgd-20,pgd-20-l2", code=2)
    assert "different norms, l2 and linf" in error


def test_verify_of_no_run_says_what_to_type(bench):
    _, error = bench.call("verify", "trades", "--results", str(bench.results), code=2)
    assert "there is no run called 'trades'" in error
    assert "fairbench status" in error


def test_an_attack_and_its_reference_are_compared_by_one_command(bench, attacks, tmp_path):
    bench.run(*attacks)
    (weights,) = bench.folder_of("trades").glob("checkpoints/epoch-*.safetensors")
    given = ["evaluate", str(weights), "--model", "cnn-small", "--dataset", "digits", "--per-class", "4"]
    given += ["--results", str(tmp_path / "there")]
    asked = "apgd-ce,apgd-ce:reference"
    out, _ = bench.call(*given, "--attacks", asked, "--eps", "0.1", "--json")
    found = json.loads(out)
    agreement = found["agreement"]["apgd-ce"]
    assert agreement["same"] >= 38
    assert agreement["same"] + agreement["only_this"] + agreement["only_reference"] == 40
    assert found["attacks"]["apgd-ce"]["forward"] > 0
    for about in (tmp_path / "there").rglob("apgd-ce.*.json"):
        about.unlink()  # as in folders from before it was written
    out, _ = bench.call(*given, "--attacks", asked, "--eps", "0.1")
    assert "of 40 verdicts equal those of apgd-ce:reference" in " ".join(out.split())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("pgd-2@sometimes", "no checkpoints called 'sometimes'"),
        ("pgd-2:reference", "no attack called 'pgd-2:reference'"),
        ("pgd-22", "did you mean: pgd-2"),
    ],
)
def test_attacks_that_cannot_be_are_refused_before_anything_runs(bench, attacks, asked, message):
    _, error = bench.run(*attacks, "--attacks", asked, code=2)
    assert message in error
    assert not bench.results.exists()
