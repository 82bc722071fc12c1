"""Class statistics: exact counts, half an epoch plus the other half is the whole."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import CPU, assert_same, copied

from fairbench.core.errors import ContractError
from fairbench.data.batch import Batch
from fairbench.objectives.loss_terms import LossTerms
from fairbench.training.statistics import EpochTotals

C = 3


def outputs(seed, size):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(C, (size,), generator=generator)
    logits, logits_adv = torch.randn(2, size, C, generator=generator)
    batch = Batch(torch.zeros(size, 1, 1, 1), y, torch.arange(size))
    terms = LossTerms(clean=torch.rand(size, generator=generator), logits=logits, logits_adv=logits_adv)
    return batch, terms


def count(totals, parts):
    for batch, terms in parts:
        totals.add(batch, terms, terms.reduced(), terms.total(), torch.full((len(batch),), -1.0))
    return totals


def fresh(*wanted):
    return EpochTotals(C, wanted or ("robust_probability",), CPU)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_statistics_equal_those_of_a_stored_table(sizes, seed):
    parts = [outputs(seed + i, size) for i, size in enumerate(sizes)]
    found = count(fresh(), parts).stats()
    y = torch.cat([batch.y for batch, _ in parts])
    clean = torch.cat([terms.logits for _, terms in parts])
    robust = torch.cat([terms.logits_adv for _, terms in parts])
    for c in range(C):
        mine = y == c
        assert found.count[c] == mine.sum()
        if not mine.any():
            assert found.clean_accuracy[c].isnan()
            assert found.robust_probability[c].isnan().all()
            continue
        assert found.clean_accuracy[c] == (clean[mine].argmax(1) == c).double().mean()
        assert found.robust_accuracy[c] == (robust[mine].argmax(1) == c).double().mean()
        torch.testing.assert_close(found.robust_probability[c], robust[mine].softmax(1).double().mean(0))


def test_two_halves_continue_to_the_whole():
    parts = [outputs(seed, 5) for seed in range(4)]
    whole, half, resumed = count(fresh(), parts), count(fresh(), parts[:2]), fresh()
    resumed.sums = copied(half.sums)
    assert_same(count(resumed, parts[2:]).sums, whole.sums)
    assert all(value.dtype == torch.float64 for value in whole.sums.values())


def test_loss_and_terms_are_means_over_batches():
    parts = [outputs(seed, 5) for seed in range(3)]
    totals = count(fresh(), parts)
    expected = sum(float(terms.total().double()) for _, terms in parts) / 3
    assert abs(totals.mean_loss() - expected) < 1e-12
    assert abs(totals.mean_terms()["clean"] - expected) < 1e-12


def test_what_was_not_given_is_unknown():
    batch, _ = outputs(0, 4)
    stats = count(fresh("robust_accuracy"), [(batch, LossTerms(clean=torch.ones(4)))]).stats()
    assert stats.clean_accuracy.isnan().all()
    assert stats.robust_accuracy.isnan().all()
    assert stats.robust_probability.numel() == 0
    assert stats.count.sum() == 4


def test_the_largest_excess_is_kept_and_a_nan_is_not_lost():
    batch, terms = outputs(0, 4)
    totals = fresh()
    for excess in (-0.5, 0.25, -1.0):
        totals.add(batch, terms, {}, terms.total(), torch.full((4,), excess))
    assert totals.sums["excess"] == 0.25
    totals.add(batch, terms, {}, terms.total(), torch.full((4,), torch.nan))
    totals.add(batch, terms, {}, terms.total(), torch.full((4,), 0.0))
    assert totals.sums["excess"].isnan()


def test_a_statistic_that_was_not_declared_cannot_be_read():
    stats = count(fresh(), [outputs(0, 6)]).stats()
    some = stats.only({"clean_accuracy"})
    assert some.clean_accuracy is stats.clean_accuracy
    assert torch.equal(some.count, stats.count)
    assert torch.equal(copy.deepcopy(some).clean_accuracy, stats.clean_accuracy)
    for read in (lambda: some.robust_accuracy, lambda: some.of_every_class("robust_accuracy")):
        with pytest.raises(ContractError, match=r"stats.robust_accuracy is read") as error:
            read()
        assert 'epoch_stats={"robust_accuracy"}' in error.value.hint
    with pytest.raises(AttributeError, match="rubust"):
        _ = some.rubust
    assert "EpochStats" in repr(some)
