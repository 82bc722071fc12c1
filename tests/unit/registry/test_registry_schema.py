import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fairbench.core.errors import ConfigError
from fairbench.registry.attacks import AutoAttack, PgdAttack
from fairbench.registry.faults import explain
from fairbench.registry.protocol import Protocol
from fairbench.registry.schema import DatasetEntry

TRIX_150 = {
    "name": "trix-150",
    "version": 1,
    "threat": {"eps": 0.031},
    "budget": {"step_size": 0.007, "num_steps": 10},
    "epochs": 150,
    "optimizer": {"lr": 0.1},
    "milestones": {140: 0.1, 145: 0.01},
    "evaluation": ["pgd-20"],
}
PGD = {"name": "p", "kind": "pgd", "eps": 0.031, "step_size": 0.003, "num_steps": 20}
FOLDER = {"name": "d", "reader": "folder", "image_shape": [3, 32, 32], "path": "images"}


def protocol(**changes):
    return Protocol.model_validate({**TRIX_150, **changes})


def mistakes(model, value):
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return {
        ".".join(map(str, path)): message for path, message in explain(caught.value, model, "it", ("name",))
    }


def test_fractions_are_exact_wherever_a_float_is():
    entry = protocol(
        threat={"eps": "8/255"}, budget={"step_size": "2/255", "num_steps": 10}, milestones={1: "1/10"}
    )
    assert (entry.threat.eps, entry.budget.step_size, entry.milestones[1]) == (8 / 255, 2 / 255, 0.1)
    assert PgdAttack.model_validate({**PGD, "eps": "8/255"}).eps == 8 / 255


@pytest.mark.parametrize("text", ["8/0", "a/b", "8/", "1/2/3", "0.1x", "1e"])
def test_other_text_is_no_number(text):
    assert "a fraction such as 8/255" in mistakes(PgdAttack, {**PGD, "eps": text})["eps"]


def test_eight_is_refused_with_what_to_write():
    message = mistakes(Protocol, {**TRIX_150, "threat": {"eps": 8}})["threat.eps"]
    assert message == "eps is in units of [0, 1]; 8 looks like 8/255: write 8/255"
    assert "step_size" in mistakes(PgdAttack, {**PGD, "step_size": 2})["step_size"]


@pytest.mark.parametrize(
    ("changes", "path", "part"),
    [
        ({"threat": {"eps": -0.1}}, "threat.eps", "at least 0"),
        ({"threat": {"eps": float("nan")}}, "threat.eps", "finite"),
        ({"milestones": {151: 0.1}}, "milestones.151", "outside of the epochs 1..150"),
        ({"milestones": {0: 0.1}}, "milestones.0", "outside"),
        ({"milestones": {140: 0}}, "milestones.140", "above 0"),
        ({"selection": {"last": 151}}, "selection.last", "the last 151 of 150"),
        ({"epochs": 0}, "epochs", "at least 1"),
        ({"epochs": "150x"}, "epochs", "a whole number, got '150x'"),
        ({"epochs": True}, "epochs", "a whole number, got true"),
        ({"epochs": 1.5}, "epochs", "a whole number"),
        ({"batch_size": 1}, "batch_size", "at least 2"),
        ({"optimizer": {"lr": 0.1, "momentum": 0}}, "optimizer.nesterov", None),
        (
            {"optimizer": {"lr": 0.1, "momentum": 0, "nesterov": True}},
            "optimizer.nesterov",
            "momentum above 0",
        ),
        ({"optimizer": {"lr": 0.1, "nestrov": True}}, "optimizer.nestrov", "Did you mean 'nesterov'?"),
        ({"augmentation": {"padding": "zeros"}}, "augmentation.padding", "'zero' or 'reflect'"),
        ({"evaluation": ["a", "a"]}, "evaluation.1", "twice"),
        ({"evaluation": "pgd-20"}, "evaluation", "a list"),
        ({"threat": None}, "threat", "a mapping"),
    ],
)
def test_a_wrong_protocol_field_is_named_with_what_was_expected(changes, path, part):
    if part is None:  # a default is not the user's mistake
        assert protocol(**changes).optimizer.nesterov
    else:
        assert part in mistakes(Protocol, {**TRIX_150, **changes})[path]


def test_thirty_epochs_keep_the_proportions():
    short = protocol().with_epochs(30)
    assert (short.epochs, short.milestones, short.published_epochs) == (30, {28: 0.1, 29: 0.01}, 150)


def test_where_milestones_meet_the_later_factor_holds():
    assert protocol().with_epochs(2).milestones == {2: 0.01}
    assert protocol().with_epochs(1).selection.last == 1


@given(st.integers(1, 400), st.integers(1, 400))
def test_epochs_scale_from_the_published_length(first, second):
    entry = protocol()
    assert entry.with_epochs(first).with_epochs(second) == entry.with_epochs(second)
    assert entry.with_epochs(first).with_epochs(150) == entry
    scaled = entry.with_epochs(first)
    assert all(1 <= epoch <= first for epoch in scaled.milestones)
    assert scaled.selection.last <= first
    Protocol.model_validate(scaled.model_dump())


def test_no_epochs_are_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        protocol().with_epochs(0)


def test_a_protocol_survives_json():
    entry = protocol().with_epochs(30)
    again = Protocol.model_validate(json.loads(json.dumps(entry.model_dump())))
    assert again.model_dump() == entry.model_dump()


def test_entries_are_frozen():
    with pytest.raises(ValidationError):
        protocol().epochs = 3


def test_autoattack_takes_standard_or_known_parts():
    base = {"name": "a", "kind": "autoattack", "eps": "8/255"}
    assert AutoAttack.model_validate(base).attacks == "standard"
    assert AutoAttack.model_validate({**base, "attacks": ["square"]}).attacks == ("square",)
    assert "got 'sqare'" in mistakes(AutoAttack, {**base, "attacks": ["sqare"]})["attacks.0"]
    assert "'standard' or a list" in mistakes(AutoAttack, {**base, "attacks": 3})["attacks"]


@pytest.mark.parametrize(
    ("changes", "path", "part"),
    [
        ({"path": None}, "", "'path' is missing"),
        ({"reader": "cifar10", "num_classes": 10}, "path", "takes no path"),
        ({"reader": "cifar10", "path": None}, "", "'num_classes' is missing"),
        ({"num_classes": 3, "classes": ["a", "b"]}, "classes", "2 names for 3 classes"),
        ({"classes": ["a", "a"]}, "classes", "same name"),
        ({"classes": [1, 2]}, "classes.0", "put it in quotes"),
        ({"image_shape": [3, 0, 32]}, "image_shape", "at least 1"),
        ({"image_shape": [3, 32]}, "image_shape.2", "missing"),
        ({"reader": "cifar"}, "reader", "'cifar10'"),
        ({"digest": "abc"}, "digest", "pattern"),
    ],
)
def test_a_wrong_dataset_field_is_named(changes, path, part):
    assert part in mistakes(DatasetEntry, {**FOLDER, **changes})[path]
