"""Projected gradient ascent and budgets: optimum, reach, projection, starts, observers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toys import CPU, batch, network

from fairbench.attacks.budget import Budget, excess, per_image
from fairbench.attacks.draws import Draws
from fairbench.attacks.pgd import GAUSSIAN_SCALE, pgd
from fairbench.objectives.losses import cross_entropy

STARTS = ["none", "gaussian", "gaussian-clipped", "uniform", "uniform-unclipped"]


def draws(seed=0):
    return Draws(seed, CPU)


def run(model, given, budget, start="none", loss=None, **options):
    model.eval()
    loss = loss or (lambda logits: cross_entropy(logits, given.y))
    return pgd(model, given.x, loss, budget=budget, start=start, rng=draws(), **options)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("num_steps", [1, 5])
def test_iterates_stay_in_each_samples_ball_and_in_the_unit_range(start, num_steps):
    given = batch()
    eps = torch.linspace(0, 0.3, 12, dtype=torch.float64)
    x_adv = run(network(), given, Budget(eps, 0.1, num_steps), start)
    assert ((x_adv - given.x).abs().flatten(1).amax(1) <= eps.float() + 1e-7).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert (excess(given.x, x_adv, Budget(eps, 0.1, 1)) <= 1e-7).all()


@pytest.mark.parametrize("start", STARTS)
def test_linear_two_class_model_reaches_the_analytic_optimum(start):
    model, eps = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), 0.05
    with torch.no_grad():
        model[1].weight.copy_(draws().normal(model[1].weight))
    given = batch(num_classes=2)
    images = 0.3 + 0.4 * given.x  # away from the pixel bounds
    direction = (model[1].weight[1] - model[1].weight[0]).sign().view(1, 3, 8, 8)
    towards_the_other = torch.where(given.y.view(-1, 1, 1, 1) == 0, direction, -direction)
    x_adv = pgd(
        model,
        images,
        lambda logits: cross_entropy(logits, given.y),
        budget=Budget(eps, eps / 2, 5),
        start=start,
        rng=draws(),
    )
    torch.testing.assert_close(x_adv, (images + eps * towards_the_other).detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("start", STARTS)
def test_linear_two_class_model_reaches_the_analytic_optimum_of_the_l2_ball(start):
    model, eps = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), 0.4
    with torch.no_grad():
        model[1].weight.copy_(draws().normal(model[1].weight))
    given = batch(num_classes=2)
    images = 0.3 + 0.4 * given.x  # away from the pixel bounds
    towards_one = (model[1].weight[1] - model[1].weight[0]).view(1, 3, 8, 8).detach()
    towards_the_other = torch.where(given.y.view(-1, 1, 1, 1) == 0, towards_one, -towards_one)
    x_adv = pgd(
        model,
        images,
        lambda logits: cross_entropy(logits, given.y),
        budget=Budget(eps, eps / 2, 30, "l2"),
        start=start,
        rng=draws(),
    )
    torch.testing.assert_close(
        x_adv, images + eps * towards_the_other / towards_one.norm(), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("start", STARTS)
def test_iterates_stay_in_each_samples_l2_ball_and_in_the_unit_range(start):
    given = batch()
    eps = torch.linspace(0, 0.9, 12, dtype=torch.float64)
    x_adv = run(network(), given, Budget(eps, 0.2, 5, "l2"), start)
    assert ((x_adv - given.x).flatten(1).norm(dim=1) <= eps.float() + 1e-6).all()
    assert (excess(given.x, x_adv, Budget(eps, 0.0, 0, "l2")) <= 1e-6).all()
    assert (excess(given.x, x_adv, Budget(eps, 0.0, 0)) <= 0).all()  # the Linf ball of that radius is wider


def test_one_step_in_the_l2_ball_has_the_length_of_the_step_size():
    given = batch()
    given.x.mul_(0.4).add_(0.3)
    x_adv = run(network(), given, Budget(0.5, 0.1, 1, "l2"))
    torch.testing.assert_close((x_adv - given.x).flatten(1).norm(dim=1), torch.full((12,), 0.1))


def test_uniform_starts_in_the_l2_ball_are_clipped_where_asked():
    given = batch()
    clipped = run(network(), given, Budget(3.0, 0.1, 0, "l2"), "uniform")
    free = run(network(), given, Budget(3.0, 0.1, 0, "l2"), "uniform-unclipped")
    assert torch.equal(clipped, free.clamp(0, 1))
    assert not torch.equal(clipped, free)
    assert ((free - given.x).flatten(1).norm(dim=1) > 2.8).all()  # in 192 dimensions most lies outside


def test_steps_reach_no_further_than_their_sum():
    given = batch()
    x_adv = run(network(), given, Budget(1.0, 0.01, 4))
    assert (x_adv - given.x).abs().max() <= 0.04 + 1e-6


def test_untargeted_attack_raises_the_loss_and_targeted_lowers_it():
    given, model = batch(), network()
    target = draws().other_class(given.y, 4)
    model.eval()
    up = run(model, given, Budget(0.1, 0.02, 5))
    down = run(model, given, Budget(0.1, 0.02, 5), loss=lambda logits: -cross_entropy(logits, target))
    with torch.no_grad():
        assert (cross_entropy(model(up), given.y) > cross_entropy(model(given.x), given.y)).all()
        assert (cross_entropy(model(down), target) < cross_entropy(model(given.x), target)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("start", STARTS)
def test_radius_zero_gives_the_images_back(start, norm):
    given = batch()
    assert torch.equal(run(network(), given, Budget(0.0, 0.1, 1, norm), start), given.x)


def test_no_steps_give_the_start():
    given, model = batch(), network()
    noise = draws().normal(given.x)
    assert torch.equal(run(model, given, Budget(0.1, 0.1, 0)), given.x)
    assert torch.equal(run(model, given, Budget(0.1, 0.1, 0), "gaussian"), given.x + GAUSSIAN_SCALE * noise)
    assert GAUSSIAN_SCALE == 0.001


def test_uniform_starts_fill_the_ball_and_only_one_is_clipped():
    given, model = batch(), network()
    clipped = run(model, given, Budget(0.5, 0.1, 0), "uniform")
    free = run(model, given, Budget(0.5, 0.1, 0), "uniform-unclipped")
    assert torch.equal(clipped, free.clamp(0, 1))
    assert free.min() < 0
    assert free.max() > 1
    assert 0.49 < (free - given.x).abs().max() <= 0.5


def test_a_clipped_gaussian_start_is_the_gaussian_one_inside_range_and_ball():
    given, seen = batch(), []
    given.x[0], given.x[1] = 0.0, 1.0
    for start, eps in (("gaussian", 0.5), ("gaussian-clipped", 0.5), ("gaussian-clipped", 0.0005)):
        run(
            network(),
            given,
            Budget(eps, 0.1, 1),
            start,
            observe=lambda k, x, logits: seen.append(x),
        )
    free, clipped, tight = seen
    assert free.min() < 0
    assert free.max() > 1
    assert torch.equal(clipped, free.clamp(0, 1))
    assert not torch.equal(tight, clipped)
    assert ((tight - given.x).abs() <= 0.0005 + 1e-7).all()


def test_a_second_step_goes_along_the_same_gradient_into_its_own_ball():
    given, model, large = batch(), network(), Budget(1.0, 0.1, 1)
    plain = run(model, given, Budget(1.0, 0.3, 1))
    twice = run(model, given, large, then=Budget(1.0, 0.2, 99))  # one gradient per step of the first
    torch.testing.assert_close(twice, plain)
    cut = run(model, given, large, then=Budget(0.04, 0.2, 1))
    torch.testing.assert_close(cut, torch.clamp(plain, given.x - 0.04, given.x + 0.04))
    first = run(model, given, Budget(0.05, 0.1, 1), then=Budget(0.3, 0.2, 1))
    torch.testing.assert_close((first - given.x).abs().amax(), torch.tensor(0.25))


def test_who_stands_still_keeps_the_iterate_that_the_observer_saw():
    given, model, seen = batch(), network(), []
    last = torch.arange(12) % 4  # sample b moves in steps before last[b]

    def stop(k, x, logits):
        seen.append(x)
        return k < last

    x_adv = run(model, given, Budget(0.1, 0.02, 4), observe=stop)
    free = [run(model, given, Budget(0.1, 0.02, k)) for k in range(4)]
    for b, k in enumerate(last):
        assert torch.equal(x_adv[b], free[int(k)][b])
        assert all(torch.equal(x[b], x_adv[b]) for x in seen[int(k) :])


def test_a_gradient_of_zero_moves_nothing():
    given = batch()
    assert torch.equal(run(network(), given, Budget(0.1, 0.1, 2), loss=lambda z: 0 * z.sum(1)), given.x)


def test_observer_sees_each_iterate_before_its_step_with_its_outputs():
    given, model, seen = batch(), network(), []
    run(
        model,
        given,
        Budget(0.1, 0.02, 4),
        observe=lambda k, x, logits: seen.append((k, x, logits)),
    )
    assert [k for k, _, _ in seen] == [0, 1, 2, 3]
    assert torch.equal(seen[0][1], given.x)
    for k, x, logits in seen:
        assert torch.equal(x, run(model, given, Budget(0.1, 0.02, k)))
        torch.testing.assert_close(model(x), logits)
        assert not x.requires_grad
        assert not logits.requires_grad


def test_attack_works_where_gradients_are_switched_off_and_spares_the_parameters():
    given, model = batch(), network()
    with torch.no_grad():
        inside = run(model, given, Budget(0.1, 0.02, 2))
    assert torch.equal(inside, run(model, given, Budget(0.1, 0.02, 2)))
    assert all(p.grad is None for p in model.parameters())


def test_the_attack_of_one_image_does_not_depend_on_the_others():
    given, model = batch().x.double(), network().double()
    model.eval()
    label, budget = batch().y, Budget(0.1, 0.02, 3)

    def attack(rows):
        return pgd(
            model,
            given[rows],
            lambda logits: cross_entropy(logits, label[rows]),
            budget=budget,
            start="none",
            rng=draws(),
        )

    whole = attack(slice(None))
    torch.testing.assert_close(torch.cat([attack(slice(0, 5)), attack(slice(5, None))]), whole)


# Budgets


@given(st.integers(0, 1000), st.floats(0, 0.5))
@settings(deadline=None, max_examples=30)
def test_projection_is_idempotent_and_what_it_gives_has_no_excess(seed, eps):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 1, 2, 2, generator=generator)
    away = x + torch.randn(3, 1, 2, 2, generator=generator)

    def project(images):
        return torch.clamp(images, (x - eps).clamp(0, 1), (x + eps).clamp(0, 1))

    once = project(away)
    assert torch.equal(project(once), once)
    assert (excess(x, once, Budget(eps, 0.0, 0)) <= 1e-7).all()


def test_excess_says_how_far_each_sample_is_outside():
    x = torch.full((4, 1, 1, 1), 0.95)
    x_adv = torch.tensor([0.95, 0.75, 1.02, float("nan")]).view(4, 1, 1, 1)
    found = excess(x, x_adv, Budget(torch.tensor([0.1, 0.1, 0.1, 0.1]), 0.0, 0))
    assert found[:3].tolist() == pytest.approx([-0.05, 0.1, 0.02], abs=1e-6)
    assert found[3].isnan()
    assert excess(x, x - 0.1, Budget(-0.1, 0.0, 0)).max() <= 1e-7  # the size of the radius counts
    pair = torch.tensor([[0.3, 0.4], [0.0, 0.0], [0.0, -0.6]]).view(3, 1, 1, 2)
    found = excess(x[:3].expand(3, 1, 1, 2) - 0.5, x[:3] - 0.5 + pair, Budget(0.4, 0.0, 0, "l2"))
    assert found.tolist() == pytest.approx([0.1, -0.4, 0.2], abs=1e-6)


def test_scaling_a_budget_scales_radius_and_step_or_the_radius_alone():
    factor = torch.tensor([0.0, 1.0, 2.0])
    both, radius = (Budget(0.1, 0.02, 7).scale(factor, step=step) for step in (True, False))
    assert torch.equal(both.eps, 0.1 * factor)
    assert torch.equal(both.step_size, 0.02 * factor)
    assert torch.equal(radius.eps, both.eps)
    assert radius.step_size == 0.02
    assert both.num_steps == 7
    assert Budget(0.1, 0.02, 7, "l2").scale(factor).norm == "l2"


def test_values_per_sample_are_shaped_and_typed_like_the_images():
    images = torch.zeros(3, 1, 2, 2)
    value = per_image(torch.ones(3, dtype=torch.float64), images)
    assert value.shape == (3, 1, 1, 1)
    assert value.dtype == torch.float32
    assert per_image(0.5, images) == 0.5
