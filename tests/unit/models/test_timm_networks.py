"""The networks timm:NAME: built for any images, and what is said where they cannot be."""

import importlib.util
import sys

import pytest
import torch

from fairbench.core.errors import ConfigError, EnvironmentFault, UnknownNameError
from fairbench.models import build_model
from fairbench.planning.resolve import model_identity
from fairbench.planning.selection import parse_names
from fairbench.registry import load_registry

TARGET = "fairbench.models.timm_networks"
installed = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="the extra timm is not installed"
)


def test_any_name_after_timm_is_a_network_without_an_entry_in_the_registry():
    registry = load_registry()
    assert parse_names("model", "resnet18,timm:vgg11", registry, option="--models") == (
        "resnet18",
        "timm:vgg11",
    )
    entry = registry.get("model", "timm:vgg11")
    assert (entry.name, entry.target) == ("timm:vgg11", f"{TARGET}:vgg11")
    assert model_identity(entry.target) == {"target": f"{TARGET}:vgg11"}
    assert registry.has_model("timm:vgg11")
    assert "timm:vgg11" not in registry.names("model")


@pytest.mark.parametrize("name", ["timm:", "timm:vgg11.tv_in1k", "timm:a b", "vgg11", "timm:../x"])
def test_other_names_are_unknown(name):
    with pytest.raises(UnknownNameError):
        load_registry().get("model", name)
    assert not load_registry().has_model(name)


def test_a_teacher_of_a_registry_may_be_such_a_network(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "version: 1\nmethods:\n  mine: {extends: rslad, teacher: {weights: w.pt, model: 'timm:vgg11'}}\n"
    )
    assert load_registry([mine]).get("method", "mine").teacher.model == "timm:vgg11"


def test_without_timm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="timm:resnet18 needs the package timm") as caught:
        build_model(f"{TARGET}:resnet18", 10, (3, 32, 32), 0)
    assert "fairbench-at[timm]" in caught.value.hint


def test_timm_is_imported_only_when_a_network_is_built():
    code = "import sys, fairbench.models.timm_networks as m; m.resnet18; print('timm' in sys.modules)"
    import subprocess

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@installed
@pytest.mark.parametrize("name", ["test_byobnet", "test_vit", "mobilenetv3_small_050"])
@pytest.mark.parametrize("image_shape", [(3, 32, 32), (1, 28, 28), (3, 64, 48)])
def test_networks_take_the_images_of_the_data_set(name, image_shape):
    if name == "test_vit" and image_shape == (1, 28, 28):
        image_shape = (1, 32, 32)  # patches of 16 pixels
    model = build_model(f"{TARGET}:{name}", 7, image_shape, 0)
    assert model.eval()(torch.rand(2, *image_shape)).shape == (2, 7)
    again = build_model(f"{TARGET}:{name}", 7, image_shape, 0).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())


@installed
def test_logits_are_those_of_timm():
    import timm

    model = build_model(f"{TARGET}:test_byobnet", 10, (3, 32, 32), 0).eval()
    own = timm.create_model("test_byobnet", num_classes=10).eval()
    own.load_state_dict(model.state_dict())
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(own(x), model(x))


@installed
def test_a_wrong_name_and_a_wrong_size_are_refused():
    with pytest.raises(ConfigError, match="no network called 'resnet81'") as caught:
        build_model(f"{TARGET}:resnet81", 10, (3, 32, 32), 0)
    assert "did you mean: timm:resnet" in caught.value.hint
