"""Layouts of other trainers: which tensors of a file are the weights of a network, and what is said of it."""

import argparse
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import SHAPE, assert_same, network

from fairbench.core.errors import CheckpointError, ConfigError
from fairbench.evaluation.checkpoint_layout import choose_weights
from fairbench.evaluation.external_checkpoint import Checkpoint, foreign_types, read_checkpoint
from fairbench.models.normalized import NORMALISATIONS, Normalized, parse_normalisation
from fairbench.runner.external_checkpoint import Architecture, load_foreign, normalised

WORDS = st.text("abcdexyz_", min_size=1, max_size=6)
FRACTIONS = st.floats(0.01, 0.99).map(lambda value: round(value, 4))
NAMES = st.lists(WORDS, max_size=3)


def weights(scale=1.0):
    return {
        name: value * scale if value.is_floating_point() else value
        for name, value in network().state_dict().items()
    }


def under(prefix, values=None):
    return {f"{prefix}{name}": value for name, value in (weights() if values is None else values).items()}


def choose(content, expected=None, **options):
    """The choice for the toy network (or the names `expected`) from this content of a torch file."""
    from fairbench.evaluation.external_checkpoint import require_state_dicts

    checkpoint = Checkpoint("w.pt", require_state_dicts(content, "w.pt"))
    return choose_weights(checkpoint, weights() if expected is None else expected, **options)


def constants(place, mean, std, mean_name="mean", std_name="std", shape=(1, 1, 1, 1)):
    return {
        f"{place}{mean_name}": torch.tensor(mean).reshape(shape),
        f"{place}{std_name}": torch.tensor(std).reshape(shape),
    }


def lightning():
    return {
        "state_dict": under("net.") | {"train_acc.total": torch.tensor(3)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}],
        "hyper_parameters": {"lr": 0.1},
        "callbacks": {},
    }


def averaged():
    average = torch.optim.swa_utils.AveragedModel(network(), use_buffers=True)
    average.update_parameters(network())
    return {"swa_state_dict": average.state_dict(), "n": 1}


def compiled_inside():
    names = {name: name.replace(".", "._orig_mod.", 1) for name in weights()}
    return {names[name]: value for name, value in weights().items()}


LAYOUTS = {
    "plain": weights(),
    "DataParallel": under("module."),
    "torch.compile": under("_orig_mod."),
    "compiled and parallel": under("module._orig_mod."),
    "compiled inside": compiled_inside(),
    "kuangliu, AWP": {"net": under("module."), "acc": 91.2, "epoch": 3},
    "robust_overfitting": {"state_dict": weights(), "test_robust_acc": 0.5},
    "numpy beside": {"net": weights(), "acc": np.float64(93.2), "curve": np.arange(3.0), "n": np.int64(2)},
    "MAIR": {
        "rmodel": under("model.") | constants("", [0.0], [1.0]) | {"n_classes": torch.tensor(4)},
        "curr_epoch": 3,
        "record_info": {"lr": 0.1},
    },
    "MadryLab": {
        "model": {
            **constants("module.normalizer.", [0.0], [1.0], "new_mean", "new_std"),
            **under("module.model."),
            **under("module.attacker.model."),
            **constants("module.attacker.normalize.", [0.0], [1.0], "new_mean", "new_std"),
        },
        "epoch": 150,
        "amp": None,
    },
    "Sequential(Normalize, net)": under("1.") | constants("0.", [0.0], [1.0]),
    "Lightning": lightning(),
    "AveragedModel": averaged(),
    "best": {"best": weights()},
    "nested": {"checkpoint": {"models": {"student": under("module.")}}},
    "list": [weights(), 3],
    "thop": weights() | {"total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1)},
    "backbone": under("backbone."),
    "classifier with a head": under("encoder.") | {"projection.weight": torch.zeros(3)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layouts_of_known_trainers_load_and_give_the_same_logits(tmp_path, layout):
    torch.save(LAYOUTS[layout], tmp_path / "w.pt")
    x, model = torch.rand(4, *SHAPE), network()
    model.load_state_dict({name: torch.zeros_like(value) for name, value in weights().items()})
    choice = load_foreign(model, read_checkpoint(tmp_path / "w.pt"), Architecture("", lambda *_: model))
    assert torch.equal(model.eval()(x), network().eval()(x))
    assert (choice.normalisation, choice.others) == (None, ())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(WORDS, max_size=3),
    st.lists(WORDS, max_size=3),
    st.dictionaries(WORDS, st.integers(), max_size=2),
)
def test_any_keys_and_any_prefix_around_one_set_of_weights_are_found(keys, prefixes, beside):
    content = under("".join(f"{prefix}." for prefix in prefixes))
    for key in keys:
        content = {**{f"{name}_": value for name, value in beside.items()}, key: content}
    choice = choose(content)
    assert_same(choice.weights, weights())
    assert choice.place == ".".join([*reversed(keys), *prefixes])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["module", "model", "net", "_orig_mod", "state"]), min_size=1, max_size=3))
