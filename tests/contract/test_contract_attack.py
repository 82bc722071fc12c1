"""What every registered method promises about its adversary: budget, BatchNorm, parameters, purity."""

import copy
from dataclasses import replace

import pytest
import torch
import toys
from toys import BUDGET, METHODS, batch, context, network, objective, one_step, weigh

from fairbench.api import losses
from fairbench.attacks.budget import Budget
from fairbench.attacks.frozen import frozen

WEIGHTS = {"ones": (1.0, 1.0, 1.0, 1.0), "from zero to two": (0.0, 2.0, 0.5, 1.5)}
EVERY_METHOD = pytest.mark.parametrize("name", METHODS)
STOPPING = {"bat"}  # some of their images come from attacks that stop early
OWN_STEP = {"frl", "frl-2021"}  # the step follows from the radius, not from the protocol's step
# Train-mode forwards where they are not adversarial, clean.
FORWARDS = {
    "pgd-at": ["adversarial"],
    "mart": ["clean", "adversarial"],
    "bat": ["adversarial", "adversarial", "clean"],
    "dafa-pgd": ["adversarial"],
    "cfa-at": ["adversarial"],
    "cfol": ["adversarial"],
    "cfol-reweight": ["adversarial"],
    "cfa-fat": ["adversarial"],
    "fairtat-at": [*["adversarial"] * BUDGET.num_steps, "adversarial"],  # its attack is in train mode
}


def attacked(name, given, budget=BUDGET, weight=WEIGHTS["ones"], model=None, **options):
    """(x_adv, its budget) in the attack mode of the trainer; (N, B, ...) for N kinds of image."""
    method = weigh(objective(name, **options), *weight)
    ctx = context(budget=budget)
    ctx = replace(ctx, budget=method.budget(given.y, ctx))
    model = model or network()
    with frozen(model, method.resolved_needs().attack_bn):
        return toys.stacked(method.perturb(model, given, ctx)), ctx.budget


def distance(x_adv, given):
    return (x_adv - given.x).abs().amax((-3, -2, -1))


@pytest.mark.parametrize("name", [name for name in METHODS if name not in OWN_STEP])
def test_class_weights_scale_radius_and_step(name):
    given = batch()
    _, budget = attacked(name, given, weight=WEIGHTS["from zero to two"])
    scaled = name.startswith(("dafa", "trix"))
    factor = torch.tensor(WEIGHTS["from zero to two"], dtype=torch.float64)[given.y] if scaled else 1.0
    for found, base in ((budget.eps, BUDGET.eps), (budget.step_size, BUDGET.step_size)):
        expected = torch.as_tensor(base * factor, dtype=torch.float64).expand(len(given))
        assert torch.equal(torch.as_tensor(found, dtype=torch.float64).expand(len(given)), expected)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in STOPPING | OWN_STEP])
def test_each_sample_reaches_its_own_radius_when_the_steps_suffice(name):
    given = batch()
    x_adv, budget = attacked(name, given, weight=(0.5, 2.0, 0.5, 1.5))
    radius = torch.as_tensor(budget.eps).expand(len(given)).float()
    torch.testing.assert_close(distance(x_adv, given), radius, rtol=0, atol=1e-6)


@EVERY_METHOD
def test_a_class_of_weight_zero_keeps_its_clean_images(name):
    given = batch()
    x_adv, budget = attacked(name, given, weight=(0.0, 2.0, 0.5, 1.5))
    still = torch.as_tensor(budget.eps).expand(len(given)) == 0
    assert (x_adv == given.x)[..., still, :, :, :].all()


@EVERY_METHOD
def test_radius_zero_returns_the_images(name):
    given = batch()
    assert (attacked(name, given, Budget(0.0, 0.01, 2))[0] == given.x).all()


@pytest.mark.parametrize("name", [name for name in METHODS if name not in OWN_STEP])
def test_adversary_moves_no_further_than_its_steps_from_its_start(name):
    given = batch()
    start, _ = attacked(name, given, Budget(0.1, 0.0, 1))  # projected
    x_adv, _ = attacked(name, given, Budget(0.1, 0.01, 3))
    assert (x_adv - start).abs().max() <= 3 * 0.01 + 1e-6


