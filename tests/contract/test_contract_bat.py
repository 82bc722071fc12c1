"""BAT's laws: which iterates it keeps, what pairs with what, and its limits."""

import copy
import math
from dataclasses import replace

import fairbench_methods.bat
import pytest
import torch
import toys
from toys import batch, context, loss_of, network, objective

from fairbench.api import Budget, losses
from fairbench.attacks.pgd import pgd
from fairbench.core.errors import ConfigError

Boundary = fairbench_methods.bat.Boundary
NUM_STEPS = 10
SCRIPTS = [  # wrong iterates -> (last clean, first adversarial with tau = 1, with tau = 0)
    ((), (10, 10, 10)),
    (range(3, 10), (2, 4, 3)),
    (range(10), (0, 1, 0)),
    ((9,), (8, 10, 9)),
    ((2, 6), (1, 6, 2)),
    ((0,), (0, 10, 0)),
]


def kept(scripts, tau):
    """(last clean, first adversarial) of attacks that are wrong at the scripted iterates, in one batch."""
    size = len(scripts)
    label = torch.arange(size) % 3
    x = torch.full((size, 1, 2, 2), -1.0)
    seen = Boundary(x, label, tau)
    for k in range(NUM_STEPS):
        wrong = torch.tensor([k in script for script in scripts])
        predicted = torch.where(wrong, (label + 1) % 3, label)
        logits = torch.nn.functional.one_hot(predicted, 3).float()
        seen(k, torch.full_like(x, k), logits)
    end = torch.full_like(x, NUM_STEPS)
    images = seen.last_clean(end), seen.first_adversarial(end)
    assert all((image == image[:, :1, :1, :1]).all() for image in images)
    return [image[:, 0, 0, 0].int().tolist() for image in images]


@pytest.mark.parametrize(("wrong", "expected"), SCRIPTS)
def test_selection_rule_on_scripted_attacks(wrong, expected):
    assert kept([wrong], tau=1) == [[expected[0]], [expected[1]]]
    assert kept([wrong], tau=0) == [[expected[0]], [expected[2]]]


def test_selection_treats_each_sample_of_a_batch_by_itself():
    scripts, expected = zip(*SCRIPTS, strict=True)
    for tau, column in ((1, 1), (0, 2)):
        first_adversarial = [row[column] for row in expected]
        assert kept(scripts, tau) == [[row[0] for row in expected], first_adversarial]


@pytest.mark.parametrize("tau", [0, 1, 2, 9, 10, 30])
def test_selection_is_the_definition_for_every_script(tau):
    generator = torch.Generator().manual_seed(tau)
    table = torch.rand(200, NUM_STEPS, generator=generator) < torch.rand(200, 1, generator=generator)
    scripts = [row.nonzero().flatten().tolist() for row in table]
    last_clean, first_adversarial = kept(scripts, tau)
    for wrong, before, after in zip(scripts, last_clean, first_adversarial, strict=True):
        assert before == (max(wrong[0] - 1, 0) if wrong else NUM_STEPS)
        assert after == (wrong[tau] if len(wrong) > tau else NUM_STEPS)


BUDGET = Budget(0.3, 0.06, NUM_STEPS)


