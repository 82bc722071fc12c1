"""TRIX's choice of adversary, and the class weights that it shares with DAFA."""

import pytest
import torch
import toys
from toys import batch, context, network, objective, one_step, weigh

from fairbench.core.errors import EmptyClassError
from fairbench.data.batch import Batch
from fairbench.training.statistics import EpochTotals
from fairbench.training.step import training_step


@pytest.mark.parametrize("seed", range(5))
def test_trix_mask_is_the_same_for_relabelled_classes_and_for_another_order(seed):
    trix, given = objective("trix"), batch(20, seed=seed)
    logits = 3 * torch.randn(20, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = trix.targeted(logits, given.y, context())
    permutation = torch.tensor([2, 0, 3, 1])
    assert torch.equal(trix.targeted(logits[:, permutation.argsort()], permutation[given.y], context()), mask)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(trix.targeted(logits[order], given.y[order], context()), mask[order])


@pytest.mark.parametrize("seed", range(10))
def test_trix_targets_whole_classes_never_the_weakest_and_always_some(seed):
    trix, given = objective("trix"), batch(15, num_classes=4, seed=seed)
    logits = 3 * torch.randn(15, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = trix.targeted(logits, given.y, context())
    for label in range(4):
        assert len(mask[given.y == label].unique()) == 1
    assert mask.any()
    assert not mask.all()


def test_trix_mask_of_the_worked_example():
    probability = torch.tensor(
        [
            [0.6, 0.2, 0.1, 0.1],
            [0.4, 0.4, 0.1, 0.1],
            [0.1, 0.8, 0.05, 0.05],
            [0.2, 0.1, 0.3, 0.4],
            [0.1, 0.9, 0, 0],
        ],
        dtype=torch.float64,
    )
    label = torch.tensor([0, 0, 1, 2, 1])
    for threshold in ("samples", "classes"):
        mask = objective("trix", threshold=threshold).targeted(probability.log(), label, context())
        assert mask.tolist() == [False, False, True, False, True]


@pytest.mark.parametrize("label", [0, 3])
def test_trix_with_one_class_in_the_batch_is_untargeted(label):
    given = batch(labels=torch.full((9,), label))
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))
    assert not objective("trix").targeted(logits, given.y, context()).any()


@pytest.mark.parametrize("num_classes", range(2, 12))
def test_trix_with_equal_weights_is_untargeted_in_spite_of_rounding(num_classes):
    labels = torch.arange(num_classes)
    trix, logits = objective("trix", num_classes), torch.zeros(num_classes, num_classes)
    assert not trix.targeted(logits, labels, context()).any()


def test_trix_mask_needs_no_batch_norm_statistics_of_the_batch():
    given, seen = batch(), []
    trix = objective("trix")
    choose = trix.targeted

    def watched(clean, y, ctx):
        seen.append(choose(clean, y, ctx))
        return seen[-1]

    trix.targeted = watched
    for momentum in (0.1, 0.9):
        model = network()
        model.bn1.momentum = momentum
        one_step(trix, model, given)
    assert torch.equal(*seen)


# Class weights


@pytest.mark.parametrize("name", ["dafa", "trix"])
def test_an_epoch_without_a_class_is_an_error_that_names_it(name):
    method, ctx = objective(name, warmup_epochs=1), context()
    count = torch.tensor([3.0, 3.0, 0.0, 3.0])
    with pytest.raises(EmptyClassError, match="class 2"):
        method.on_epoch_end(toys.stats(torch.eye(4), count), ctx)


@pytest.mark.parametrize(("floor", "easiest"), [(0.0, 0.0), (None, -4.4), (-1.0, -1.0)])
def test_negative_class_weights_are_clamped_unless_told_otherwise(floor, easiest):
    table = torch.zeros(10, 10, dtype=torch.float64)
    table[:9, :9], table[:, 9] = 0.4 * torch.eye(9, dtype=torch.float64), 0.6
    table[9, 9] = 1.0
    dafa = objective("dafa", num_classes=10, warmup_epochs=1, min_weight=floor)
    dafa.on_epoch_end(toys.stats(table), context())
    assert dafa.state.weight.tolist() == pytest.approx([1.6] * 9 + [easiest])


def test_a_negative_weight_pins_pixels_at_the_size_of_the_radius():
    model = network()
    method = weigh(objective("dafa", min_weight=None), -1.0, 1.0, 1.0, 1.0)
    assert torch.isfinite(one_step(method, model, batch()))  # check=True: inside |w| eps


@pytest.mark.gpu
@pytest.mark.parametrize("size", [8, 10])
def test_weights_of_one_are_neutral_on_cuda_for_any_batch_size(size):
    device, found = torch.device("cuda"), []
    for name in ("trades", "dafa"):
        method = toys.configured(toys.plugin(name), device=device)
        model, given = network().to(device), batch(size)
        given = Batch(given.x.to(device), given.y.to(device), given.index.to(device))
        totals = EpochTotals(4, method.resolved_needs().epoch_stats, device)
        loss = training_step(model, method, toys.sgd(model), given, context(device=device), totals)
        found.append({"loss": loss, **model.state_dict()})
    toys.assert_same(*found)
