"""Held-out images: how many, which, and never trained on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench.core.errors import EmptyClassError
from fairbench.data.holdout import training_mask

SHARE = {"share": 0.06, "min_per_class": 10, "pick": "seeded"}


def labels(*counts):
    found = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    return found[torch.randperm(len(found), generator=torch.Generator().manual_seed(1))]


def held(y, **changes):
    return ~training_mask(y, int(y.max()) + 1, **{**SHARE, "seed": 0, **changes})


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(5000, 0.06, 300), (500, 0.06, 30), (5000, 0.02, 100), (126, 0.06, 10), (13, 0.06, 6), (2, 0.5, 1)],
)
def test_each_class_gives_its_share_at_least_ten_and_at_most_half(count, share, expected):
    y = labels(count, count)
    found = held(y, share=share)
    assert [int((found & (y == c)).sum()) for c in (0, 1)] == [expected, expected]


@given(st.lists(st.integers(2, 60), min_size=1, max_size=4), st.floats(0.01, 0.99), st.integers(0, 99))
def test_no_class_is_ever_emptied_on_either_side(counts, share, seed):
    y = labels(*counts)
    for pick in ("seeded", "first", "last"):
        found = held(y, share=share, seed=seed, pick=pick)
        for c in range(len(counts)):
            assert 1 <= int((found & (y == c)).sum()) < counts[c] or counts[c] < 2


def test_a_seed_repeats_its_images_another_takes_others_and_a_smaller_share_is_part_of_a_larger():
    y = labels(200, 300)
    assert torch.equal(held(y), held(y))
    assert not torch.equal(held(y), held(y, seed=1))
    assert (held(y, share=0.3) | ~held(y, share=0.1)).all()


def test_first_and_last_follow_the_order_of_the_data_set():
    y = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    options = {"share": 0.25, "min_per_class": 1}
    assert held(y, pick="first", **options).tolist() == [True, True] + [False] * 6
    assert held(y, pick="last", **options).tolist() == [False] * 6 + [True, True]


def test_a_class_with_one_image_cannot_hold_any_out():
    with pytest.raises(EmptyClassError, match="class 1 has 1 training images"):
        held(labels(5, 1))
