"""Adversarial weight perturbation: neutral at gamma 0, back where it was afterwards, uphill in between."""

import pytest
import torch
import toys
from toys import assert_same, batch, context, copied, network, objective

from fairbench.attacks.frozen import frozen
from fairbench.core.errors import ContractError
from fairbench.objectives.loss_terms import LossTerms
from fairbench.registry.components import Averaging, WeightPerturbation
from fairbench.testing.device_laws import Operations
from fairbench.training.averaging import WeightAverage
from fairbench.training.step import training_step
from fairbench.training.weight_perturbation import ascent_direction, perturbed

EVERY_METHOD = pytest.mark.parametrize("name", toys.METHODS)


def settings(gamma=0.01, inner="base"):
    return WeightPerturbation(gamma=gamma, start_epoch=1, inner=inner)


def step(name, awp, lr=0.05):
    method, model = objective(name), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    loss = training_step(model, method, optimizer, batch(), context(), toys.totals(method), awp=awp)
    return {"loss": loss, **model.state_dict()}


@EVERY_METHOD
def test_gamma_zero_is_training_without_it_bit_for_bit(name):
    assert_same(step(name, settings(0.0)), step(name, None))


@EVERY_METHOD
def test_a_perturbed_step_is_finite_and_another_one(name):
    found, plain = step(name, settings(0.05)), step(name, None)
    assert all(bool(torch.isfinite(value).all()) for value in found.values())
    assert not torch.equal(found["fc.weight"], plain["fc.weight"])


def test_without_a_learning_rate_the_weights_return_and_batch_norm_saw_the_perturbed_ones():
    found, before = step("trades", settings(0.05), lr=0.0), network()
    for name, parameter in before.named_parameters():
        torch.testing.assert_close(found[name], parameter, rtol=0, atol=1e-6)
    plain = step("trades", None, lr=0.0)
    assert not torch.equal(found["bn2.running_mean"], plain["bn2.running_mean"])


def prepared(name="trades"):
    method, model, given = objective(name), network().double(), batch()
    given = type(given)(given.x.double(), given.y, given.index)
    with frozen(model):
        x_adv = method.perturb(model, given, context())
    model.train()
    return method, model, given, x_adv


def test_directions_have_the_norm_of_their_layer_leave_vectors_out_and_raise_the_loss():
    method, model, given, x_adv = prepared()
    before = copied(model.state_dict())
    direction, _ = ascent_direction(model, method, given, x_adv, context(), "base")
    assert_same(before, copied(model.state_dict()))  # statistics included
    assert set(direction) == {"conv1.weight", "conv2.weight", "fc.weight"}
    for name, value in direction.items():
        torch.testing.assert_close(value.norm(), before[name].norm())

    def value():
        return float(method.loss(model, given, x_adv, context()).base().detach())

    plain = value()
    with perturbed(model, direction, 1e-3):
        assert value() > plain
    assert value() == pytest.approx(plain, abs=1e-9)


def test_the_base_loss_leaves_class_weights_and_regularisers_out():
    clean = torch.tensor([1.0, 3.0])
    terms = LossTerms(clean=clean, regulariser=torch.tensor(7.0), weight={"clean": torch.tensor([2.0, 0.0])})
    assert float(terms.base()) == 2.0
    assert float(terms.total()) == 1.0 + 7.0


def test_the_inner_loss_is_a_choice():
    method, model, given, x_adv = prepared("dafa")
    toys.weigh(method, 0.1, 3.0, 0.5, 1.0)
    base, full = (
        ascent_direction(model, method, given, x_adv, context(), kind)[0] for kind in ("base", "full")
    )
    assert not torch.equal(base["fc.weight"], full["fc.weight"])


def test_a_weight_without_gradient_stays_where_it_is():
    method, model, given, x_adv = prepared()
    model.unused = torch.nn.Linear(3, 3).double()
    direction, _ = ascent_direction(model, method, given, x_adv, context(), "base")
    assert "unused.weight" not in direction


def test_class_statistics_are_those_of_the_weights_as_they_are():
    method, found = objective("dafa"), []
    for awp in (None, settings(0.5)):
        model, seen = network(), toys.totals(method)
        training_step(model, method, toys.sgd(model), batch(), context(), seen, awp=awp)
        found.append(seen.stats())
    assert torch.equal(found[0].robust_probability, found[1].robust_probability)


def test_a_loss_without_per_sample_terms_has_no_base():
    with pytest.raises(ContractError, match="no per-sample term"):
        LossTerms(total=torch.tensor(1.0)).base()


@pytest.mark.parametrize("kind", ["ema", "awp"])
def test_neither_averages_nor_perturbed_steps_wait_for_the_device(kind):
    method, model = objective("trades"), network()
    average, optimizer = WeightAverage(Averaging(kind="ema"), model), toys.sgd(model)

    def one_more(number):
        awp = settings() if kind == "awp" else None
        training_step(model, method, optimizer, batch(), context(1, number), toys.totals(method), awp=awp)
        if kind == "ema":
            average.after_step(model, 1)

    one_more(0)  # gradients, momentum and the average exist from here on
    with Operations() as seen:
        one_more(1)
    assert seen.waiting == []
