"""plan, run, plan, run, table."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

PLUGIN_CODE = "target = losses.kl_to_clean(model, batch.x)"


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_plan_becomes_records_and_tables_and_a_second_run_redoes_nothing(bench):
    assert bench.states() == {"trades.0": "missing", "dafa.0": "missing"}
    assert not bench.results.exists()
    out, error = bench.run()
    assert bench.states() == {"trades.0": "done", "dafa.0": "done"}
    assert "2 missing" in error
    assert "trades" in out
    assert "dafa" in out
    before = snapshot(bench.results)
    again, error = bench.run()
    assert again == out
    assert "nothing to do" in error
    assert snapshot(bench.results) == before
    for format in ("text", "markdown", "latex", "csv"):
        table, _ = bench.call("table", "--results", str(bench.results), "--format", format)
        assert "DAFA" in table or "dafa" in table
        if format == "csv":
            assert len(list(csv.reader(io.StringIO(table)))) >= 3
    status, _ = bench.call("status", "--results", str(bench.results), "--json")
    assert [(run["state"], run["epoch"]) for run in json.loads(status)["runs"]] == [("done", 2)] * 2


def test_all_methods_under_one_seed_see_the_same_images_and_the_record_says_so(bench):
    bench.run("--methods", "trades,dafa,trix", "--seeds", "0,1")
    streams = {
        (method, seed): [
            json.loads(line)["stream"]
            for line in (bench.folder_of(method, seed) / "epochs.jsonl").read_text().splitlines()
        ]
        for method in ("trades", "dafa", "trix")
        for seed in (0, 1)
    }
    assert streams["trades", 0] == streams["dafa", 0] == streams["trix", 0]
    assert streams["trades", 1] == streams["dafa", 1] == streams["trix", 1]
    assert len({*streams["trades", 0], *streams["trades", 1]}) == 4


def test_the_baseline_of_the_fairness_score_is_added_and_said_so(bench):
    _, error = bench.run("--methods", "dafa")
    assert "trades was added" in error
    assert bench.states("--methods", "dafa") == {"trades.0": "done", "dafa.0": "done"}


def test_a_new_attack_evaluates_without_training_and_keeps_the_earlier_one(bench):
    bench.run("--methods", "trades")
    folder = bench.folder_of("trades")
    curve = snapshot(folder)["epochs.jsonl"]
    assert bench.states("--methods", "trades", "--attacks", "pgd-3") == {"trades.0": "partial"}
    _, error = bench.run("--methods", "trades", "--attacks", "pgd-3")
    assert "1 partial" in error
    assert snapshot(folder)["epochs.jsonl"] == curve
    attacks = [item["attack"] for item in bench.record("trades")["evaluations"]]
    assert sorted(attacks) == ["clean", "pgd-2", "pgd-3"]
    assert bench.states("--methods", "trades") == {"trades.0": "done"}
    provenance = json.loads((folder / "provenance.json").read_text())
    assert len(provenance["earlier"]) == 1  # the training's own is still there


def test_provenance_names_versions_device_code_and_data(bench):
    bench.run("--methods", "trades")
    found = json.loads((bench.folder_of("trades") / "provenance.json").read_text())
    assert found["versions"]["torch"]
    assert found["device"]["type"] in ("cpu", "cuda")
    assert len(found["plugin_source"]) == len(found["data_digest"]) == 64
    assert found["earlier"] == []


def test_evaluating_a_checkpoint_of_a_run_gives_the_outcomes_of_its_record(bench):
    bench.run("--methods", "trades", "--device", "cpu")
    folder = bench.folder_of("trades")
    checkpoint = folder / "checkpoints" / "epoch-0002.safetensors"
    options = ["--model", "cnn-small", "--dataset", "digits", "--attacks", "pgd-2", "--per-class", "5"]
    arguments = bench.arguments("evaluate", str(checkpoint), *options, "--device", "cpu", "--json")
    found = json.loads(bench.call(*arguments)[0])
    for name, pattern in (("clean", "clean.npy"), ("pgd-2", "pgd-2.*.npy")):
        (mine,) = (folder / "outcomes" / "epoch-0002").glob(pattern)
        (other,) = Path(found["folder"]).glob(pattern)
        assert np.array_equal(np.load(mine), np.load(other))
        assert found["attacks"][name]["average"] == np.load(mine)["correct"].mean()


def test_a_changed_plugin_makes_its_runs_stale_and_a_changed_comment_does_not(bench, write_plugin: Callable):
    plugin = write_plugin()
    mine = ("--registry", str(plugin), "--methods", "mine,trades")
    bench.run(*mine)
    text = plugin.read_text()
    plugin.write_text(text.replace(PLUGIN_CODE, f"# the same\n        {PLUGIN_CODE}"))
    assert bench.states(*mine)["mine.0"] == "done"
    plugin.write_text(text.replace(PLUGIN_CODE, PLUGIN_CODE.replace("batch.x", "batch.x * 1.0")))
    (item,) = (item for item in bench.plan(*mine) if item["method"] == "mine")
    assert (item["state"], item["reason"]) == ("stale", "method changed since")
    old = bench.folder_of("mine")
    (old / "record.json").unlink()
    _, error = bench.call("cell", *mine[:2], str(old), code=1)
    assert "changed since this cell was planned" in error  # never new code under an old id


def test_a_broken_plugin_is_one_line_and_the_rest_works(bench, write_plugin: Callable):
    plugin = write_plugin("def broken(:\n")
    out, error = bench.call(*bench.arguments("plan", "--registry", str(plugin)))
    (line,) = error.splitlines()
    assert line.startswith("warning: method 'mine' cannot be used")
    assert "trades" in out


def test_a_plugin_that_raises_fails_alone_and_is_tried_again(bench, write_plugin: Callable):
    text = write_plugin().read_text()
    raising = 'if ctx.epoch == 2:\n            raise ZeroDivisionError("in the middle")\n        '
    plugin = write_plugin(text.replace(PLUGIN_CODE, raising + PLUGIN_CODE))
    mine = ("--registry", str(plugin), "--methods", "mine,trades")
    _, error = bench.run(*mine, code=1)
    assert "ZeroDivisionError: in the middle" in error
    assert bench.states(*mine) == {"mine.0": "failed", "trades.0": "done"}
    assert bench.record("mine")["state"] == "failed"
    assert "ZeroDivisionError" in (bench.folder_of("mine") / "error.txt").read_text()
    finished = bench.record("mine")["finished"], snapshot(bench.folder_of("trades"))
    bench.run(*mine, code=1)
    assert (bench.folder_of("mine") / "provenance.json").read_text().count('"started"') == 2  # tried again
    assert snapshot(bench.folder_of("trades")) == finished[1]


def test_a_diverged_cell_ends_with_its_epoch_and_is_not_redone(bench):
    lr = ("--set", "protocol.optimizer.lr=1000000")
    _, _error = bench.run(*lr, code=1)
    assert bench.states(*lr) == {"trades.0": "diverged", "dafa.0": "diverged"}  # the plan went on
    record = bench.record("trades")
    assert record["epoch"] in (1, 2)
    assert f"epoch {record['epoch']}" in record["reason"]
    before = snapshot(bench.results)
    bench.run(*lr, code=1)
    assert snapshot(bench.results) == before


def test_a_resumed_run_is_told_where_the_data_lie_now(bench):
    bench.run("--methods", "trades")
    (bench.folder_of("trades") / "record.json").unlink()
    bench.run("--methods", "trades", "--data", str(bench.folder / "moved"))
    cell = json.loads((bench.folder_of("trades") / "cell.json").read_text())
    assert cell["locations"]["data_root"] == str(bench.folder / "moved")


def test_doctor_reports_the_data_and_the_methods(bench):
    out, _ = bench.call(*bench.arguments("doctor", "--json"))
    found = {item["what"]: item["state"] for item in json.loads(out)}
    assert found["data digits"] == found["methods"] == found["torch"] == "ok"
    assert found["data cifar10"] == "absent"


def test_json_on_standard_output_can_be_parsed(bench):
    ran = json.loads(bench.run("--methods", "trades", "--json")[0])
    assert [item["state"] for item in ran] == ["done"]
    listed = json.loads(bench.call("list", "--json")[0])
    assert "trix" in listed["methods"]


@pytest.mark.slow
def test_cells_that_are_packed_end_as_they_would_alone(bench, tmp_path):
    options = ("--methods", "trades,dafa,frl", "--device", "cpu")
    bench.run(*options)
    alone = {path.name: outcomes(path) for path in (bench.results / "runs").iterdir()}
    bench.results = tmp_path / "packed"
    bench.run(*options, "--pack", "3")
    packed = {path.name: outcomes(path) for path in (bench.results / "runs").iterdir()}
    assert alone == packed
    assert len(packed) == 4  # frl's start holds images out, so it is not the baseline


def outcomes(folder):
    """What a finished cell found."""
    record = json.loads((folder / "record.json").read_text())
    weights = {path.name: path.read_bytes() for path in (folder / "checkpoints").glob("epoch-*")}
    found = {item["file"]: (item["digest"], item["hits"]) for item in record["evaluations"]}
    return {"state": record["state"], **found, **weights}
