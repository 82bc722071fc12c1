"""One status of a run, whichever command is asked: failed evaluations, impossible and dropped attacks."""

import json
from pathlib import Path

import numpy as np
import pytest

from fairbench.core.files import write_sealed
from fairbench.core.lease import hold_lease
from fairbench.runner import worker
from fairbench.runner.evaluating import evaluate_into

NETWORK = """
import os

import torch

from fairbench.models.cnn import cnn_small


class Fragile(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        if os.environ.get("TEST_NO_BFLOAT16") and x.dtype == torch.bfloat16:
            raise RuntimeError("bfloat16 is broken today")
        return self.inner(x)


def build(num_classes, image_shape):
    return Fragile(cnn_small(num_classes, image_shape))
"""
OWN = """
version: 1
models:
  fragile: {target: "network.py:build"}
attacks:
  half: {kind: autoattack, eps: 0.1, attacks: [apgd-ce], num_steps: 2, precision: bfloat16}
  targeted: {kind: autoattack, eps: 0.1, attacks: [apgd-t], num_steps: 2}
suites:
  hard:
    methods: [trades]
    datasets: [arrays]
    models: [cnn-small]
    seeds: [0]
    protocol: quickstart
    evaluation: [targeted]
datasets:
  arrays: {reader: npz, path: arrays.npz, image_shape: [1, 8, 8], num_classes: 3}
"""


@pytest.fixture
def own(bench) -> tuple[str, ...]:
    """Options for a network that fails in bfloat16, attacks, and images of three classes."""
    (bench.folder / "network.py").write_text(NETWORK)
    (bench.folder / "own.yaml").write_text(OWN)
    return ("--registry", str(bench.folder / "own.yaml"))


@pytest.fixture
def fragile(own) -> tuple[str, ...]:
    return (*own, "--methods", "trades", "--models", "fragile", "--device", "cpu")


@pytest.fixture
def three_classes(bench, own) -> tuple[str, ...]:
    """Options for prepared images of three classes."""
    rng = np.random.default_rng(0)
    sides = {"train": 36, "test": 9}
    arrays = {f"x_{side}": rng.integers(0, 256, (n, 8, 8), dtype=np.uint8) for side, n in sides.items()}
    arrays |= {f"y_{side}": np.arange(n) % 3 for side, n in sides.items()}
    np.savez(bench.folder / "arrays.npz", **arrays)
    bench.call("prepare", *own, "--datasets", "arrays", "--root", str(bench.folder / "data"))
    return (*own, "--methods", "trades")


def status_of(bench) -> tuple[str, str]:
    """State and reason of the only run, by `fairbench status`."""
    (run,) = json.loads(bench.call("status", "--results", str(bench.results), "--json")[0])["runs"]
    return run["state"], run["reason"]


def weights(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("checkpoints/epoch-*")}


@pytest.mark.parametrize("executor", [(), ("--executor", "local")], ids=["inline", "local"])
def test_all_commands_agree_on_an_evaluation_that_failed(bench, fragile, monkeypatch, executor):
    monkeypatch.setenv("TEST_NO_BFLOAT16", "1")
    chosen = (*fragile, "--attacks", "pgd-2,half")
    out, error = bench.run(*chosen, *executor, code=1)
    assert "failed" in error
    assert "half: RuntimeError: bfloat16 is broken today" in error
    assert "PGD-2" in out  # the table shows what there is
    record = bench.record("trades")
    assert (record["schema"], record["state"], record["reason"]) == (2, "done", None)
    lines = {line["attack"]: line for line in record["evaluations"]}
    assert set(lines) == {"clean", "pgd-2", "half"}
    assert set(lines["half"]) == {"attack", "id", "epoch", "error"}
    (planned,) = bench.plan(*chosen)
    assert (planned["state"], planned["reason"]) == status_of(bench)
    assert (planned["state"], planned["reason"][:19]) == ("failed", "half: RuntimeError:")
    out, _ = bench.call("logs", "trades", "--results", str(bench.results))
    assert "state: failed: half: RuntimeError" in out
    assert bench.states(*fragile, "--attacks", "pgd-2") == {"trades.0": "done"}
    trained = weights(bench.folder_of("trades"))
    bench.run(*chosen, *executor, code=1)
    monkeypatch.delenv("TEST_NO_BFLOAT16")
    registry = ("--registry", str(bench.registry), *fragile[:2])
    bench.call("retry", "--failed", *registry, "--results", str(bench.results), "--device", "cpu")
    assert bench.states(*chosen) == {"trades.0": "done"}
    assert status_of(bench) == ("done", "")
    assert not any("error" in line for line in bench.record("trades")["evaluations"])
    assert weights(bench.folder_of("trades")) == trained


