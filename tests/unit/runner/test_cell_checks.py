"""What cannot be trained is refused before anything is written."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import ConfigError
from fairbench.core.imports import load_object
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.registry import load_registry
from fairbench.runner.cell_checks import check_cells

REGISTRY = load_registry()
NETWORK = """
import torch
from torch import nn

def flat(num_classes, image_shape):
    norm = nn.BatchNorm1d(8)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), norm, nn.Linear(8, num_classes))

def larger(num_classes, image_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, num_classes))
"""


@pytest.fixture
def cells(tmp_path):
    """Cells of TRADES on the digits with a network of the test."""
    (tmp_path / "net.py").write_text(NETWORK)
    targets = "".join(f"  {name}: {{target: 'net.py:{name}'}}\n" for name in ("flat", "larger"))
    (tmp_path / "registry.yaml").write_text(f"version: 1\nmodels:\n{targets}")
    registry = load_registry([tmp_path / "registry.yaml"])

    def plan(model, **protocol):
        overrides = {"protocol": protocol}
        selection = Selection(methods=("trades",), models=(model,), seeds=(0,), overrides=overrides)
        return resolve(selection, registry, tmp_path)[0]

    return plan


def test_a_last_batch_of_one_image_is_refused_where_the_network_cannot_be_trained_on_it(cells):
    check_cells(cells("flat", batch_size=98), "cpu")
    check_cells(cells("cnn-small", batch_size=97), "cpu")  # 1262 = 13 x 97 + 1; maps of 2x2 pixels
    with pytest.raises(ConfigError, match="the last batch of 1262 images of digits has one image") as error:
        check_cells(cells("flat", batch_size=97), "cpu")
    assert "--batch-size 98" in error.value.hint


def test_a_network_for_other_images_is_refused_where_it_would_be_trained_on_the_cpu(cells):
    with pytest.raises(ConfigError, match=r"larger cannot take images of 1x8x8 \(digits\)"):
        check_cells(cells("larger"), "cpu")
    check_cells(cells("larger"), "cuda")  # it may need a GPU; the record of the cell will say


@given(st.sampled_from(REGISTRY.names("model")), st.integers(4, 100), st.integers(4, 100))
@settings(max_examples=40, deadline=None)
def test_the_sizes_in_the_registry_are_those_that_the_networks_take(name, height, width):
    entry = REGISTRY.get("model", name)
    misfit = "" if entry.pooling is None else entry.pooling.misfit((3, height, width))
    try:
        with torch.device("meta"):  # no memory
            load_object(entry.target)(10, (3, height, width))
    except ConfigError:
        assert misfit
    else:
        assert not misfit


def test_a_network_that_does_not_fit_is_left_out_and_refused_when_no_other_is_there():
    def plan(*models):
        return resolve(Selection(methods=("trades",), models=models, seeds=(0,)), REGISTRY, Path("nowhere"))

    chosen, notes = plan("cnn-small", "resnet18")
    assert [cell.model for cell in chosen] == ["cnn-small"]
    assert any(note.startswith("resnet18 is left out for digits: for images of 8x8") for note in notes)
    with pytest.raises(ConfigError, match="no network of the selection takes the images"):
        plan("resnet18", "wrn-34-10")
