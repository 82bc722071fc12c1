"""The care of a results folder: merge, logs, retry, clean, the price of a plan, and who else may work."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flow_files import HOOK, PLUGIN

from fairbench.core.files import write_sealed


def to(bench, name: str) -> Path:
    """Another results folder from now on."""
    bench.results = bench.folder / name
    return bench.results


def merged(bench, *sources: Path, code: int = 0) -> dict[str, int]:
    """How often each action was taken."""
    out, _ = bench.call("merge", *map(str, sources), "--results", str(bench.results), "--json", code=code)
    actions = [item["action"] for item in json.loads(out)]
    return {action: actions.count(action) for action in actions}


def test_merging_adds_what_is_new_and_keeps_what_is_there(bench):
    mine, theirs = to(bench, "mine"), to(bench, "theirs")
    bench.run("--methods", "trades,dafa")
    bench.results = mine
    bench.run("--methods", "trades")
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    assert merged(bench, theirs) == {"added": 1, "same": 1}
    assert merged(bench, theirs) == {"same": 2}
    assert all(path.read_bytes() == content for path, content in before.items())
    out, _ = bench.call("table", "--results", str(mine))
    assert "dafa" in out
    bench.results = theirs
    assert out == bench.call("table", "--results", str(theirs))[0]
    out, _ = bench.call("merge", str(mine), "--results", str(bench.folder / "new"), "--dry-run")
    assert "2 added" in out
    assert not (bench.folder / "new").exists()


def test_merging_brings_together_attacks_that_two_people_made(bench):
    mine, theirs = to(bench, "mine"), to(bench, "theirs")
    bench.run("--methods", "trades", "--attacks", "pgd-3")
    bench.results = mine
    bench.run("--methods", "trades")
    assert merged(bench, theirs) == {"completed": 1}
    attacks = {line["attack"] for line in bench.record("trades")["evaluations"]}
    assert attacks == {"clean", "pgd-2", "pgd-3"}
    _, error = bench.run("--methods", "trades", "--attacks", "pgd-2,pgd-3")
    assert "nothing to do" in error
    out, _ = bench.call("verify", str(bench.folder_of("trades")), "--results", str(mine))
    assert "all as recorded" in out


def test_merging_tells_a_conflict_and_overwrites_nothing(bench):
    mine, theirs = to(bench, "mine"), to(bench, "theirs")
    bench.run("--methods", "trades")
    shutil.copytree(theirs, mine)
    (outcomes,) = theirs.rglob("pgd-2.*.npy")
    record = theirs / "runs" / outcomes.parents[2].name / "record.json"
    data = json.loads(record.read_text())
    del data["digest"]
    import numpy as np
    from outcome_files import write_outcomes

    from fairbench.records.outcomes import read_outcomes

    rows = read_outcomes(outcomes)
    for line in data["evaluations"]:
        if line["attack"] == "pgd-2":
            correct, label = ~rows["correct"], rows["label"]
            more = {name: ~rows[name] for name in rows.dtype.names[3:]}
            line["digest"] = write_outcomes(
                outcomes, label, np.where(correct, label, 9 - label), correct, **more
            )
            line["hits"] = np.bincount(rows["label"][~rows["correct"]], minlength=10).tolist()
    write_sealed(record, data)
    bench.results = mine
    before = bench.record("trades")
    assert merged(bench, theirs, code=1) == {"conflict": 1}
    assert bench.record("trades") == before


def test_merging_takes_no_links_and_no_runs_that_are_not_what_they_say(bench):
    mine, theirs = to(bench, "mine"), to(bench, "theirs")
    bench.run("--methods", "trades,dafa")
    (theirs / "runs" / "not-a-run").mkdir()
    os.symlink("/etc/passwd", bench.folder_of("trades") / "notes.txt")
    renamed = bench.folder_of("dafa")
    renamed.rename(renamed.with_name("dafa.digits.cnn-small.tiny.seed7.000000000000"))
    bench.results = mine
    assert merged(bench, theirs) == {"skipped": 3}
    assert not list((mine / "runs").iterdir())
    _, error = bench.call("merge", str(mine), "--results", str(mine), code=3)
    assert "into itself" in error
    _, error = bench.call("merge", str(bench.folder / "nowhere"), "--results", str(mine), code=3)
    assert "no folder of runs" in error


def test_merging_prefers_the_run_that_is_done(bench, write_plugin: Callable[..., Path]):
    mine, theirs = to(bench, "mine"), to(bench, "theirs")
    bench.run("--methods", "trades")
    bench.results = mine
    shutil.copytree(theirs, mine)
    (bench.folder_of("trades") / "record.json").unlink()
    assert merged(bench, theirs) == {"replaced": 1}
    assert bench.states("--methods", "trades") == {"trades.0": "done"}
    assert not [path for path in (mine / "runs").iterdir() if path.name.startswith(".")]


def test_logs_say_what_happened_and_retry_does_it_again(bench, write_plugin: Callable[..., Path]):
    broken = PLUGIN.replace(HOOK, f"if ctx.epoch == 2: raise KeyError('\\x1b]0;red')\n        {HOOK}")
    plugin = write_plugin(broken)
    mine = ("--registry", str(plugin), "--methods", "mine,trades")
    bench.run(*mine, code=1)
    path = bench.folder_of("mine") / "provenance.json"
    write_sealed(path, {**json.loads(path.read_text()), "command": ["\x1b]0;run"]})
    out, _ = bench.call("logs", "mine", "--results", str(bench.results))
    assert "state: failed: KeyError" in out
    assert "on cpu, " in out
    assert "epoch 1 of 2" in out
    assert "\x1b" not in out
    assert "Traceback" in bench.call("logs", "mine", "--all", "--results", str(bench.results))[0]
    results = ("--results", str(bench.results))
    _, error = bench.call("retry", *results, code=2)
    assert "nothing to retry" in error
    out, _ = bench.call("retry", "--failed", "--registry", str(plugin), *results, "--device", "cpu", code=1)
    assert "1 failed" in out
    out, error = bench.call("retry", "trades", "--registry", str(plugin), *results)
    assert "is done: nothing to retry" in error
    assert len(json.loads((bench.folder_of("mine") / "provenance.json").read_text())["earlier"]) == 1
    _, error = bench.call("logs", "nobody", *results, code=2)
    assert "there is no run" in error


def test_clean_says_what_goes_and_how_much_and_does_it_only_when_told(bench):
    bench.run("--methods", "trades,dafa")
    folder = bench.folder_of("trades")
    results = ("--results", str(bench.results))
    assert "nothing to clean" in bench.call("clean", *results)[0]
    rubbish = [
        folder / ".record.json.ab.tmp",
        folder / "checkpoints" / "resume.safetensors",
        folder / "claim",
    ]
    for path in rubbish:
        path.write_bytes(b"x" * 5000)
        os.utime(path, (0, 0))
    before = sorted(bench.results.rglob("*"))
    out, _ = bench.call("clean", *results)
    assert "3 to delete, " in out
    assert "add --yes" in out
    assert sorted(bench.results.rglob("*")) == before
    found = json.loads(bench.call("clean", *results, "--json")[0])
    assert sum(item["bytes"] for item in found) >= 15000
    out, _ = bench.call("clean", *results, "--yes")
    assert "deleted 3 of 3" in out
    assert not any(path.exists() for path in rubbish)
    out, _ = bench.call("clean", *results, "--weights", "--yes")
    assert "weights of a run that is done" in out
    assert not list(bench.results.rglob("epoch-*.safetensors"))
    assert set(bench.states("--methods", "trades,dafa").values()) == {"done"}
    # A new attack needs them: they are trained again, and what there is stays until then.
    bench.run("--methods", "trades", "--attacks", "pgd-3")
    assert {line["attack"] for line in bench.record("trades")["evaluations"]} == {"clean", "pgd-2", "pgd-3"}


def test_clean_leaves_those_at_work_alone(bench):
    bench.run("--methods", "trades")
    folder = bench.folder_of("trades")
    claim = json.dumps({"token": "t", "pid": os.getppid(), "host": "elsewhere", "machine": "other"})
    (folder / "claim").write_text(claim)
    (folder / "record.json").unlink()
    results = ("--results", str(bench.results))
    assert "nothing to clean" in bench.call("clean", *results, "--unfinished", "--yes")[0]
    (run,) = json.loads(bench.call("status", *results, "--json")[0])["runs"]
    assert (run["state"], run["worker"]) == ("running", f"elsewhere:{os.getppid()}")
    os.utime(folder / "claim", (time.time() - 300,) * 2)
    assert json.loads(bench.call("status", *results, "--json")[0])["runs"][0]["state"] == "partial"


def test_a_budget_pays_for_whole_seeds_first_and_says_what_it_left(bench):
    chosen = ("--methods", "trades,dafa", "--seeds", "0..2")
    whole = bench.plan(*chosen)
    price = max(item["estimated_seconds"] for item in whole)
    assert all(item["in_budget"] and item["estimated_bytes"] > 0 for item in whole)
    bench.run("--methods", "trades,dafa", "--seeds", "0")  # now there is a pace
    told = bench.plan(*chosen, "--budget", f"{max(price, 1) * 2.5:.0f}s", "--devices", "2")
    assert [item["in_budget"] for item in told if item["state"] == "done"] == [True, True]
    out, _ = bench.call(*bench.arguments("plan", *chosen, "--budget", "0.000001s"))
    assert "0 of 4 cells fit" in out
    assert "left out: 2 x trades, 2 x dafa" in out
    _, error = bench.run(*chosen, "--budget", "0.000001s")
    assert "nothing to do" in error
    assert list(bench.states(*chosen).values()).count("missing") == 4
    for wrong in ("soon", "0h", "-3h", "12"):
        _, error = bench.run("--budget", wrong, code=2)
        assert "is not a duration" in error


def test_measured_steps_make_an_estimate(bench):
    out, error = bench.call(*bench.arguments("plan", "--measure", "--device", "cpu"))
    assert "measured trades digits cnn-small" in error
    assert all(item["measured"] for item in bench.plan("--device", "cpu"))
    assert bench.call(*bench.arguments("plan", "--measure", "--device", "cpu"))[1] == ""
    assert "disk: about" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--executor", "sulrm"), "did you mean: slurm"),
        (("--executor", "inline", "--pack", "2"), "--pack cannot be used with the executor inline"),
        (("--executor", "slurm", "--gpus", "0"), "--gpus cannot be used with the executor slurm"),
        (("--gpus", "a"), "does not name GPUs"),
        (("--executor", "nowhere.py:execute"), "cannot be loaded"),
        (("--profile", "nowhere.yaml"), "cannot read"),
        (("--time-limit", "long"), "is not a duration"),
    ],
)
def test_what_an_executor_cannot_do_is_said_before_anything_runs(bench, options, said):
    _, error = bench.run(*options, code=2)
    assert said in error
    assert "cells:" not in error
    assert not bench.results.exists()


def test_an_executor_of_ones_own_is_a_function_in_a_file(bench):
    file = bench.folder / "mine.py"
    file.write_text(
        "from fairbench.runner.executors.inline import execute as inline\n"
        "def execute(job, told):\n"
        "    told.note(f'{len(job.planned)} cells for me')\n"
        "    return inline(job, told)\n"
    )
    _, error = bench.run("--executor", f"{file}:execute", "--device", "cpu")
    assert "2 cells for me" in error
    assert set(bench.states().values()) == {"done"}
