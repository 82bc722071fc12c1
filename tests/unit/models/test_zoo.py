"""The RobustBench zoo: architectures by name, without a network."""

import importlib.util
import sys
import warnings

import numpy as np
import pytest
import torch

from fairbench.core.errors import CheckpointError, ConfigError, EnvironmentFault
from fairbench.data.prepare import prepare
from fairbench.models.zoo import import_robustbench, zoo_file, zoo_model, zoo_threats
from fairbench.records.outcomes import read_outcomes
from fairbench.registry import DatasetEntry
from fairbench.runner.external_checkpoint import from_zoo
from fairbench.runner.external_evaluation import evaluate_checkpoint

RESNET18 = "Addepalli2021Towards_RN18"
zoo = pytest.mark.skipif(
    importlib.util.find_spec("robustbench") is None, reason="the extra robustbench is not installed"
)


@zoo
def test_robustbench_is_imported_twice_without_a_warning_or_an_alias():
    with warnings.catch_warnings(action="error"):
        assert import_robustbench() is import_robustbench()
    assert not {"autoattack", "autoattack.state", "pkg_resources"} & set(sys.modules)


def test_without_robustbench_the_error_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "robustbench" else find(name)
    )
    with pytest.raises(EnvironmentFault, match="need the package robustbench") as error:
        zoo_model(RESNET18, "cifar10")
    assert error.value.hint == "pip install 'fairbench-at[robustbench]'"


def test_a_robustbench_that_cannot_be_imported_is_an_error_and_leaves_no_alias(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "robustbench" or find(name))
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(EnvironmentFault, match="cannot be imported"):
        import_robustbench()
    assert not {"autoattack", "autoattack.state", "pkg_resources"} & set(sys.modules)


@zoo
@pytest.mark.parametrize(
    ("name", "left_out", "as_folder"), [(RESNET18, (), True), ("Wong2020Fast", ("mu", "sigma"), False)]
)
def test_a_checkpoint_of_the_zoo_is_evaluated_even_without_its_normalisation(
    tmp_path, name, left_out, as_folder
):
    draw = np.random.default_rng(0)
    labels = np.arange(10).repeat(2)
    images = draw.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images, y_train=labels, x_test=images[::-1], y_test=labels)
    dataset = DatasetEntry.model_validate(
        {"name": "cifar10", "reader": "npz", "path": str(tmp_path / "x.npz"), "image_shape": [3, 32, 32]}
    )
    prepare(
        "cifar10",
        reader="npz",
        image_shape=(3, 32, 32),
        num_classes=10,
        classes=None,
        expected_digest=None,
        source=tmp_path / "x.npz",
        root=tmp_path / "data",
        download=False,
        unofficial=True,
    )
    model = zoo_model(name, "cifar10")
    weights = {f"module.{k}": v for k, v in model.state_dict().items() if k not in left_out}
    file = tmp_path / "zoo" / "cifar10" / "Linf" / f"{name}.pt"
    file.parent.mkdir(parents=True)
    torch.save({"state_dict": weights}, file)
    checkpoint, architecture = from_zoo(name, "cifar10", tmp_path / "zoo" if as_folder else file)
    assert checkpoint == file
    found = evaluate_checkpoint(
        checkpoint,
        architecture,
        dataset,
        {"clean": None},
        data_root=tmp_path / "data",
        results=tmp_path / "results",
        device_name="cpu",
        subset_per_class=1,
        progress=lambda *_: None,
    )
    with torch.no_grad():
        x = torch.from_numpy(images[::-1][::2].copy()).permute(0, 3, 1, 2) / 255
        assert read_outcomes(found.folder / "clean.npy")["prediction"].tolist() == model(x).argmax(1).tolist()
    assert f'"robustbench:{name}"' in (found.folder / "evaluation.json").read_text()


@zoo
def test_building_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    model = zoo_model(RESNET18, "cifar10")
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training


@zoo
def test_a_name_is_looked_for_under_all_threat_models():
    assert zoo_model("Hendrycks2020AugMix_ResNeXt", "cifar100")(torch.rand(1, 3, 32, 32)).shape == (1, 100)


def put(folder, *places):
    for place in places:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).touch()
    return folder


@zoo
def test_a_model_folder_is_searched_under_every_threat_model_that_lists_the_name(tmp_path):
    name = "Rebuffi2021Fixing_70_16_cutmix_extra"
    assert zoo_threats(name, "cifar10") == ["Linf", "L2"]
    put(tmp_path, f"cifar10/L2/{name}.pt", f"cifar10/corruptions/{name}.pt")
    assert zoo_file(tmp_path, name, "cifar10") == (tmp_path / "cifar10" / "L2" / f"{name}.pt", "L2")
    put(tmp_path, f"cifar10/Linf/{name}.pt")
    assert zoo_file(tmp_path, name, "cifar10")[1] == "Linf"


@zoo
def test_weights_that_are_not_in_the_folder_are_listed_with_every_place_looked_at(tmp_path):
    put(tmp_path, f"cifar100/Linf/{RESNET18}.pt", f"cifar10/Linf/{RESNET18}.pth")
    with pytest.raises(CheckpointError, match=f"no weights of '{RESNET18}' for cifar10") as error:
        zoo_file(tmp_path, RESNET18, "cifar10")
    assert f"looked for: {tmp_path / 'cifar10' / 'Linf' / RESNET18}.pt" in error.value.hint
    assert "nothing is downloaded" in error.value.hint


@zoo
def test_an_ensemble_in_several_files_is_refused_with_a_way_out(tmp_path):
    put(tmp_path, "cifar10/Linf/Chen2020Adversarial.pt_m0.pt")
    with pytest.raises(CheckpointError) as error:
        zoo_file(tmp_path, "Chen2020Adversarial", "cifar10")
    assert "--models FILE.py:function" in error.value.hint


@zoo
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Addepali2021Towards_RN18", f"did you mean: {RESNET18}"),
        ("?", "see all: https://robustbench.github.io"),
    ],
)
def test_an_unknown_name_is_refused_with_a_suggestion(name, hint):
    with pytest.raises(ConfigError, match="has no model called") as error:
        zoo_model(name, "cifar10")
    assert error.value.hint == hint


def test_an_unknown_data_set_is_refused():
    with pytest.raises(ConfigError, match="no models for the data set 'digits'") as error:
        zoo_model(RESNET18, "digits")
    assert error.value.hint == "give --datasets cifar10 or cifar100"


@zoo
def test_an_entry_that_cannot_be_built_is_an_error_with_the_reason(monkeypatch):
    import_robustbench()
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    table = model_dicts[BenchmarkDataset("cifar10")][ThreatModel("Linf")]
    monkeypatch.setitem(table, "Needs_GPU", {"model": lambda: torch.zeros(1, device="nowhere")})
    with pytest.raises(ConfigError, match="'Needs_GPU' cannot be built here: RuntimeError"):
        zoo_model("Needs_GPU", "cifar10")
