"""The worst class distribution of each form against scipy's optimisers, and its properties."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from fairbench.api import classes
from fairbench.objectives.class_adversary import worst_distribution

BALLS = ("kl", "chi2", "cvar")
FORMS = (*BALLS, "entropic", "max")
RADII = st.sampled_from([1e-3, 0.05, 0.1, 0.5, 1.0, 3.0, 10.0])
RISKS = st.lists(st.integers(-64, 64), min_size=2, max_size=14).map(
    lambda values: torch.tensor(values, dtype=torch.float64) / 64
)
few = settings(deadline=None, max_examples=60)


@st.composite
def problems(draw):
    """Risks (C,) and the classes present, at least one."""
    risk = draw(RISKS)
    flags = draw(st.lists(st.booleans(), min_size=len(risk), max_size=len(risk)))
    flags[draw(st.integers(0, len(risk) - 1))] = True
    return risk, torch.tensor(flags)


def uniform(present):
    return present.double() / present.sum().double()


def distance(form, p):
    """How far p is from the uniform distribution over its classes, as the form measures it."""
    q = 1 / len(p)
    if form == "kl":
        return float((q * np.log(q / p)).sum())
    return float((p - q) @ (p - q) * len(p)) if form == "chi2" else float((p / q).max() - 1)


def by_scipy(risk, radius, form):
    """The largest value that a general optimiser finds."""
    size = len(risk)
    if form == "cvar":
        bound = (1 + radius) / size
        return -linprog(-risk, A_eq=np.ones((1, size)), b_eq=[1], bounds=[(0, bound)] * size).fun
    q = np.full(size, 1 / size)
    sums_to_one = {"type": "eq", "fun": lambda p: p.sum() - 1}
    near = {"type": "ineq", "fun": lambda p: radius - distance(form, p)}
    smallest = 1e-12 if form == "kl" else 0.0
    found = minimize(
        lambda p: -(p @ risk),
        q,
        jac=lambda p: -risk,
        bounds=[(smallest, 1)] * size,
        constraints=[sums_to_one, near],
        options={"ftol": 1e-13, "maxiter": 500},
    )
    violated = max(distance(form, np.maximum(found.x, smallest)) - radius, abs(found.x.sum() - 1))
    assume(violated < 1e-7)  # the optimiser has found a point of the set, not always the best
    return -found.fun


@pytest.mark.parametrize("form", BALLS)
@given(problems(), RADII)
@few
def test_no_distribution_in_the_ball_has_a_larger_risk(form, problem, radius):
    risk, present = problem
    found = worst_distribution(risk, radius, form=form, present=present)
    assert (found[~present] == 0).all()
    p, mine = found[present].numpy(), risk[present].numpy()
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert distance(form, p) <= radius + 1e-9 * max(1, radius)
    with np.errstate(all="ignore"):
        assert p @ mine >= by_scipy(mine, radius, form) - 1e-6


@given(RISKS, RADII)
@few
def test_the_kl_is_the_radius_and_p_positive_whenever_risks_differ(risk, radius):
    p = worst_distribution(risk, radius).numpy()
    assert (p > 0).all()
    expected = 0 if risk.min() == risk.max() else radius
    assert distance("kl", p) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(RISKS, st.floats(0.001, 20))
@few
def test_entropic_weights_maximise_the_risk_less_the_kl(risk, radius):
    """Gibbs' variational principle: the largest value is log(mean exp(radius risk)) / radius."""
    p = worst_distribution(risk, radius, form="entropic")
    value = p @ risk - (torch.xlogy(p, p * len(p))).sum() / radius
    best = (torch.logsumexp(radius * risk, 0) - np.log(len(p))) / radius
    torch.testing.assert_close(value, best, rtol=0, atol=1e-9)


@given(RISKS, st.floats(0.001, 0.999))
@few
def test_interior_chi2_weights_follow_the_standardised_risk(risk, share):
    """The closed form of codat.md, which holds at least up to a radius of 1 / (C - 1)."""
    assume(risk.min() < risk.max())
    size, radius = len(risk), share / (len(risk) - 1)
    deviation, spread = risk - risk.mean(), risk.std(correction=0)
    p = worst_distribution(risk, radius, form="chi2")
    torch.testing.assert_close(p, 1 / size + radius**0.5 * deviation / (size * spread), rtol=0, atol=1e-12)
    torch.testing.assert_close(p @ risk, risk.mean() + radius**0.5 * spread, rtol=0, atol=1e-12)


