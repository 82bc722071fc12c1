"""A run's model goes out, comes back as a foreign one, and gives the same verdict on every image."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

EVALUATE = ["--dataset", "digits", "--attacks", "pgd-2", "--per-class", "5", "--device", "cpu"]
KEYS = [
    *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue"),
    *("architecture", "eps", "clean_acc", "reported", "autoattack_acc"),
]


@pytest.fixture
def export(bench):
    """`fairbench export` of a trained run: its JSON answer."""

    def call(*arguments, code=0):
        places = ["--results", str(bench.results), "--registry", str(bench.registry)]
        out, error = bench.call("export", *places, "--json", *map(str, arguments), code=code)
        return error if code else json.loads(out)

    return call


def evaluate(bench, *arguments):
    found = bench.call(*bench.arguments("evaluate", *map(str, arguments), *EVALUATE, "--json"))[0]
    return Path(json.loads(found)["folder"])


def rows(folder, attack):
    (file,) = (path for path in folder.glob("*.npy") if path.name.split(".")[0] == attack)
    return np.load(file)


def assert_same_verdicts(bench, found, epoch):
    """The exported model and the record agree on every image, clean and attacked."""
    mine = evaluate(bench, found["weights"], "--model", f"{found['builder']}:build")
    record = bench.folder_of("trades") / "outcomes" / f"epoch-{epoch:04d}"
    for attack in ("clean", "pgd-2"):
        assert np.array_equal(rows(mine, attack), rows(record, attack))


def percent(outcomes):
    return f"{100 * outcomes['correct'].mean():.2f}"


def test_an_exported_model_gives_the_records_verdict_on_every_image(bench, export):
    bench.run("--methods", "trades", "--set", "protocol.selection.last=2", "--device", "cpu")
    run = bench.folder_of("trades")
    name = "Zhang2019Theoretically_CNN-small"
    robustbench = export(run, "--to", "robustbench", "-o", bench.folder / "out")
    tensors = export("trades.digits", "--to", "safetensors", "--epoch", "1")

    assert Path(robustbench["weights"]) == bench.folder / "out" / "digits" / "Linf" / f"{name}.pt"
    held = torch.load(robustbench["weights"], weights_only=True)
    stored = load_file(run / "checkpoints" / "epoch-0002.safetensors")
    assert held.keys() == stored.keys()
    assert all(torch.equal(held[key], stored[key]) for key in held)
    assert tensors["weights"] == str(
        bench.results / "exports" / f"{run.name}.epoch-0001" / "model.safetensors"
    )
    assert_same_verdicts(bench, robustbench, 2)
    assert_same_verdicts(bench, tensors, 1)

    for found, epoch in ((robustbench, 2), (tensors, 1)):
        info = json.loads(Path(found["info"]).read_text())
        assert list(info) == KEYS
        assert Path(found["info"]).parts[-4:] == ("model_info", "digits", "Linf", f"{name}.json")
        outcomes = run / "outcomes" / f"epoch-{epoch:04d}"
        assert info["clean_acc"] == percent(rows(outcomes, "clean"))
        assert info["reported"] == percent(rows(outcomes, "pgd-2"))
        assert info["autoattack_acc"] is None
        assert any("autoattack_acc is null" in note for note in found["notes"])
        assert any("subset" in note for note in found["notes"])
    assert info["link"] == "https://arxiv.org/abs/1901.08573"
    assert info["venue"] == "ICML 2019"
    assert (info["architecture"], info["eps"]) == ("CNN-small", "0.1")

    there, entry = runpy.run_path(robustbench["builder"])["ENTRY"]
    assert there == name
    entry["model"]().load_state_dict(held)  # as robustbench does
    assert "ENTRY" not in runpy.run_path(tensors["builder"])


def test_a_network_of_ones_own_is_exported_with_its_file(bench, export):
    network = bench.folder / "nets.py"
    network.write_text("from fairbench.models.cnn import cnn_small as build\n")
    bench.registry.write_text(bench.registry.read_text() + "models:\n  own: {target: 'nets.py:build'}\n")
    bench.run("--methods", "trades", "--models", "own", "--device", "cpu")
    found = export("trades", "--to", "safetensors")
    network.rename(bench.folder / "moved.py")  # the export does without
    assert_same_verdicts(bench, found, 2)
    error = export("trades", "--to", "safetensors", code=2)
    assert "there is no file" in error
    network.write_text("from fairbench.models.resnet import resnet18 as build\n")
    error = export("trades", "--to", "safetensors", code=2)
    assert "is not what" in error


def test_what_cannot_be_exported_is_one_message(bench, export):
    error = export("trades", "--to", "safetensors", code=2)
    assert "there is no run called 'trades'" in error
    bench.run("--device", "cpu")
    runs = [bench.folder_of(method).name for method in ("dafa", "trades")]
    error = export("", "--to", "safetensors", code=2)
    assert "2 runs in" in error
    assert all(name in error for name in runs)
    error = export("trades", "--to", "safetensors", "--epoch", "1", code=2)
    assert "not evaluated at epoch 1" in error
    assert "--epoch is one of: 2" in error
    (bench.folder_of("trades") / "checkpoints" / "epoch-0002.safetensors").unlink()
    error = export("trades", "--to", "safetensors", code=2)
    assert "cannot read the checkpoint" in error
    (bench.folder_of("dafa") / "record.json").unlink()
    error = export("dafa", "--to", "safetensors", code=2)
    assert "is unfinished" in error
    bench.call("export", "dafa", "--to", "onnx", code=2)
