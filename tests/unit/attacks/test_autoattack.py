"""The adapter of AutoAttack: seed and radius required, few classes supported or refused."""

import sys

import pytest
import torch
from toys import batch, settled

from fairbench.attacks.autoattack import MIN_CLASSES, autoattack
from fairbench.attacks.budget import Budget, excess
from fairbench.attacks.network import Network
from fairbench.core.errors import ConfigError

EPS = 0.05


def attack(num_classes=5, seed=0, stages=("apgd-ce",), size=6):
    model, given = settled(num_classes), batch(size, num_classes)
    model.eval()
    y = model(given.x).argmax(1)
    x_adv = autoattack(Network(model), given.x, y, eps=EPS, seed=seed, num_classes=num_classes, stages=stages)
    return model, given, x_adv


@pytest.mark.parametrize("missing", ["eps", "seed"])
def test_radius_and_seed_are_required(missing):
    settings = {"eps": EPS, "seed": 0, "num_classes": 5}
    del settings[missing]
    with pytest.raises(TypeError, match=missing):
        autoattack(Network(settled(5)), batch().x, batch().y, **settings)


@pytest.mark.parametrize("num_classes", [2, MIN_CLASSES - 1])
def test_too_few_classes_are_refused_with_advice(num_classes):
    with pytest.raises(ConfigError, match=f"at least 4 classes, the data set has {num_classes}") as error:
        attack(num_classes, stages=("apgd-t",))
    assert "fairbench list attacks" in error.value.hint


@pytest.mark.parametrize("num_classes", [4, 5])
@pytest.mark.parametrize("stage", ["apgd-ce", "apgd-t", "fab-t", "square"])
def test_every_stage_stays_in_the_ball_and_finds_adversaries(stage, num_classes):
    model, given, x_adv = attack(num_classes, stages=(stage,))
    assert (excess(given.x, x_adv, Budget(EPS, 0.0, 0)) <= 1e-6).all()
    assert (model(x_adv).argmax(1) != model(given.x).argmax(1)).any()


def test_the_same_seed_repeats():
    first, again = (attack(seed=3)[2] for _ in range(2))
    assert torch.equal(first, again)


def test_debuggers_and_coverage_keep_their_tracer():
    def tracer(frame, event, argument):
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        attack(size=2)
        found = sys.gettrace()
    finally:
        sys.settrace(before)
    assert found is tracer


@pytest.mark.parametrize("num_classes", [4, 5])
def test_the_standard_version_works_for_any_number_of_classes_from_four(num_classes):
    model, given, x_adv = attack(num_classes, stages=(), size=4)
    assert (excess(given.x, x_adv, Budget(EPS, 0.0, 0)) <= 1e-6).all()
    assert (model(x_adv).argmax(1) != model(given.x).argmax(1)).any()
