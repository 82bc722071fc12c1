"""`fairbench evaluate --model FILE.py:function`: a model that a Python file builds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fairbench.cli.main import main
from fairbench.data.images import load_images
from fairbench.models import build_model

NETWORK = """
import torch


def build(num_classes, image_shape):
    linear = torch.nn.Linear(image_shape[1] * image_shape[2], num_classes)
    with torch.no_grad():
        linear.weight.mul_(9)
    return torch.nn.Sequential(torch.nn.Flatten(), linear)
"""


@pytest.fixture
def evaluate(tmp_path, capsys, monkeypatch):
    """`fairbench evaluate` on one digit per class: its JSON answer, or its error."""
    monkeypatch.delenv("FAIRBENCH_REGISTRY", raising=False)

    def call(*arguments, code=0):
        options = ["--dataset", "digits", "--attacks", "pgd-20", "--per-class", "1", "--device", "cpu"]
        places = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results"), "--json"]
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", *map(str, arguments), *options, *places])
        out, error = capsys.readouterr()
        assert (ended.value.code or 0) == code, out + error
        assert "Traceback" not in error
        return error if code else json.loads(out)

    return call


@pytest.fixture
def network(tmp_path):
    """A model file with this content."""

    def write(text=NETWORK):
        path = tmp_path / "net.py"
        path.write_text(text)
        return path

    return write


def predictions(found):
    (attacked,) = Path(found["folder"]).glob("pgd-20.*.npy")
    return [np.load(path)["prediction"].tolist() for path in (Path(found["folder"]) / "clean.npy", attacked)]


def test_without_a_checkpoint_the_model_is_taken_as_built(evaluate, network, tmp_path):
    target = f"{network()}:build"
    built = build_model(target, 10, (1, 8, 8), seed=0)
    torch.save(built.state_dict(), tmp_path / "w.pt")
    own = evaluate("--model", target)
    assert Path(own["folder"]).name.startswith("net.")
    assert predictions(own) == predictions(evaluate(tmp_path / "w.pt", "--model", target))
    digits = load_images("digits", "test", root=tmp_path, reader="digits", subset_per_class=1)
    assert predictions(own)[0] == built(digits.images / 255).argmax(1).tolist()
    assert len(set(predictions(own)[0])) > 1


def test_a_checkpoint_replaces_the_weights_of_the_file(evaluate, network, tmp_path):
    turned = NETWORK.replace("mul_(9)", "mul_(-9)")
    torch.save(build_model(f"{network(turned)}:build", 10, (1, 8, 8), seed=0).state_dict(), tmp_path / "w.pt")
    wanted = predictions(evaluate("--model", f"{network(turned)}:build"))
    assert predictions(evaluate(tmp_path / "w.pt", "--model", f"{network()}:build")) == wanted
    assert predictions(evaluate("--model", f"{network()}:build")) != wanted


def test_the_same_model_is_evaluated_once_and_other_weights_or_code_are_another(evaluate, network):
    first = evaluate("--model", f"{network()}:build")["folder"]
    file = next(Path(first).glob("pgd-20.*.npy"))
    written = file.stat().st_mtime_ns
    assert evaluate("--model", f"{network()}:build")["folder"] == first
    assert file.stat().st_mtime_ns == written
    others = (NETWORK.replace("mul_(9)", "mul_(8)"), NETWORK + "# changed\n")
    assert len({first, *(evaluate("--model", f"{network(text)}:build")["folder"] for text in others)}) == 3
    assert evaluate("--model", f"{network()}:build")["folder"] == first


def test_weights_of_the_environment_count_although_the_file_is_the_same(evaluate, network, monkeypatch):
    path = network(
        NETWORK.replace("mul_(9)", "mul_(float(os.environ['SCALE']))").replace("\nimport", "\nimport os, ", 1)
    )
    folders = set()
    for scale in ("1", "2", "1"):
        monkeypatch.setenv("SCALE", scale)
        folders.add(evaluate("--model", f"{path}:build")["folder"])
    assert len(folders) == 2


BUILD = "def build(num_classes, image_shape):\n    "


@pytest.mark.parametrize(
    ("text", "function", "said"),
    [
        (NETWORK, "", "names no function of the file"),
        (NETWORK, ":", "names no function of the file"),
        (NETWORK, ":built", "has no 'built'"),
        (
            "def build(:\n",
            ":build",
            "does not build a model for 10 classes and images (1, 8, 8): SyntaxError",
        ),
        ("import nothing_like_it\n", ":build", "No module named 'nothing_like_it'"),
        (BUILD + "raise KeyError('layer')\n", ":build", "KeyError: 'layer'"),
        (BUILD + "return 3\n", ":build", "returned int, not a torch.nn.Module"),
        ("build = 3\n", ":build", "not a function"),
        ("def build():\n    pass\n", ":build", "TypeError"),
    ],
)
def test_a_file_that_builds_no_model_is_one_message_and_exit_code_2(evaluate, network, text, function, said):
    error = evaluate("--model", f"{network(text)}{function}", code=2)
    assert said in error
    assert "(num_classes, image_shape) -> torch.nn.Module" in error


def test_a_missing_file_is_one_message(evaluate, tmp_path):
    assert "there is no file" in evaluate("--model", f"{tmp_path / 'none.py'}:build", code=2)


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("Softmax(1)", "outputs are probabilities"),
        ("Linear(10, 3)", "(2, 3), not one logit for each of 10 classes"),
        ("Linear(3, 10)", "the model fails on images (1, 8, 8): RuntimeError"),
        ("LSTM(10, 10)", "are tuple, not one logit for each"),
        ("Unflatten(1, (2, 5))", "are (2, 2, 5)"),
    ],
)
def test_a_model_that_attacks_cannot_judge_is_refused(evaluate, network, last, said):
    path = network(NETWORK.replace("linear)\n", f"linear, torch.nn.{last})\n"))
    assert said in evaluate("--model", f"{path}:build", code=2)


@pytest.mark.parametrize("model", ["cnn-small", "robustbench:Wong2020Fast"])
def test_an_architecture_without_weights_is_refused(evaluate, model):
    error = evaluate("--model", model, code=2)
    assert f"--models {model} is an architecture without weights" in error
    assert "FILE.py:FUNCTION" in error


def test_a_folder_is_no_checkpoint_of_a_registered_model(evaluate, tmp_path):
    error = evaluate(tmp_path, "--model", "cnn-small", code=2)
    assert "there is no checkpoint" in error
    assert "it is a folder" in error
