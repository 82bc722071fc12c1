"""Averages of weights: exact formulas, gates, buffers, and training left alone."""

import pytest
import torch
import toys
from toys import assert_same, copied

from fairbench.registry.components import Averaging
from fairbench.training.averaging import WeightAverage, recompute_batch_norm


def models(count):
    """Networks with different weights and BatchNorm statistics."""
    found = []
    for seed in range(count):
        model = toys.network(seed=seed).double()
        model(toys.batch(seed=seed).x.double())
        found.append(model)
    return found


def averaged(average):
    return copied(average.weights(lambda: ()))


def mixed(first, second, decay):
    """decay * first + (1 - decay) * second; counters cut to whole numbers."""
    found = {}
    for name, value in first.items():
        mean = decay * value.double() + (1 - decay) * second[name].double()
        found[name] = mean.to(value.dtype)
    return found


def assert_near(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-14, msg=name)


def test_the_first_accepted_epoch_is_a_copy_the_second_a_mixture_and_a_rejected_one_changes_nothing():
    a, b, c = models(3)
    average = WeightAverage(Averaging(kind="fawa", decay=0.85, threshold=0.2, start_epoch=2), a)
    assert average.after_epoch(c, 1, pytest.fail) == {"started": False}  # before its start
    assert not average.after_epoch(c, 2, lambda: 0.19)["accepted"]
    assert not average.started
    accepted = {"accepted": True, "worst_validation_accuracy": 0.2, "started": True}
    assert average.after_epoch(a, 3, lambda: 0.2) == accepted
    assert_same(averaged(average), a.state_dict())
    average.after_epoch(b, 4, lambda: 0.3)
    expected = mixed(a.state_dict(), b.state_dict(), 0.85)
    assert_near(averaged(average), expected)
    kept = averaged(average)
    average.after_epoch(c, 5, lambda: 0.1)
    assert_same(averaged(average), kept)


def test_fawa_that_accepts_everything_is_an_average_per_epoch_and_above_one_never_starts():
    given = models(3)
    every = WeightAverage(Averaging(kind="fawa", threshold=0.0, start_epoch=1), given[0])
    never = WeightAverage(Averaging(kind="fawa", threshold=1.01, start_epoch=1), given[0])
    expected = given[0].state_dict()
    for epoch, model in enumerate(given, 1):
        every.after_epoch(model, epoch, lambda: 0.0)
        never.after_epoch(model, epoch, lambda: 1.0)
        if epoch > 1:
            expected = mixed(expected, model.state_dict(), 0.85)
    assert_near(averaged(every), expected)
    assert not never.started


@pytest.mark.parametrize("warmup", [True, False])
def test_ema_follows_its_formula_after_every_step(warmup):
    given = models(4)
    average = WeightAverage(Averaging(kind="ema", decay=0.9, warmup=warmup), given[0])
    expected = given[0].state_dict()
    for t, model in enumerate(given):
        average.after_step(model, 1)
        if t:
            expected = mixed(expected, model.state_dict(), min(0.9, (1 + t) / (10 + t)) if warmup else 0.9)
    assert_near(averaged(average), expected)
    assert average.after_epoch(given[0], 1, pytest.fail) == {"started": True}  # no validation for it


def test_ema_waits_for_its_first_epoch():
    (model,) = models(1)
    average = WeightAverage(Averaging(kind="ema", start_epoch=3), model)
    average.after_step(model, 2)
    assert not average.started
    average.after_step(model, 3)
    assert average.started


def test_swa_is_the_plain_mean():
    given = models(3)
    average = WeightAverage(Averaging(kind="swa", start_epoch=1), given[0])
    for epoch, model in enumerate(given, 1):
        average.after_epoch(model, epoch, pytest.fail)
    found = averaged(average)
    for name, _ in given[0].named_parameters():
        mean = torch.stack([model.state_dict()[name] for model in given]).mean(0)
        torch.testing.assert_close(found[name], mean, rtol=1e-12, atol=1e-14)


def test_recomputed_statistics_count_every_image_once_whatever_its_batch():
    (model,) = models(1)
    before = model.bn1.momentum
    x = toys.batch(20).x.double()
    recompute_batch_norm(model, [x[:13], x[13:18], x[18:]])
    features = model.conv1(x).detach()
    torch.testing.assert_close(model.bn1.running_mean, features.mean((0, 2, 3)))
    assert model.bn1.momentum == before
    assert model.training


def test_swa_recomputes_its_statistics_before_it_is_evaluated():
    given = models(2)
    average = WeightAverage(Averaging(kind="swa", start_epoch=1), given[0])
    for epoch, model in enumerate(given, 1):
        average.after_epoch(model, epoch, pytest.fail)
    x = toys.batch(20).x.double()
    found = copied(average.weights(lambda: [x]))
    model = toys.network().double()
    model.load_state_dict(found)
    torch.testing.assert_close(found["bn1.running_mean"], model.conv1(x).detach().mean((0, 2, 3)))


def test_copied_statistics_are_those_of_the_last_model():
    a, b = models(2)
    average = WeightAverage(Averaging(kind="ema", batch_norm="copy", warmup=False), a)
    for model in (a, b):
        average.after_step(model, 1)
    found = averaged(average)
    assert torch.equal(found["bn1.running_mean"], b.bn1.running_mean)
    assert not torch.equal(found["fc.weight"], b.fc.weight)


@pytest.mark.parametrize("settings", [{"kind": "ema"}, {"kind": "fawa", "start_epoch": 1}])
def test_an_average_leaves_the_model_alone_and_continues_from_its_state(settings):
    a, b = models(2)
    before = copied(a.state_dict())
    whole, resumed = (WeightAverage(Averaging(**settings), a) for _ in range(2))

    def take(average, model):
        average.after_step(model, 1)
        average.after_epoch(model, 1, lambda: 1.0)

    take(whole, a)
    resumed.load_state_dict(copied(whole.state_dict()))
    for average in (whole, resumed):
        take(average, b)
    assert_same(copied(whole.state_dict()), copied(resumed.state_dict()))
    assert_same(before, a.state_dict())