def test_a_clean_evaluation_that_failed_is_tried_again_without_training(bench, monkeypatch):
    chosen = ("--methods", "trades", "--attacks", "pgd-2")

    def broken(files, model, images, attack, **settings):
        if attack is None:
            raise RuntimeError("no clean images today")
        return evaluate_into(files, model, images, attack, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "evaluate_into", broken)
        _, error = bench.run(*chosen, code=1)
    assert "clean: RuntimeError: no clean images today" in error
    record = bench.record("trades")
    assert record["state"] == "done"
    assert {line["attack"]: "error" in line for line in record["evaluations"]} == {
        "clean": True,
        "pgd-2": False,
    }
    (planned,) = bench.plan(*chosen)
    assert (planned["state"], planned["reason"]) == status_of(bench)
    assert planned["state"] == "failed"
    assert planned["reason"].startswith("clean: RuntimeError")
    trained = weights(bench.folder_of("trades"))
    bench.run(*chosen)
    assert status_of(bench) == ("done", "")
    assert {line["attack"] for line in bench.record("trades")["evaluations"]} == {"clean", "pgd-2"}
    assert weights(bench.folder_of("trades")) == trained


def test_an_attack_that_fails_later_takes_nothing_away(bench, fragile, monkeypatch):
    bench.run(*fragile, "--attacks", "pgd-2")
    before = bench.record("trades")["evaluations"]
    monkeypatch.setenv("TEST_NO_BFLOAT16", "1")
    bench.run(*fragile, "--attacks", "half", code=1)
    assert [line for line in bench.record("trades")["evaluations"] if "error" not in line] == before
    assert bench.states(*fragile, "--attacks", "half") == {"trades.0": "failed"}
    assert bench.states(*fragile, "--attacks", "pgd-2") == {"trades.0": "done"}


def test_an_impossible_attack_is_left_out_and_said_before_anything_is_trained(bench, three_classes):
    chosen = (*three_classes, "--datasets", "arrays,digits", "--attacks", "pgd-2,targeted")
    note = "targeted is left out for arrays: it needs at least 4 classes, and there are 3"
    out, _ = bench.call(*bench.arguments("plan", *chosen))
    assert f"note: {note}" in out
    assert not bench.results.exists()
    _, error = bench.run(*chosen)
    assert f"note: {note}" in error
    assert set(bench.states(*chosen).values()) == {"done"}
    attacks = {
        path.parent.name.split(".")[1]: {
            line["attack"] for line in json.loads(path.read_text())["evaluations"]
        }
        for path in bench.results.glob("runs/*/record.json")
    }
    assert attacks == {"arrays": {"clean", "pgd-2"}, "digits": {"clean", "pgd-2", "targeted"}}
    runs = json.loads(bench.call("status", "--results", str(bench.results), "--json")[0])["runs"]
    assert {run["state"] for run in runs} == {"done"}


@pytest.mark.parametrize(
    "chosen",
    [
        ("--datasets", "arrays", "--attacks", "targeted"),
        ("--datasets", "arrays,digits", "--attacks", "targeted"),
        ("--datasets", "arrays", "--suite", "hard"),
    ],
    ids=["all data sets", "one of two data sets", "by the suite"],
)
def test_a_data_set_without_a_possible_attack_is_refused_before_anything_is_trained(
    bench, three_classes, chosen
):
    for command in ("plan", "run"):
        _, error = bench.call(*bench.arguments(command, *three_classes, *chosen), code=2)
        assert (
            "ConfigError: no evaluation attack can be run on arrays (targeted: it needs at least 4 classes, "
            "and there are 3)." in error
        )
        assert "--attacks" in error
        assert "left out" not in error
    assert not bench.results.exists()


def test_an_impossible_attack_on_a_checkpoint_is_refused_before_it_is_read(bench, three_classes):
    where = ("--data", str(bench.folder / "data"), "--results", str(bench.results), *three_classes[:2])
    arguments = ("nowhere.pt", "--model", "cnn-small", "--dataset", "arrays", "--attacks", "targeted")
    _, error = bench.call("evaluate", *arguments, *where, code=2)
    assert "targeted cannot be run on arrays: it needs at least 4 classes, and there are 3" in error


