"""The options of `fairbench evaluate`."""

import importlib.util
import json

import pytest
import torch

from fairbench.cli.main import main
from fairbench.models import build_model


@pytest.fixture
def evaluate(tmp_path, capsys, monkeypatch):
    """`fairbench evaluate` of a small network on one digit per class: what it prints."""
    monkeypatch.delenv("FAIRBENCH_REGISTRY", raising=False)
    weights = build_model("fairbench.models.cnn:cnn_small", 10, (1, 8, 8), seed=0).state_dict()
    torch.save(weights, tmp_path / "w.pt")

    def call(
        *extra: str, code: int = 0, model: str = "cnn-small", dataset: str = "digits"
    ) -> tuple[str, str]:
        options = ["--model", model, "--dataset", dataset, "--attacks", "pgd-20", "--per-class", "1"]
        places = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", str(tmp_path / "w.pt"), *options, *places, "--device", "cpu", *extra])
        out, error = capsys.readouterr()
        assert (ended.value.code or 0) == code, out + error
        return out, error

    return call


@pytest.mark.parametrize("eps", ["0.05", "12.75/255", " 5e-2 "])
def test_a_radius_may_be_a_number_or_a_fraction(evaluate, tmp_path, eps):
    evaluate("--eps", eps)
    evaluate("--eps", "0.05")
    assert len(list((tmp_path / "results").rglob("pgd-20.*.npy"))) == 1  # the same attack


def test_a_larger_radius_and_another_seed_are_other_attacks(evaluate, tmp_path):
    small, large = (json.loads(evaluate("--json", "--eps", eps)[0]) for eps in ("0", "1/2"))
    assert small["attacks"]["pgd-20"]["classes"] == small["attacks"]["clean"]["classes"]
    assert large["attacks"]["pgd-20"]["average"] <= small["attacks"]["clean"]["average"]
    evaluate("--eps", "0", "--seed", "3")
    assert len(list((tmp_path / "results").rglob("pgd-20.*.npy"))) == 3


@pytest.mark.parametrize(
    ("eps", "said"),
    [
        ("8", "--eps 8: eps is in units of [0, 1]; 8 looks like 8/255: write 8/255."),
        ("-0.1", "--eps -0.1: expected a number of at least 0, got -0.1."),
        ("abc", "--eps abc: expected a number, or a fraction such as 8/255, got 'abc'."),
        ("1/0", "--eps 1/0: expected a number, or a fraction such as 8/255, got '1/0'."),
        ("", "expected a number, or a fraction such as 8/255, got null."),
        (".nan", "expected a finite number"),
    ],
)
def test_a_wrong_radius_is_exit_code_2_and_says_what_was_expected(evaluate, eps, said):
    _, error = evaluate(f"--eps={eps}", code=2)
    assert said in error
    assert "write for instance --eps 8/255" in error


def test_the_zoos_data_sets_are_named(evaluate):
    _, error = evaluate(model="robustbench:Wong2020Fast", code=2)
    assert "no models for the data set 'digits'" in error


def test_a_zoo_model_without_robustbench_is_exit_code_3(evaluate, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "robustbench" else find(name)
    )
    _, error = evaluate(model="robustbench:Wong2020Fast", dataset="cifar10", code=3)
    assert "pip install 'fairbench-at[robustbench]'" in error


@pytest.mark.skipif(
    importlib.util.find_spec("robustbench") is None, reason="the extra robustbench is not installed"
)
def test_an_unknown_zoo_model_is_exit_code_2_before_any_data_are_read(evaluate):
    _, error = evaluate(model="robustbench:Wong2020Fats", dataset="cifar10", code=2)
    assert "did you mean: Wong2020Fast" in error


def test_the_weights_are_chosen_and_said(evaluate, tmp_path):
    weights = torch.load(tmp_path / "w.pt")
    torch.save({"model": weights, "model_ema": {k: v * 0 for k, v in weights.items()}}, tmp_path / "w.pt")
    said = "note: weights: {} of w.pt; other weights in it: {} (name the ones you want: --key KEY)"
    assert said.format("model", "model_ema") in evaluate()[0]
    out, _ = evaluate("--key", "model_ema")
    assert said.format("model_ema", "model") in out
    assert "warning: clean: the mean accuracy of the 10 classes is 10.0 %, at chance" in out
    assert "10 of 10 predictions are the class 0" in out
    assert len(list((tmp_path / "results" / "evaluations").iterdir())) == 2
    _, error = evaluate("--key", "none", code=2)
    assert "these fit: model, model_ema" in error


def test_a_normalisation_is_applied_and_is_another_model(evaluate, tmp_path):
    plain, same, other = (
        json.loads(evaluate("--json", *more)[0])
        for more in ((), ("--normalize", "none"), ("--normalize", "0.3/0.15"))
    )
    assert plain["attacks"]["clean"]["classes"] == same["attacks"]["clean"]["classes"]
    assert len({found["folder"] for found in (plain, same, other)}) == 3
    assert other["notes"] == ["images are normalised: mean (0.3,), deviation (0.15,)"]
    _, outside = evaluate("--normalize", "cifar10", code=2)
    assert "3 means and 3 standard deviations for images with 1 channels" in outside


def test_a_key_without_a_checkpoint_is_refused(evaluate, tmp_path, capsys):
    file = tmp_path / "net.py"
    file.write_text(
        "from fairbench.models.cnn import cnn_small\n\n\ndef build(c, s):\n    return cnn_small(c, s)\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--model", f"{file}:build", "--dataset", "digits", "--key", "ema"])
    assert ended.value.code == 2
    assert "--key ema chooses weights in a checkpoint, and none is given" in capsys.readouterr().err
