"""A user's mistake is a message: what, where, what was expected, what to type; an exit code; nothing lost."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fairbench.core.files import write_sealed
from fairbench.models import build_model


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--methods", "trixx"),
            ("no method called 'trixx'", "did you mean: trix", "fairbench list methods"),
        ),
        (("--datasets", "digit"), ("no dataset called 'digit'", "did you mean: digits", "--datasets digit")),
        (("--models", "resnet81"), ("no model called 'resnet81'", "did you mean: resnet18")),
        (("--protocol", "trix-15"), ("no protocol called 'trix-15'", "did you mean: trix-150")),
        (("--attacks", "pgd-200"), ("no attack called 'pgd-200'", "did you mean: pgd-20")),
        (("--suite", "quick"), ("no suite called 'quick'", "fairbench list suites")),
        (("--methods", ","), ("--methods is empty",)),
        (("--seeds", "a..b"), ("--seeds 'a..b'", "write 0..4")),
        (("--seeds", "4..0"), ("smaller end first",)),
        (("--seeds", "-1"), ("--seeds '-1'",)),
        (("--seeds", "0..99999999"), ("at most 1000 seeds",)),
        (("--seeds", ""), ("--seeds ''",)),
        (("--epochs", "0"), ("--epochs", "x>=1")),
        (("--batch-size", "1"), ("--batch-size", "x>=2")),
        (("--device", "tpu"), ("--device", "'auto', 'cpu', 'cuda'")),
        (("--averaging", "foo"), ("--averaging foo: expected 'ema', 'fawa' or 'swa'", "--averaging ema")),
        (("--augment", "cutuot"), ("--augment cutuot: expected", "--augment cutout")),
        (("--awp", "much"), ("--awp much: expected a number", "--awp 0.005")),
        (("--set", "protocol.epochs=0"), ("at least 1",)),
        (("--set", "protocol.epochs=many"), ("whole number", "'many'")),
        (("--set", "protocol.threat.eps=8"), ("eps", "8/255")),
        (("--set", "protocol.threat.eps=-0.1"), ("eps",)),
        (("--set", "protocol.thread.eps=0.1"), ("thread",)),
        (("--set", "protocol.optimizer.lr=fast"), ("protocol.optimizer.lr", "'fast'")),
        (("--set", "protocol.evaluation=pgd-2"), ("evaluation",)),
        (("--set", "protocol"), ("is not an override", "methods.trix.strength=1.5")),
        (("--set", "models.resnet18.mflops=1"), ("only methods.NAME.OPTION and protocol.OPTION",)),
        (("--set", "methods.trix.stength=1.5"), ("no option 'stength'", "did you mean: strength")),
        (("--set", "methods.trix.strength=much"), ("methods.trix.strength", "a number")),
        (("--set", "methods.trixx.strength=1"), ("no method called 'trixx'",)),
        (("--set", "methods.trix.strength=!!python/object:os.system {}"), ("methods.trix.strength",)),
        (("--registry", "nowhere.yaml"), ("nowhere.yaml",)),
        (("--registry", "/"), ("/",)),
        (("--no-such-option",), ("--no-such-option",)),
    ],
)
def test_a_wrong_selection_is_exit_code_2_and_says_what_is_wrong(bench, arguments, said):
    for command in ("plan", "run"):
        _, error = bench.call(*bench.arguments(command, *arguments), code=2)
        for text in said:
            assert text in error
    assert not bench.results.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\nmethods: !!python/object/apply:os.system [ls]\n", "python/object"),
        (
            "version: 1\nmodels:\n  a: {target: 'm:f', mflops: 1}\n  a: {target: 'm:f', mflops: 1}\n",
            "mine.yaml:4",
        ),
        ("version: 1\nprotocols:\n  p: {extends: trix-150, epochs: ten}\n", "mine.yaml:3"),
        ("version: 1\nprotocols:\n  p: {extends: trix-150, epoch: 10}\n", "epoch"),
        ("version: 1\nprotocols:\n  p: {extends: trix-150, threat: {eps: 8}}\n", "8/255"),
        (
            "version: 1\nattacks:\n  a: {kind: pgd, version: 1, eps: -0.1, step_size: 0.1, num_steps: 1}\n",
            "eps",
        ),
        ("version: 1\nmethods:\n  trades: {title: mine, target: 'my:Own'}\n", "already"),
        ("version: 1\nmethods:\n  dafa: {config: {stength: 1.0}}\n", "mine.yaml:3"),
        ("[1, 2", "mine.yaml"),
    ],
)
def test_a_wrong_registry_file_is_exit_code_2_with_file_and_line(bench, text, said):
    path = bench.folder / "mine.yaml"
    path.write_text(text)
    _, error = bench.call(*bench.arguments("plan", "--registry", str(path)), code=2)
    assert "mine.yaml" in error
    assert said in error


def test_an_unknown_command_suggests_one(bench):
    _, error = bench.call("rum", code=2)
    assert "No command called 'rum'. Did you mean 'run'?" in error


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_results_that_cannot_be_written_are_exit_code_3(bench, place):
    (bench.folder / "file").write_text("not a folder")
    bench.results = bench.folder / place
    _, error = bench.run(code=3)
    assert "ResultsError: cannot create the folder" in error
    assert "--results DIR" in error
    assert (bench.folder / "file").read_text() == "not a folder"
    bench.call("table", "--results", str(bench.results), code=3 if place == "file" else 2)


def test_missing_data_is_exit_code_3_and_says_what_to_type(bench):
    _, error = bench.run("--datasets", "cifar10", code=3)
    assert "DataMissingError: cifar10 is not prepared" in error
    assert "fairbench prepare cifar10" in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has one")
def test_a_missing_device_is_exit_code_3_and_fails_no_cell(bench):
    _, error = bench.run("--device", "cuda", code=3)
    assert "EnvironmentFault: no CUDA device" in error
    assert "failed" not in bench.states().values()


def test_a_table_of_nothing_says_how_to_start(bench):
    _, error = bench.call("table", "--results", str(bench.results), code=2)
    assert "start with: fairbench run" in error
    out, _ = bench.call("status", "--results", str(bench.results))
    assert "start with: fairbench run" in out


def test_a_cell_changed_by_hand_is_refused_and_a_run_puts_it_right(bench):
    bench.run("--methods", "trades")
    folder = bench.folder_of("trades")
    (folder / "record.json").unlink()
    cell = json.loads((folder / "cell.json").read_text())
    cell["identity"]["protocol"]["epochs"] = 3
    changed = json.dumps(cell)
    (folder / "cell.json").write_text(changed)
    _, error = bench.call("cell", str(folder), code=2)
    assert "does not match its digest" in error
    write_sealed(folder / "cell.json", cell)
    _, error = bench.call("cell", str(folder), code=2)
    assert "changed by hand" in error
    assert "--set" in error
    (item,) = [item for item in bench.plan() if item["method"] == "trades"]
    assert (item["state"], "changed by hand" in item["reason"]) == ("failed", True)
    bench.run()
    assert set(bench.states().values()) == {"done"}
    assert json.loads((folder / "cell.json").read_text())["identity"]["protocol"]["epochs"] == 2
    assert json.loads((folder / "cell.json.damaged").read_text())["identity"] == cell["identity"]
    (folder / "cell.json").write_text(changed[:100])
    _, error = bench.call("cell", str(folder), code=2)
    assert "not valid JSON" in error
    _, error = bench.call("cell", str(bench.folder / "nowhere"), code=2)
    assert "cell.json" in error


def test_a_truncated_record_is_seen_and_made_again_without_training(bench):
    bench.run("--methods", "trades")
    folder = bench.folder_of("trades")
    whole, curve = bench.record("trades"), (folder / "epochs.jsonl").stat().st_mtime_ns
    (folder / "record.json").write_text((folder / "record.json").read_text()[:60])
    (item,) = bench.plan("--methods", "trades")
    assert item["state"] == "failed"
    assert "not valid JSON" in item["reason"]
    _, error = bench.call("status", "--results", str(bench.results))
    assert "record.json is not valid JSON" in error
    bench.run("--methods", "trades")
    assert bench.record("trades")["evaluations"] == whole["evaluations"]
    assert (folder / "epochs.jsonl").stat().st_mtime_ns == curve


def test_a_truncated_training_state_is_a_message_not_a_crash(bench, write_plugin: Callable[..., Path]):
    text = write_plugin().read_text()
    hook = "target = losses.kl_to_clean"
    plugin = write_plugin(text.replace(hook, f"if ctx.epoch == 2:\n            1 / 0\n        {hook}"))
    mine = ("--registry", str(plugin), "--methods", "mine,trades")
    bench.run(*mine, code=1)
    state = bench.folder_of("mine") / "checkpoints" / "resume.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    bench.run(*mine, code=1)
    assert "cannot read the checkpoint" in (bench.folder_of("mine") / "worker.log").read_text()
    assert "ZeroDivisionError" in bench.record("mine")["reason"]


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return build_model("fairbench.models.cnn:cnn_small", 10, (1, 8, 8), seed=0).state_dict()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda w, p: torch.save(w, p), None),
        (
            lambda w, p: torch.save({"state_dict": {f"module.{k}": v for k, v in w.items()}, "epoch": 3}, p),
            None,
        ),
        (lambda w, p: (torch.save(w, p), p.write_bytes(p.read_bytes()[:5000])), "cannot be read"),
        (lambda w, p: p.write_bytes(b""), "cannot be read"),
        (lambda w, p: p.write_text("hello"), "cannot be read"),
        (lambda w, p: torch.save({"a": 1}, p), "does not contain a state dict"),
        (lambda w, p: torch.save({**w, "path": Path("x")}, p), "not loaded"),
        (lambda w, p: torch.save({"layer": torch.ones(3)}, p), "another architecture"),
        (lambda w, p: torch.save({**w, "fc.weight": torch.ones(7, w["fc.weight"].shape[1])}, p), "fc.weight"),
        (lambda w, p: torch.save({**w, "fc.bias": w["fc.bias"] * torch.nan}, p), "not finite"),
        (lambda w, p: None, "there is no checkpoint"),
    ],
)
def test_a_checkpoint_is_evaluated_or_refused_with_the_reason(bench, weights, make, said):
    path = bench.folder / "some.pt"
    make(weights, path)
    options = ["--model", "cnn-small", "--dataset", "digits", "--attacks", "pgd-2", "--per-class", "1"]
    arguments = bench.arguments("evaluate", str(path), *options, "--device", "cpu")
    out, error = bench.call(*arguments, code=2 if said else 0)
    assert (said or "") in error
    if said is None:
        assert "worst class" in out


@pytest.mark.parametrize(
    ("eps", "said"), [("8", "8/255"), ("-1/255", "eps"), ("much", "eps"), ("1/0", "eps")]
)
def test_a_radius_outside_of_the_pixels_is_refused(bench, weights, eps, said):
    path = bench.folder / "some.pt"
    torch.save(weights, path)
    options = ["--model", "cnn-small", "--dataset", "digits", "--attacks", "pgd-2", f"--eps={eps}"]
    _, error = bench.call(*bench.arguments("evaluate", str(path), *options), code=2)
    assert said in error
    assert "--eps" in error


def test_an_option_that_the_method_refuses_stops_before_anything_runs(bench):
    _, error = bench.run("--methods", "frl", "--set", "methods.frl.limit=2", code=2)
    assert "ConfigError: method 'frl' refuses its options: limit=2" in error
    assert "cells:" not in error
    assert not bench.results.exists()
