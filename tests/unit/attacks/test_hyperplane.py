"""The way onto a hyperplane in the unit box: shortest, exact, and never beyond it."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.fab_projections import projection_l2, projection_linf
from scipy.optimize import brentq, linprog

from fairbench.attacks.hyperplane import STEPS, level, onto_plane

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])
REFERENCE = {"linf": projection_linf, "l2": projection_l2}

pixel = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))
slope = st.one_of(st.sampled_from([0.0, 1.0, -1.0]), st.floats(-3, 3).filter(lambda w: abs(w) > 1e-3))
reach = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1.5, 1.5))  # beyond 1: no point of the box


@st.composite
def problems(draw):
    """A point (n,), a gradient (n,) and a value there; the plane misses the box now and then."""
    size = draw(st.integers(1, 9))
    point = torch.tensor(draw(st.lists(pixel, min_size=size, max_size=size)), dtype=torch.float64)
    normal = torch.tensor(draw(st.lists(slope, min_size=size, max_size=size)), dtype=torch.float64)
    share = draw(reach)
    wanted = (normal > 0) if share > 0 else (normal < 0)
    most = (
        normal * torch.where(wanted, point, point - 1)
    ).sum()  # the value's change on the way to the corner
    return point, normal, share * most.abs()


def move(point, normal, value, norm):
    return onto_plane(point[None, None], value[None, None], normal[None], norm)[0, 0]


def many(seed, size, rows=64):
    """Images with many pixels on the border of the box, as of digits, and planes in and out of reach."""
    generator = torch.Generator().manual_seed(seed)
    points = (torch.rand(rows, 1, size, generator=generator, dtype=torch.float64) * 2 - 0.5).clamp(0, 1)
    normal = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    value = torch.randn(rows, 1, generator=generator, dtype=torch.float64) * size / 4
    return points, value, normal


@NORMS
@pytest.mark.parametrize("size", [1, 2, 50, 800])
def test_moves_are_those_of_the_reference(norm, size):
    points, value, normal = many(size, size)
    plane = (normal * points[:, 0]).sum(1) - value[:, 0]
    expected = REFERENCE[norm](points[:, 0], normal, plane)
    torch.testing.assert_close(onto_plane(points, value, normal, norm)[:, 0], expected, rtol=1e-9, atol=1e-12)


@given(problems())
@settings(deadline=None, max_examples=60)
def test_no_linear_programme_finds_a_smaller_largest_move(problem):
    point, normal, value = problem
    found = move(point, normal, value, "linf")
    n = len(point)
    bounds = [(-p, 1 - p) for p in point.tolist()] + [(0, None)]
    below = torch.cat([torch.cat([torch.eye(n), -torch.eye(n)]), -torch.ones(2 * n, 1)], 1)
    plane = [[*normal.tolist(), 0.0]]
    best = linprog([0.0] * n + [1.0], below.tolist(), [0.0] * (2 * n), plane, [-value.item()], bounds)
    if best.success:
        assert found.abs().max() == pytest.approx(best.fun, abs=1e-7)
    else:
        assert_at_the_nearest_corner(point, normal, value, found)


@given(problems())
@settings(deadline=None, max_examples=100)
def test_l2_moves_follow_the_multiplier_of_their_plane(problem):
    point, normal, value = problem
    found = move(point, normal, value, "l2")

    def clipped(multiplier):
        return torch.clamp(point - multiplier * normal, 0, 1) - point

    def miss(multiplier):
        return (value + (normal * clipped(multiplier)).sum()).item()

    if miss(1e4) * miss(-1e4) < 0:
        best = clipped(brentq(miss, -1e4, 1e4, xtol=1e-14, maxiter=300))
        torch.testing.assert_close(found, best, rtol=0, atol=1e-9)
    elif value != 0:
        assert_at_the_nearest_corner(point, normal, value, found)


def assert_at_the_nearest_corner(point, normal, value, found):
    """As far as the box lets every coordinate with a slope go."""
    corner = torch.where(normal * value.sign() > 0, 0.0, 1.0)
    expected = torch.where(normal == 0, 0.0, corner - point)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@NORMS
@given(problem=problems())
@settings(deadline=None, max_examples=60)
def test_moves_stay_in_the_box_and_never_pass_the_plane(norm, problem):
    point, normal, value = problem
    found = move(point, normal, value, norm)
    assert (point + found).min() >= -1e-15
    assert (point + found).max() <= 1 + 1e-15
    assert (found[normal == 0] == 0).all()
    left = value + (normal * found).sum()
    assert left * value.sign() >= -1e-12


@NORMS
def test_points_on_the_plane_and_points_without_slope_stay(norm):
    points, value, normal = many(0, 20)
    assert (onto_plane(points, torch.zeros_like(value), normal, norm) == 0).all()
    assert (onto_plane(points, value, torch.zeros_like(normal), norm) == 0).all()


@NORMS
def test_several_points_of_a_plane_move_as_each_alone(norm):
    points, value, normal = many(1, 30)
    others = 1 - points
    values = torch.cat([value, -value], 1)
    together = onto_plane(torch.cat([points, others], 1), values, normal, norm)
    assert torch.equal(together[:, :1], onto_plane(points, value, normal, norm))
    assert torch.equal(together[:, 1:], onto_plane(others, -value, normal, norm))


def test_newton_comes_from_below_and_quarters_what_is_left_times_the_slope():
    size = 60  # rates and limits that span many orders of magnitude: the slowest kind
    rate = torch.logspace(0, -9, size, dtype=torch.float64)[None, None]
    limit = torch.logspace(-9, 9, size, dtype=torch.float64)[None, None]
    needed = (rate * limit).sum(-1) * 0.9
    found = [level(rate, limit, needed, steps) for steps in range(30)]
    left = [
        (needed[..., None] - (rate * torch.minimum(limit, t)).sum(-1, keepdim=True)).item() for t in found
    ]
    slope = [(rate * (limit > t)).sum().item() for t in found]
    assert all(before <= after for before, after in pairwise(found))
    assert min(left) >= -1e-12 * left[0]
    for k in range(1, len(found)):
        if left[k] > 1e-12 * left[0]:  # not yet rounding
            assert left[k] * slope[k] <= left[k - 1] * slope[k - 1] / 4
    assert left[-1] <= 1e-12 * left[0]


@pytest.mark.parametrize("size", [64, 784, 3072])
@NORMS
def test_a_network_s_worth_of_pixels_needs_fewer_steps_than_there_are(norm, size):
    points, value, normal = many(2, size)
    room = torch.where(value[..., None] * normal[:, None] > 0, points, 1 - points)
    slope = normal.abs()[:, None]
    rate, limit = (slope, room) if norm == "linf" else (slope**2, room / slope)
    enough = level(rate, limit, value.abs(), STEPS - 2)
    assert torch.equal(enough, level(rate, limit, value.abs(), 40))