def test_names_are_tried_as_they_are_before_a_prefix_is_taken_off(prefixes):
    own = under("".join(f"{prefix}." for prefix in prefixes))
    choice = choose(own, own)
    assert (choice.place, choice.notes("w.pt")) == ("", [])
    assert_same(choice.weights, own)
    assert_same(choose(weights(), own).weights, own)  # what was saved is inside of the network
    assert_same(choose({"net": under("module.")}, own).weights, own)


@pytest.mark.parametrize(
    ("taken", "other"),
    [
        ("last", "best"),
        ("model", "model_ema"),
        ("state_dict", "state_dict_ema"),
        ("params", "params_ema"),
        ("net", "ema_net"),
        ("model_state_dict", "swa_model"),
        ("state_dict", "model_ema"),
    ],
)
def test_the_choice_between_several_weights_is_said_and_can_be_made(taken, other):
    zeros = weights(0.0)
    for content in ({taken: weights(), other: zeros}, {other: under("module.", zeros), taken: weights()}):
        choice = choose(content)
        assert_same(choice.weights, weights())
        assert choice.place == taken
        (note,) = choice.notes("w.pt")
        assert f"weights: {taken} of w.pt" in note
        assert other in note
        assert "--key" in note
        assert_same(choose(content, key=other).weights, zeros)
        assert choose(content, key=other).others == (taken,)


def test_prefixes_of_one_state_dict_are_chosen_in_the_same_way():
    content = {"state_dict": under("net.") | under("ema_net.", weights(0.0))}
    assert choose(content).place == "state_dict.net"
    assert_same(choose(content, key="state_dict.ema_net").weights, weights(0.0))


def test_several_weights_without_a_usual_name_are_not_guessed():
    content = {"student": weights(), "teacher": weights(0.0)}
    with pytest.raises(CheckpointError, match="several sets of weights for this network: student, teacher"):
        choose(content)
    assert_same(choose(content, key="teacher").weights, weights(0.0))
    (note,) = choose({"model": weights(), "model_ema": under("module.")}).notes("w.pt")
    assert "other weights in it: model_ema.module, which are equal, (name" in note
    assert choose({"one": weights(), "two": weights()}).place == "one"  # the same twice is no choice


@pytest.mark.parametrize("key", ["none", "epoch", "optimizer"])
def test_a_key_that_is_not_there_is_refused_with_those_that_are(key):
    content = {"model": weights(), "other": {"a": torch.ones(1)}, "epoch": 3, "optimizer": {"state": {}}}
    with pytest.raises(CheckpointError, match=f"--key {key} is not in the file") as caught:
        choose(content, key=key)
    assert "these fit: model" in caught.value.hint
    with pytest.raises(CheckpointError, match="--key other does not fit this network"):
        choose(content, key="other")