def trained(num_classes=4):
    """A network in float64 that is right about most images and fooled on the way."""
    model, given = toys.settled(num_classes).double(), double(batch(32, num_classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        losses.cross_entropy(model(given.x), given.y).mean().backward()
        optimizer.step()
    model.zero_grad()
    return model, given


def double(given):
    return replace(given, x=given.x.double())


def iterates(model, given, purpose, ctx):
    """All K + 1 iterates of BAT's attack: (K + 1, B, ...) images and predictions."""
    model.eval()
    aim, path = losses.kl_to_clean(model, given.x), []
    end = pgd(
        model,
        given.x,
        aim,
        budget=BUDGET,
        start="gaussian-clipped",
        rng=ctx.rng(purpose),
        observe=lambda k, x, logits: path.append(x),
    )
    path = torch.stack([*path, end])
    return path, torch.stack([model(x).argmax(1) for x in path])


def test_images_are_those_of_a_loop_over_samples():
    model, given = trained()
    ctx, bat = context(budget=BUDGET), objective("bat")
    images = toys.adversary(bat, model, given, ctx)
    kinds = set()
    last, last_predicted = iterates(model, given, "attack-last-clean", ctx)
    first, first_predicted = iterates(model, given, "attack", ctx)
    for b, y in enumerate(given.y):
        wrong = (last_predicted[:NUM_STEPS, b] != y).nonzero().flatten().tolist()
        k = NUM_STEPS if not wrong else max(wrong[0] - 1, 0)
        torch.testing.assert_close(images["last_clean"][b], last[k, b], rtol=0, atol=1e-9)
        wrong = (first_predicted[:NUM_STEPS, b] != y).nonzero().flatten().tolist()
        k = NUM_STEPS if len(wrong) < 2 else wrong[1]
        torch.testing.assert_close(images["first_adversarial"][b], first[k, b], rtol=0, atol=1e-9)
        kinds.add(min(len(wrong), 2))
    assert {0, 2} <= kinds


def test_last_clean_is_right_and_first_adversarial_wrong_where_the_attack_crossed_the_boundary():
    model, given = trained()
    images = toys.adversary(objective("bat", shared_trajectory=True), model, given, context(budget=BUDGET))
    path, predicted = iterates(model, given, "attack", context(budget=BUDGET))
    wrong = predicted[:NUM_STEPS] != given.y
    crossed, twice = wrong.any(0) & ~wrong[0], wrong.sum(0) >= 2
    assert crossed.any()
    assert twice.any()
    with torch.no_grad():
        assert (model.eval()(images["last_clean"]).argmax(1) == given.y)[crossed].all()
        assert (model(images["first_adversarial"]).argmax(1) != given.y)[twice].all()
    never = ~wrong.any(0)
    assert never.any()
    assert torch.equal(images["last_clean"][never], path[-1][never])


def test_two_attacks_have_their_own_noise_and_one_has_not():
    model, given = trained()
    still = Budget(0.1, 0.0, 1)
    separate, shared = (
        toys.adversary(objective("bat", shared_trajectory=one), model, given, context(budget=still))
        for one in (False, True)
    )
    assert (separate["last_clean"] - separate["first_adversarial"]).abs().flatten(1).amax(1).min() > 0
    assert torch.equal(shared["last_clean"], shared["first_adversarial"])
    assert torch.equal(shared["first_adversarial"], separate["first_adversarial"])


@pytest.mark.parametrize(("shared", "forwards"), [(False, 1 + 2 * 3), (True, 1 + 3)])
def test_one_trajectory_halves_the_work_of_the_attack(shared, forwards):
    model, count = network(), []
    model.register_forward_hook(lambda *_: count.append(1))
    toys.adversary(objective("bat", shared_trajectory=shared), model, batch(), context())
    assert len(count) == forwards


def test_permuting_the_batch_permutes_images_and_terms():
    model, given = trained()
    order = torch.randperm(len(given.y), generator=torch.Generator().manual_seed(0))
    bat = objective("bat")

    class Ordered:  # each image keeps its own noise
        def __init__(self, draws, order):
            self.draws, self.order = draws, order

        def normal(self, like):
            return self.draws.normal(like)[self.order]

    ctx, found = context(budget=BUDGET), []
    for rows in (torch.arange(len(order)), order):
        mine = replace(given, x=given.x[rows], y=given.y[rows], index=rows)
        its = replace(ctx, rng=lambda purpose, rows=rows: Ordered(ctx.rng(purpose), rows))
        twin = copy.deepcopy(model)  # the loss moves BatchNorm's running statistics
        images = toys.adversary(bat, twin, mine, its)
        found.append({**images, **loss_of(bat, twin, mine, images).terms})
    for name, value in found[0].items():
        torch.testing.assert_close(value[order], found[1][name], rtol=1e-9, atol=1e-9, msg=name)


# The loss


def test_gamma_zero_with_the_clean_and_the_full_strength_image_is_trades():
    given, model = batch(), network()
    x_adv = toys.adversary(objective("trades"), model, given, context())
    trades = loss_of(objective("trades"), model, given, x_adv)
    images = {"last_clean": given.x, "first_adversarial": x_adv}
    bat = loss_of(objective("bat", gamma=0.0), model, given, images)
    assert torch.equal(bat.total(), trades.total())
    assert torch.equal(bat.terms["robust"], trades.terms["robust"])
    with_uniform = loss_of(objective("bat"), model, given, images)
    assert with_uniform.total() > bat.total()


def test_uniform_terms_are_log_c_minus_the_entropy():
    logits = 3 * torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    probability = logits.softmax(1)
    entropy = -(probability * probability.log()).sum(1)
    found = losses.kl_to_uniform(logits)
    torch.testing.assert_close(found, math.log(5) - entropy)
    assert found.min() > 0
    torch.testing.assert_close(losses.kl_to_uniform(torch.full((2, 7), 3.0)), torch.zeros(2))
    certain = torch.tensor([[500.0, 0.0, 0.0]])
    torch.testing.assert_close(losses.kl_to_uniform(certain), torch.tensor([math.log(3)]))


def test_each_term_is_of_its_own_image():
    given, model = batch(), network()
    generator = torch.Generator().manual_seed(0)
    images = {
        name: torch.rand(given.x.shape, generator=generator) for name in ("last_clean", "first_adversarial")
    }
    terms = loss_of(objective("bat", beta=2.0, gamma=3.0), model, given, images)
    last, first, clean = (model(x) for x in (*images.values(), given.x))
    expected = {
        "clean": losses.cross_entropy(last, given.y),
        "robust": 2 * losses.kl(clean, first),
        "uniform_last_clean": 3 * losses.kl_to_uniform(last),
        "uniform_first_adversarial": 3 * losses.kl_to_uniform(first),
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms.terms[name], value, msg=name)
    torch.testing.assert_close(terms.logits, clean.detach())
    torch.testing.assert_close(terms.logits_adv, first.detach())


@pytest.mark.parametrize("option", ["beta", "tau", "gamma"])
def test_negative_options_are_refused(option):
    with pytest.raises(ConfigError, match=f"{option} is -1, expected at least 0"):
        objective("bat", **{option: -1})
