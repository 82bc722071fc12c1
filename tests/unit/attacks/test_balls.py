"""Balls: what projection, directions and starts promise, for both norms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import CPU

from fairbench.attacks.balls import BALLS, L2Ball, LinfBall
from fairbench.attacks.budget import Budget, excess, lengths
from fairbench.attacks.draws import Draws

BOTH = pytest.mark.parametrize("norm", ["linf", "l2"])
SHAPE = (5, 2, 3, 3)


def drawn(seed, dtype=torch.float64):
    """Images in [0, 1], and others far from them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(SHAPE, generator=generator, dtype=dtype)
    return x, x + torch.randn(SHAPE, generator=generator, dtype=dtype)


@BOTH
@given(st.integers(0, 1000), st.floats(0, 3))
@settings(deadline=None, max_examples=30)
def test_projection_leads_inside_and_leaves_alone_what_is_inside(norm, seed, eps):
    x, away = drawn(seed)
    ball = BALLS[norm](x, eps)
    once = ball.project(away)
    assert (excess(x, once, Budget(eps, 0.0, 0, norm)) <= 1e-12).all()
    assert (ball.project(once) - once).abs().max() < 1e-11
    assert (ball.project(x) - x).abs().max() == 0


@BOTH
@pytest.mark.parametrize("eps", [0.05, 1.0, 8.0])
def test_images_of_single_precision_leave_the_ball_by_less_than_the_tolerance(norm, eps):
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    away = x + Draws(1, CPU).normal(x)
    inside = BALLS[norm](x, eps).project(away)
    assert (excess(x, inside, Budget(eps, 0.0, 0, norm)) <= 1e-6).all()


def test_projection_to_the_l2_ball_keeps_the_direction_and_goes_no_further_than_needed():
    x = torch.full(SHAPE, 0.5, dtype=torch.float64)  # no pixel is clipped
    away = x + 0.1 * Draws(0, CPU).normal(x)
    inside = L2Ball(x, 0.2).project(away) - x
    assert (lengths(inside, "l2") - 0.2).abs().max() < 1e-11
    ratio = inside / (away - x)
    assert (ratio - ratio[:, :1, :1, :1]).abs().max() < 1e-11


def test_projection_to_the_linf_ball_equals_projecting_and_then_clipping():
    x, away = drawn(0)
    twice = torch.clamp(torch.minimum(torch.maximum(away, x - 0.3), x + 0.3), 0, 1)
    assert torch.equal(LinfBall(x, 0.3).project(away), twice)


@BOTH
def test_every_image_can_have_its_own_radius(norm):
    x, away = drawn(0)
    eps = torch.tensor([0.0, 0.1, 0.2, 0.3, 5.0])
    whole = BALLS[norm](x, eps)
    for b, radius in enumerate(eps.double().tolist()):
        alone = BALLS[norm](x[b : b + 1], radius)
        assert (whole.project(away)[b] - alone.project(away[b : b + 1])[0]).abs().max() < 1e-12
    for start in (whole.uniform(Draws(0, CPU)), whole.surface(Draws(0, CPU))):
        assert (lengths(start, norm).flatten() <= eps * (1 + 1e-6)).all()
        assert start[0].abs().max() == 0


@BOTH
@given(st.integers(0, 1000), st.floats(1e-6, 1e6))
@settings(deadline=None, max_examples=30)
def test_no_step_of_length_one_climbs_more_than_the_steepest(norm, seed, scale):
    x, away = drawn(seed)
    ball, gradient = BALLS[norm](x, 1.0), scale * (away - x)
    steepest = ball.steepest(gradient)
    assert (lengths(steepest, norm) - 1).abs().max() < 1e-5  # 1e-12 is added to the smallest length
    climb = (gradient * steepest).flatten(1).sum(1)
    for other in range(5):
        step = BALLS[norm](x, 1.0).surface(Draws(other, CPU))
        assert ((gradient * step).flatten(1).sum(1) <= climb * (1 + 1e-5)).all()


@BOTH
def test_nothing_has_no_direction(norm):
    x, _ = drawn(0)
    assert torch.equal(BALLS[norm](x, 1.0).steepest(torch.zeros_like(x)), torch.zeros_like(x))


@BOTH
def test_starts_on_the_surface_have_exactly_the_radius(norm):
    x, _ = drawn(0)
    assert (lengths(BALLS[norm](x, 0.7).surface(Draws(0, CPU)), norm) - 0.7).abs().max() < 1e-10


@BOTH
def test_starts_in_the_ball_are_uniform(norm):
    """Of n dimensions, a share r^n lies within r of the middle, and every direction is as likely."""
    n, many = 4, 40000
    x = torch.zeros(many, 1, 2, 2, dtype=torch.float64)
    start = BALLS[norm](x, 0.5).uniform(Draws(0, CPU)).flatten(1)
    share = (lengths(start.view_as(x), norm).flatten() / 0.5) ** n
    assert (share <= 1 + 1e-12).all()
    expected = torch.linspace(0, 1, many + 1, dtype=torch.float64)[1:]
    assert (share.sort().values - expected).abs().max() < 1.63 / many**0.5  # Kolmogorov, 1 %
    assert start.mean(0).abs().max() < 0.01
    spread = start.T @ start / many
    assert (spread - spread.diagonal().mean() * torch.eye(n)).abs().max() < 0.002
    assert ((start > 0).double().mean(0) - 0.5).abs().max() < 0.01
