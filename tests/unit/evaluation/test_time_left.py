"""The time left of an ensemble: from simulated attacks, whose images fall, and from a recorded one."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.evaluation.time_left import TimeLeft, Work

RECORDED = Path(__file__).parents[2] / "data" / "time-left-autoattack.json"
BLOCK = 1024
AUTOATTACK = [
    ("apgd-ce", 238.0),
    *((f"apgd-t.{k}", 238.0) for k in range(1, 10)),
    *((f"fab-t.{k}", 335.0) for k in range(1, 10)),
    ("square", 5001.0),
]


def simulate(rng, images, first, later, paces, trial):
    """(time, estimate) at each tick, and the time of all: the images that a search breaks leave early."""
    works = [Work(key, passes) for key, passes in AUTOATTACK]
    clock, told, robust = 0.0, [], images
    time_left = TimeLeft(works, images, trial)
    for work in works:
        breaks = first if work.key == "apgd-ce" else later if work.part == "apgd-t" else later / 10
        index, attacked = 0, robust
        while index < attacked:
            size = min(BLOCK, attacked - index)
            broken = rng.binomial(size, breaks)
            leaves = np.sort(rng.random(broken) ** 3)  # most fall early
            began, passes = clock, 0.0
            for before, share in pairwise(np.linspace(0, 1, 21)):
                active = size - np.searchsorted(leaves, before)
                step = work.passes * active * (share - before)
                passes += step
                clock += step * paces[work.part] * rng.uniform(0.9, 1.1)
                left = time_left.left(
                    work.key,
                    share=float(share),
                    size=size,
                    later=attacked - index - size,
                    robust=robust,
                    passes=passes,
                    seconds=clock - began,
                )
                told.append((clock, left))
            time_left.block(work.key, size, broken, passes, clock - began)
            robust -= broken
            index += size
    return told, clock


def worst(told, total):
    """The largest relative error after the first tenth, as long as 2 % of the time is left."""
    errors = [abs(left / (total - at) - 1) for at, left in told if 0.1 * total < at < 0.98 * total]
    return max(errors)


@given(
    seed=st.integers(0, 10**6),
    images=st.integers(300, 9000),
    first=st.floats(0.05, 0.6),
    later=st.floats(0.0, 0.02),
    paces=st.fixed_dictionaries(
        {part: st.floats(0.3, 2.0) for part in ("apgd-ce", "apgd-t", "fab-t", "square")}
    ),
)
@settings(max_examples=25, deadline=None)
def test_after_a_tenth_of_autoattack_the_time_left_is_right_within_30_percent(
    seed, images, first, later, paces
):
    rng = np.random.default_rng(seed)
    trial = {part: pace * rng.uniform(0.9, 1.1) for part, pace in paces.items()}
    assert worst(*simulate(rng, images, first, later, paces, trial)) < 0.3


def test_a_recorded_autoattack_is_estimated_within_30_percent():
    """AutoAttack on the digits: 507 images, 362 robust at the end, one CPU core; each tenth tick."""
    recorded = json.loads(RECORDED.read_text())
    plan = [Work(key, passes) for key, passes in recorded["plan"]]
    time_left, told = TimeLeft(plan, recorded["images"], recorded["paces"]), []
    for kind, at, *values in recorded["calls"]:
        if kind == "block":
            time_left.block(*values)
        else:
            told.append((at, time_left.left(values[0], **values[1])))
    assert worst(told, recorded["seconds"]) < 0.3


def test_a_search_that_is_not_planned_has_no_estimate():
    time_left = TimeLeft([Work("apgd-ce", 238.0)], 100)
    now = {"share": 0.5, "size": 100, "later": 0, "robust": 100, "passes": 10.0, "seconds": 1.0}
    assert time_left.left("other", **now) is None
    assert time_left.left("apgd-ce", **now) > 0


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_nothing_is_left_at_the_end(share):
    time_left = TimeLeft([Work("apgd-ce", 200.0)], 100)
    now = {"size": 100, "later": 0, "robust": 100, "passes": 200.0 * 100 * share, "seconds": 10 * share}
    assert time_left.left("apgd-ce", share=share, **now) == pytest.approx(10 * (1 - share))