@given(problems(), st.floats(0, 12))
@few
def test_cvar_fills_the_worst_classes_first(problem, radius):
    risk, present = problem
    p = worst_distribution(risk, radius, form="cvar", present=present)
    most, left, value = (1 + radius) / int(present.sum()), 1.0, 0.0
    for each in sorted(risk[present].tolist(), reverse=True):
        taken = min(most, left)
        left, value = left - taken, value + taken * each
    assert float(p @ risk) == pytest.approx(value, abs=1e-12)
    assert float(p.max()) <= most + 1e-15


@given(problems())
@few
def test_the_hard_maximum_is_shared_by_the_worst_classes(problem):
    risk, present = problem
    for found in (
        worst_distribution(risk, 0.5, form="max", present=present),
        worst_distribution(risk, float(len(risk)), form="chi2", present=present),
        worst_distribution(risk, float(len(risk)), form="cvar", present=present),
    ):
        worst = present & (risk == risk[present].max())
        torch.testing.assert_close(found, uniform(worst), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["kl", "chi2", "cvar", "max"])
@given(problems(), RADII, st.floats(1e-3, 1e3), st.integers(-10, 10))
@few
def test_weights_keep_when_risks_are_scaled_and_shifted(form, problem, radius, factor, shift):
    risk, present = problem
    first = worst_distribution(risk, radius, form=form, present=present)
    second = worst_distribution(factor * (risk + shift), radius, form=form, present=present)
    torch.testing.assert_close(second, first, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@given(problems(), RADII, st.randoms(use_true_random=False))
@few
def test_renaming_classes_renames_weights_and_more_risk_never_means_less_weight(
    form, problem, radius, random
):
    risk, present = problem
    p = worst_distribution(risk, radius, form=form, present=present)
    order = list(range(len(risk)))
    random.shuffle(order)
    renamed = worst_distribution(risk[order], radius, form=form, present=present[order])
    torch.testing.assert_close(renamed, p[order], rtol=0, atol=1e-12)
    mine, its_risk = p[present], risk[present]
    riskier = its_risk[:, None] > its_risk
    assert (mine[:, None] >= mine - 1e-12)[riskier].all()
    equal = its_risk[:, None] == its_risk
    torch.testing.assert_close((mine[:, None] - mine)[equal], torch.zeros(int(equal.sum())).double())


@pytest.mark.parametrize("form", ["kl", "chi2", "cvar", "entropic"])
@given(problems())
@few
def test_radius_zero_is_uniform_over_the_classes_present_and_a_small_one_nearly(form, problem):
    risk, present = problem
    assert torch.equal(worst_distribution(risk, 0, form=form, present=present), uniform(present))
    near = worst_distribution(risk, 1e-9, form=form, present=present)
    torch.testing.assert_close(near, uniform(present), rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("noise", [0.0, 1e-14])
def test_equal_risks_and_a_single_class_give_uniform_weights(form, noise):
    risk = torch.full((5,), -0.3, dtype=torch.float64) + noise * torch.arange(5)
    if (form != "max" and form != "cvar") or noise == 0:
        torch.testing.assert_close(worst_distribution(risk, 0.5, form=form), torch.full_like(risk, 0.2))
    alone = torch.tensor([False, False, True, False, False])
    assert torch.equal(worst_distribution(risk, 0.5, form=form, present=alone), alone.double())


def test_ten_equally_spaced_risks_give_the_known_weights():
    found = 10 * worst_distribution(torch.linspace(-1, 1, 10), 0.5)
    expected = [0.24, 0.27, 0.31, 0.35, 0.42, 0.51, 0.66, 0.92, 1.55, 4.77]
    assert found.tolist() == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("radius", [1e-12, 0.5, 50.0, 1e4])
def test_extreme_radii_and_many_classes_stay_finite(form, radius):
    for size in (1, 2, 200):
        risk = torch.rand(size, generator=torch.Generator().manual_seed(size))
        p = worst_distribution(risk, radius, form=form)
        assert p.dtype == torch.float64
        assert torch.isfinite(p).all()
        assert float(p.sum()) == pytest.approx(1)


@pytest.mark.parametrize("form", FORMS)
def test_absent_classes_are_not_read_and_nothing_carries_gradient(form):
    risk = torch.tensor([0.1, torch.nan, 0.9, 0.4], requires_grad=True)
    present = torch.tensor([True, False, True, True])
    p = worst_distribution(risk, 0.5, form=form, present=present)
    assert not p.requires_grad
    torch.testing.assert_close(p[present], worst_distribution(risk[present], 0.5, form=form))


def test_a_negative_radius_is_refused():
    with pytest.raises(ValueError, match=r"radius is -0\.1, expected at least 0"):
        worst_distribution(torch.zeros(3), -0.1)


def test_plugins_find_it_among_the_class_functions():
    assert classes.worst_distribution is worst_distribution