@pytest.mark.parametrize("name", ["trades", "dafa", "pgd-at"])
def test_untargeted_attack_raises_its_loss_and_targeted_lowers_it(name):
    given, model = batch(), network()
    start, _ = attacked(name, given, Budget(0.1, 0.0, 1), model=model)
    end, _ = attacked(name, given, model=model)
    model.eval()
    with torch.no_grad():
        clean = model(given.x)
        if name == "pgd-at":
            before, after = (losses.cross_entropy(model(x), given.y) for x in (start, end))
        else:
            before, after = (losses.kl(clean, model(x)) for x in (start, end))
    assert after.sum() > before.sum()
    assert (after >= before).float().mean() > 0.9


def test_targeted_attack_lowers_the_cross_entropy_to_its_target():
    given, model = batch(), network()
    target = context().rng("target").other_class(given.y, 4)
    end, _ = attacked("targeted-trades", given, model=model)
    model.eval()
    with torch.no_grad():
        before, after = (losses.cross_entropy(model(x), target) for x in (given.x, end))
    assert (after < before).all()


def test_mixed_attack_treats_each_sample_as_its_own_mask_says():
    given, model = batch(), network()
    mixed, _ = attacked("trix", given, model=model)
    untargeted, _ = attacked("trades", given, model=model)
    targeted, _ = attacked("targeted-trades", given, model=model)
    model.eval()
    mask = objective("trix").targeted(model(given.x), given.y, context())
    assert mask.any()
    assert not mask.all()
    assert torch.equal(mixed[mask], targeted[mask])
    assert torch.equal(mixed[~mask], untargeted[~mask])


def test_attack_in_train_mode_updates_batch_norm_once_per_step():
    model = network()
    attacked("pgd-at", batch(), model=model, attack_bn="train")
    assert int(model.bn1.num_batches_tracked) == BUDGET.num_steps


def test_frozen_restores_train_mode_and_frozen_parameters_after_an_error():
    model = network()
    model.fc.bias.requires_grad_(False)

    def fail():
        with frozen(model):
            assert not model.training
            assert not any(p.requires_grad for p in model.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert model.training
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["fc.bias"]


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        *((name, {}, FORWARDS.get(name, ["adversarial", "clean"])) for name in METHODS),
        *(
            (name, {"bn_order": "clean-adv-clean"}, ["clean", "adversarial", "clean"])
            for name in ("trades", "targeted-trades", "dafa", "trix", "frl", "cfa", "fairtat")
        ),
        ("wat", {"bn_order": "clean-adv"}, ["clean", "adversarial"]),
        *(
            (name, {"attack_bn": "train"}, ["adversarial"] * (BUDGET.num_steps + more))
            for name, more in (("pgd-at", 1), ("cfa-at", 1), ("cfa-fat", 2), ("fairtat-at", 1))
        ),
        ("cfa", {"log_forwards": True}, ["adversarial", "clean", "clean"]),
        ("fairtat-at", {"attack_bn": "eval", "log_forwards": True}, ["adversarial", "clean", "clean"]),
    ],
)
def test_train_mode_forwards_of_a_step_come_in_the_published_order(name, options, order):
    given, model, seen = batch(), network(), []

    def watch(module, arguments):
        if module.training:
            seen.append("clean" if torch.equal(arguments[0], given.x) else "adversarial")

    model.register_forward_pre_hook(watch)
    one_step(objective(name, **options), model, given)
    assert seen == order
    assert int(model.bn1.num_batches_tracked) == len(order)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


@EVERY_METHOD
def test_loss_on_a_copy_of_the_model_leaves_the_original_alone(name):
    method, given, model = objective(name), batch(), network()
    before = toys.copied(model.state_dict())
    other = copy.deepcopy(model)
    x_adv = toys.adversary(method, copy.deepcopy(model), given, context())
    toys.loss_of(method, other, given, x_adv).total().backward()
    toys.assert_same(model.state_dict(), before)
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in other.parameters())


@pytest.mark.parametrize("name", ["trades", "dafa", "trix"])
def test_gradient_flows_through_the_clean_side_of_the_divergence(name):
    given, model = batch(), network()
    x_adv, _ = attacked(name, given, model=model)
    terms = toys.loss_of(objective(name), model, given, x_adv)
    both = torch.autograd.grad(terms.reduced()["robust"], model.fc.weight)[0]
    detached = 6.0 * losses.kl(model(given.x).detach(), model(x_adv)).mean()
    one = torch.autograd.grad(detached, model.fc.weight)[0]
    assert not torch.allclose(both, one, rtol=1e-3)
