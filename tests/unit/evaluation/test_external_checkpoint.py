"""Checkpoints from anywhere: known wrappings are taken off, and no pickle is ever executed."""

import os
import pickle
import warnings
from collections import OrderedDict

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from toys import assert_same, network

from fairbench.core.errors import CheckpointError
from fairbench.evaluation.checkpoint_layout import choose_weights
from fairbench.evaluation.external_checkpoint import digest_weights, read_checkpoint


def weights():
    return dict(network().state_dict())


def chosen(path, **options):
    """The weights that are taken for the toy network."""
    return choose_weights(read_checkpoint(path), weights(), **options)


def prefixed(*prefixes):
    return {"".join(prefixes) + name: value for name, value in weights().items()}


@pytest.mark.parametrize(
    "content",
    [
        weights(),
        OrderedDict(weights()),
        prefixed("module."),
        prefixed("_orig_mod."),
        prefixed("module.", "_orig_mod."),
        prefixed("model.", "module."),
        {"state_dict": prefixed("module."), "epoch": 3, "best": 0.5},
        {"model_state_dict": weights(), "optimizer": {"state": {}}},
        {"net": weights(), "acc": 91.2},
        {"last": weights(), "best": prefixed("better.")},
    ],
    ids=range(10),
)
def test_known_wrappings_are_taken_off(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    assert_same(chosen(tmp_path / "w.pt").weights, weights())


def test_the_older_torch_format_is_read(tmp_path):
    torch.save(weights(), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert_same(chosen(tmp_path / "w.pth").weights, weights())


def test_safetensors_are_read_with_prefixes(tmp_path):
    save_file(prefixed("module."), tmp_path / "w.safetensors")
    assert_same(chosen(tmp_path / "w.safetensors").weights, weights())


def test_a_prefix_that_only_some_names_have_stays(tmp_path):
    content = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(content, tmp_path / "w.pt")
    assert_same(read_checkpoint(tmp_path / "w.pt").state_dicts[""], content)
    assert_same(choose_weights(read_checkpoint(tmp_path / "w.pt"), content).weights, content)


class Bomb:
    """Makes a folder when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path, save):
    save({"state_dict": weights(), "extra": Bomb(tmp_path / "executed")}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="more than weights") as error:
        read_checkpoint(tmp_path / "w.pt")
    assert "model.state_dict()" in error.value.hint
    assert not (tmp_path / "executed").exists()


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="more than weights"):
        read_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save(weights(), path)
    else:
        save_file(weights(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_file_is_refused_without_a_traceback_or_a_warning(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("content", [{}, [torch.ones(1)], torch.ones(1), {"epoch": 3}, {"state_dict": {}}, 3])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="does not contain a state dict") as error:
        read_checkpoint(tmp_path / "w.pt")
    assert "state_dict" in error.value.hint


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(CheckpointError, match="there is no checkpoint") as error:
            read_checkpoint(path)
        assert ("robustbench:NAME" in error.value.hint) is path.is_dir()


def test_the_digest_of_weights_changes_with_every_name_shape_type_and_value_only():
    given = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "half": torch.ones(2).bfloat16()}
    others = [
        {"a": given["a"] + 1e-7},
        {"a": given["a"].view(3, 2)},
        {"a": given["a"].double()},
        {"b": torch.tensor([3])},
        {"c": torch.zeros(0)},
    ]
    digests = [digest_weights({**given, **other}) for other in ({}, *others)]
    assert len(set(digests)) == len(digests)
    turned = {"a": given["a"].T.contiguous().T, "_extra_state": {"not": "a tensor"}}
    assert digest_weights(dict(reversed({**given, **turned}.items()))) == digests[0]
