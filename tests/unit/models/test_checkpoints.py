"""Checkpoints: whole, of this architecture and class count, or refused with the reason."""

import pytest
import torch
from torch import nn
from toys import assert_same, network

from fairbench.core.errors import CheckpointError, ResultsError
from fairbench.models.checkpoints import load_weights, read_tensors, write_tensors
from fairbench.models.cnn import cnn_small


@pytest.fixture
def saved(tmp_path):
    write_tensors(tmp_path / "w.safetensors", network().state_dict(), {"epoch": 3})
    return tmp_path / "w.safetensors"


def test_tensors_come_back_with_values_types_and_remarks(tmp_path):
    tensors = {
        "half": torch.rand(3).half(),
        "double": torch.rand(2, 2, dtype=torch.float64),
        "count": torch.tensor(7),
        "flag": torch.tensor(True),
        "turned": torch.rand(3, 4).T,
        "channels": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "empty": torch.zeros(0),
    }
    write_tensors(tmp_path / "x.safetensors", tensors, {"epoch": 3, "note": ["é", None]})
    found, about = read_tensors(tmp_path / "x.safetensors")
    assert_same(found, tensors)
    assert {name: value.dtype for name, value in found.items()} == {n: v.dtype for n, v in tensors.items()}
    assert about == {"epoch": 3, "note": ["é", None]}


def test_tensors_that_share_memory_are_written_each_in_full(tmp_path):
    base = torch.arange(6.0)
    write_tensors(tmp_path / "x.safetensors", {"all": base, "part": base[2:4], "again": base}, {})
    found, _ = read_tensors(tmp_path / "x.safetensors")
    assert_same(found, {"all": base, "part": base[2:4], "again": base})


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="cannot read the checkpoint") as error:
        read_tensors(saved)
    assert "truncated" in error.value.hint


def test_a_missing_checkpoint_and_a_text_are_refused(tmp_path):
    (tmp_path / "text").write_text("not a checkpoint, but long enough to look like a header")
    for name in ("none", "text"):
        with pytest.raises(CheckpointError, match=f"cannot read the checkpoint .*{name}"):
            read_tensors(tmp_path / name)


def test_a_checkpoint_that_cannot_be_written_is_an_error(saved):
    with pytest.raises(ResultsError):
        write_tensors(saved / "below", {}, {})


def test_weights_load_into_the_model_they_came_from(saved):
    model = network(seed=5)
    load_weights(model, read_tensors(saved)[0], "w")
    assert_same(model.state_dict(), network().state_dict())


def test_weights_without_batch_counters_load(saved):
    tensors = read_tensors(saved)[0]
    model = network(seed=5)
    model.bn1.num_batches_tracked.fill_(9)
    load_weights(model, {n: v for n, v in tensors.items() if "num_batches" not in n}, "w")
    assert torch.equal(model.conv1.weight, network().conv1.weight)
    assert int(model.bn1.num_batches_tracked) == 9


def test_weights_of_another_architecture_are_refused_with_what_differs():
    model = cnn_small(4, (3, 8, 8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="another architecture: it lacks features") as error:
        load_weights(model, network().state_dict(), "old.pt")
    assert "old.pt" in error.value.message
    assert "has bn1.bias" in error.value.message
    assert "fairbench list models" in error.value.hint
    assert_same(model.state_dict(), before)


def test_weights_for_another_number_of_classes_are_refused_with_both_shapes():
    model = network(10)
    with pytest.raises(
        CheckpointError, match=r"fc\.weight has shape \(4, 8\), the model expects \(10, 8\)"
    ) as e:
        load_weights(model, network(4).state_dict(), "four.pt")
    assert "classes" in e.value.hint


def test_loading_copies_the_weights():
    model, weights = nn.Linear(2, 2), {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    load_weights(model, weights, "w")
    weights["weight"].zero_()
    assert torch.equal(model.weight, torch.ones(2, 2))