def test_another_architecture_is_refused_with_what_the_file_holds(tmp_path):
    content = {
        "model": under("module.") | {"module.more.weight": torch.ones(2)},
        "extra": {"a": torch.ones(1)},
    }
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"another architecture: it has more\.weight") as caught:
        load_foreign(network(), read_checkpoint(tmp_path / "w.pt"), Architecture("", lambda *_: network()))
    assert "model: " in caught.value.hint
    assert "extra: 1 tensors (a)" in caught.value.hint
    less = dict(list(weights().items())[1:])
    torch.save(less, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="another architecture: it lacks"):
        load_foreign(network(), read_checkpoint(tmp_path / "w.pt"), Architecture("", lambda *_: network()))


@pytest.mark.parametrize("names", [("mean", "std"), ("mu", "sigma"), ("new_mean", "new_std")])
@pytest.mark.parametrize(
    ("place", "prefix"), [("0.", "1."), ("normalize.", "model."), ("", "model."), ("", "")]
)
def test_a_normalisation_in_the_file_is_applied_and_said(names, place, prefix):
    content = under(prefix) | constants(place, [0.3], [0.15], *names)
    choice = choose(content)
    mean, std = choice.normalisation
    assert (mean.item(), std.item()) == pytest.approx((0.3, 0.15))
    assert not choice.unused
    model, x = network().eval(), torch.rand(3, *SHAPE)
    wrapped, (note,) = normalised(model, choice, None, 1)
    assert torch.allclose(wrapped(x), model((x - 0.3) / 0.15), atol=1e-5)
    assert "(0.3,)" in note
    assert normalised(model, choice, "none", 1)[0].mean == 0
    bad = choose(under("1.") | constants("0.", [0.1, 0.2, 0.3], [1.0, 1.0, 1.0], shape=(3,)))
    with pytest.raises(CheckpointError, match="normalisation for 3 channels"):
        normalised(model, bad, None, 1)


def test_what_is_not_used_is_counted():
    choice = choose(under("encoder.") | {f"head.{k}": torch.ones(1) for k in range(5)})
    assert choice.notes("w.pt") == [
        "weights: encoder of w.pt",
        "not used: 5 tensors (head.0, head.1, head.2, ...)",
    ]


# ------------------------------------------------------------------ normalisations that the user gives


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_published_normalisations_have_a_name(name):
    channels = max(3, len(NORMALISATIONS[name][0])) if len(NORMALISATIONS[name][0]) > 1 else 1
    mean, std = parse_normalisation(name, channels)
    assert len(mean) == len(std) == channels


@settings(max_examples=30)
@given(
    st.integers(1, 4).flatmap(lambda n: st.tuples(*[st.lists(FRACTIONS, min_size=n, max_size=n)] * 2)),
    st.sampled_from(["/", ",", " ", ";", ":"]),
)
def test_numbers_are_read_with_any_separator(pair, separator):
    mean, std = pair
    text = separator.join((",".join(map(str, mean)), ",".join(map(str, std))))
    assert parse_normalisation(text, len(mean)) == (tuple(mean), tuple(std))


