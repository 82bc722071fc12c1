"""Draws: repeatable, of the right kind, and keyed by image where evaluation needs it."""

import pytest
import torch
from toys import CPU

from fairbench.attacks.draws import Draws
from fairbench.attacks.image_draws import GROUP_SIZE, ImageDraws

LIKE = torch.zeros(5, 3, 2, 2)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_the_same_seed_repeats_and_another_differs(kind):
    first, again, other = (getattr(Draws(seed, CPU), kind)(LIKE) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == LIKE.shape


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_draws_follow_the_dtype_and_leave_the_global_generator_alone(kind):
    before = torch.get_rng_state()
    assert getattr(Draws(0, CPU), kind)(LIKE.double()).dtype == torch.float64
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_other_classes_are_never_the_label_and_all_equally_likely(num_classes):
    label = torch.arange(num_classes).repeat_interleave(3000)
    target = Draws(0, CPU).other_class(label, num_classes)
    assert (target != label).all()
    assert target.min() == 0
    assert target.max() == num_classes - 1
    table = torch.zeros(num_classes, num_classes).index_put((label, target), torch.ones(()), accumulate=True)
    share = table[~torch.eye(num_classes, dtype=torch.bool)] / 3000
    assert (share - 1 / (num_classes - 1)).abs().max() < 0.05


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("size", [1, 7, GROUP_SIZE, GROUP_SIZE + 1, 200])
def test_draws_of_an_image_do_not_depend_on_its_batch(kind, size):
    images = torch.zeros(200, 1, 2, 2)
    whole = getattr(ImageDraws(3, torch.arange(200)), kind)(images)
    parts = [
        getattr(ImageDraws(3, torch.arange(200)[first : first + size]), kind)(images[first : first + size])
        for first in range(0, 200, size)
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert len(whole.flatten(1).unique(dim=0)) == 200
    assert not torch.equal(getattr(ImageDraws(4, torch.arange(200)), kind)(images), whole)


def test_draws_keyed_by_image_are_uniform_in_the_unit_interval():
    values = ImageDraws(0, torch.arange(500)).uniform(torch.zeros(500, 1, 4, 4))
    assert 0 <= values.min() < 0.01
    assert 0.99 < values.max() < 1
    assert abs(values.mean() - 0.5) < 0.01