def test_an_attack_that_was_asked_for_in_vain_and_dropped_is_not_run(bench, fragile, monkeypatch):
    monkeypatch.setenv("TEST_NO_BFLOAT16", "1")
    bench.run(*fragile, "--attacks", "pgd-2,half", code=1)
    monkeypatch.delenv("TEST_NO_BFLOAT16")
    bench.run(*fragile, "--attacks", "pgd-3")
    evaluations = bench.record("trades")["evaluations"]
    assert {line["attack"] for line in evaluations} == {"clean", "pgd-2", "pgd-3"}
    cell = json.loads((bench.folder_of("trades") / "cell.json").read_text())
    assert [attack["name"] for attack in cell["evaluation"]] == ["pgd-2", "pgd-3"]


def test_a_failed_attack_is_dropped_by_a_command_that_has_nothing_else_to_do(bench, fragile, monkeypatch):
    monkeypatch.setenv("TEST_NO_BFLOAT16", "1")
    bench.run(*fragile, "--attacks", "pgd-2,half", code=1)
    bench.run(*fragile, "--attacks", "pgd-2")
    assert status_of(bench) == ("done", "")
    monkeypatch.delenv("TEST_NO_BFLOAT16")
    registry = ("--registry", str(bench.registry), *fragile[:2])
    bench.call("retry", "--failed", *registry, "--results", str(bench.results), "--device", "cpu")
    assert {line["attack"] for line in bench.record("trades")["evaluations"] if "error" not in line} == {
        "clean",
        "pgd-2",
    }


def test_lost_outcomes_of_an_attack_that_is_not_asked_for_are_not_made_again(bench, fragile):
    bench.run(*fragile, "--attacks", "pgd-2,pgd-3")
    for path in bench.folder_of("trades").glob("outcomes/*/pgd-3*.npy"):
        path.unlink()
    assert bench.states(*fragile, "--attacks", "pgd-2,pgd-3") == {"trades.0": "partial"}
    assert bench.states(*fragile, "--attacks", "pgd-2") == {"trades.0": "done"}
    bench.run(*fragile, "--attacks", "pgd-2,half")
    assert not list(bench.folder_of("trades").glob("outcomes/*/pgd-3*.npy"))
    assert status_of(bench) == ("done", "")


def test_an_attack_is_not_dropped_while_a_process_works_on_the_run(bench, fragile, monkeypatch):
    monkeypatch.setenv("TEST_NO_BFLOAT16", "1")
    bench.run(*fragile, "--attacks", "half", code=1)
    with hold_lease(bench.folder_of("trades") / "claim"):
        _, error = bench.run(*fragile, "--attacks", "pgd-3")
    assert "running" in error or "another process" in error
    cell = json.loads((bench.folder_of("trades") / "cell.json").read_text())
    assert {attack["name"] for attack in cell["evaluation"]} >= {"half"}


def test_results_of_the_schema_before_are_done_and_not_touched(bench):
    """An evaluation that failed was a reason beside "done"."""
    bench.run("--methods", "trades")
    path = bench.folder_of("trades") / "record.json"
    record = json.loads(path.read_text())
    del record["digest"]
    cell = json.loads((path.parent / "cell.json").read_text())
    (attack,) = cell["evaluation"]
    write_sealed(path, {**record, "schema": 1})
    before = path.read_bytes()
    assert bench.states("--methods", "trades") == {"trades.0": "done"}
    assert status_of(bench) == ("done", "")
    bench.run("--methods", "trades")
    assert path.read_bytes() == before
    for reason in ("pgd-2: no luck", "a later evaluation failed: no luck"):
        lines = [line for line in record["evaluations"] if line["id"] != attack["id"]]
        write_sealed(path, {**record, "schema": 1, "evaluations": lines, "reason": reason})
        assert status_of(bench) == ("failed", "pgd-2: no luck")
        (planned,) = bench.plan("--methods", "trades")
        assert (planned["state"], planned["reason"]) == ("failed", "pgd-2: no luck")
    bench.run("--methods", "trades")
    assert bench.record("trades")["evaluations"] == record["evaluations"]