@pytest.mark.parametrize(
    ("text", "channels", "message"),
    [
        ("cifar11", 3, "no such name"),
        ("cifar10", 1, "3 means"),
        ("0.5,0.5/0.5", 3, "1 means and 2"),
        ("125.3,123,113.9/63,62,66.7", 3, "in units of images"),
        ("0.5/0", 1, "in units of images"),
        ("", 3, "not numbers"),
    ],
)
def test_other_normalisations_are_refused(text, channels, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_normalisation(text, channels)
    assert "cifar10" in caught.value.hint


def test_a_normalised_network_keeps_gradients_and_precision():
    model = Normalized(network().double(), [0.5], [0.25]).eval()
    x = torch.rand(2, *SHAPE, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert gradient.dtype == torch.float64
    assert gradient.abs().sum() > 0


# ------------------------------------------------------------------ what a file is


def write_script(path):
    with zipfile.ZipFile(path, "w") as zipped:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py", "m/version"):
            zipped.writestr(name, b"x")


def write_zip(*names):
    def write(path):
        with zipfile.ZipFile(path, "w") as zipped:
            for name in names:
                zipped.writestr(name, b"x")

    return write


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (lambda path: path.write_text("<!DOCTYPE html><html>Quota exceeded</html>"), "a web page"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid x"),
            "pointer of Git LFS",
        ),
        (lambda path: path.write_text(json.dumps({"error": "401"})), "a JSON"),
        (lambda path: path.write_text("Not Found"), "a text file"),
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(30)), "a gzip file"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(30)), "an HDF5 file"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + bytes(30)), "a NumPy array"),
        (lambda path: path.write_bytes(b"Rar!" + bytes(30)), "a RAR archive"),
        (write_script, "a TorchScript program"),
        (write_zip("a.npy", "b.npy"), "numpy arrays"),
        (write_zip("models/model.json", "archive_format"), "an exported program"),
        (
            write_zip("run1/best.pt", "run1/log.txt"),
            r"a zip archive with run1/best\.pt, run1/log\.txt: unpack",
        ),
    ],
    ids=range(13),
)
def test_what_is_no_checkpoint_is_named(tmp_path, write, kind):
    write(tmp_path / "w.pt")
    with pytest.raises(
        CheckpointError, match=rf"w\.pt cannot be read as a checkpoint: it is .*{kind}"
    ) as caught:
        read_checkpoint(tmp_path / "w.pt")
    assert "weights_only" not in str(caught.value)


def test_safetensors_under_another_suffix_are_read(tmp_path):
    from safetensors.torch import save_file

    save_file(weights(), tmp_path / "w.pt")
    assert_same(choose_weights(read_checkpoint(tmp_path / "w.pt"), weights()).weights, weights())


class Record:
    """A type of another program."""


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("new", [True, False])
def test_foreign_types_are_named_without_advice_to_load_them(tmp_path, new):
    content = {"net": weights(), "args": argparse.Namespace(lr=0.1), "record": Record()}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError, match="more than weights") as caught:
        read_checkpoint(tmp_path / "w.pt")
    assert "argparse.Namespace" in caught.value.hint
    assert f"{Record.__module__}.Record" in caught.value.hint
    assert "weights_only" not in str(caught.value)
    assert "numpy" not in caught.value.hint


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_of_another_tool_is_named(tmp_path, protocol):
    arrays = {"conv.weight": np.ones(3), "args": argparse.Namespace(), "more": argparse.Namespace()}
    (tmp_path / "w.pt").write_bytes(pickle.dumps(arrays, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"reason: it holds Python objects: argparse\.Namespace"):
        read_checkpoint(tmp_path / "w.pt")
    del arrays["args"], arrays["more"]
    (tmp_path / "w.pt").write_bytes(pickle.dumps(arrays, protocol=protocol))
    with pytest.raises(CheckpointError, match="a pickle that torch"):
        read_checkpoint(tmp_path / "w.pt")


def test_a_whole_network_is_called_one(tmp_path):
    torch.save(torch.nn.DataParallel(torch.nn.Linear(1, 1)), tmp_path / "w.pt")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "w.pt")
    assert "a whole network, pickled with its classes: torch.nn.parallel" in caught.value.hint


@pytest.mark.parametrize("new", [True, False])
def test_the_types_of_a_file_are_read_without_making_them(tmp_path, new):
    content = {"a": Bomb(tmp_path / "made"), "b": torch.nn.Linear(1, 1)}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
    found = foreign_types(tmp_path / "w.pt")
    assert any(name.endswith(".mkdir") for name in found)
    assert "torch.nn.modules.linear.Linear" in found
    assert not (tmp_path / "made").exists()
