"""Laws of whole training steps: relabelling, edge cases, resume, options, and no waiting for the device."""

from dataclasses import fields, replace

import pytest
import torch
import toys
from torch.utils._python_dispatch import TorchDispatchMode
from toys import METHODS, PLUGINS, batch, context, network, objective, one_step, weigh

from fairbench.core.errors import EmptyClassError
from fairbench.data.batch import Batch
from fairbench.training.statistics import EpochTotals
from fairbench.training.step import training_step

EVERY_METHOD = pytest.mark.parametrize("name", METHODS)


# Relabelling


@pytest.mark.parametrize("name", ["trades", "dafa", "dafa-uniform", "dafa-pgd", "pgd-at", "mart", "bat"])
def test_a_step_on_relabelled_classes_is_the_relabelled_step(name):
    permutation = torch.tensor([2, 0, 3, 1])  # class c is called permutation[c]
    weight = torch.tensor([0.5, 1.5, 0.8, 1.2], dtype=torch.float64)
    given, found = batch(), []
    for renamed in (False, True):
        method, model = objective(name), network().double()
        method = weigh(method, *(weight[permutation.argsort()] if renamed else weight).tolist())
        if renamed:
            with torch.no_grad():
                for parameter in (model.fc.weight, model.fc.bias):
                    parameter.copy_(parameter[permutation.argsort()])
        y = permutation[given.y] if renamed else given.y
        loss = one_step(method, model, Batch(given.x.double(), y, given.index))
        found.append({"loss": loss, **model.state_dict()})
    first, second = found
    for key in first:
        expected = first[key][permutation.argsort()] if key.startswith("fc.") else first[key]
        torch.testing.assert_close(second[key], expected, rtol=1e-9, atol=1e-11, msg=key)


@pytest.mark.parametrize("seed", range(5))
def test_trix_mask_is_the_same_for_relabelled_classes_and_for_another_order(seed):
    trix, given = objective("trix"), batch(20, seed=seed)
    logits = 3 * torch.randn(20, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = trix.targeted(logits, given.y, context())
    permutation = torch.tensor([2, 0, 3, 1])
    assert torch.equal(trix.targeted(logits[:, permutation.argsort()], permutation[given.y], context()), mask)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(trix.targeted(logits[order], given.y[order], context()), mask[order])


# TRIX's choice of adversary


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


# Edge cases

BATCHES = {
    "a class is absent": torch.tensor([0, 1, 1, 3, 3, 3]),
    "one class": torch.full((6,), 2),
    "one sample": torch.tensor([1]),
    "one of each": torch.arange(4),
}


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES.keys())
@EVERY_METHOD
def test_a_step_on_an_odd_batch_is_finite(name, labels):
    model = network()
    loss = one_step(weigh(objective(name), 0.0, 2.0, 0.5, 1.5), model, batch(labels=labels))
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


@pytest.mark.parametrize("right", [True, False])
@EVERY_METHOD
def test_a_step_is_finite_when_all_predictions_are_certain(name, right):
    given, model = batch(), network()
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.bias.copy_(torch.tensor([300.0, 0.0, 0.0, 0.0]))
    labels = torch.full_like(given.y, 0 if right else 1)
    loss = one_step(objective(name), model, Batch(given.x, labels, given.index))
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


@EVERY_METHOD
def test_two_classes_are_enough(name):
    method = objective(name, num_classes=2)
    assert torch.isfinite(one_step(method, network(2), batch(num_classes=2)))


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


# Every option does something

CHANGED = {
    "beta": 4.0,
    "strength": 0.5,
    "warmup_epochs": 2,
    "mix_start_epoch": 3,
    "threshold": "classes",
    "scale_margin": False,
    "scale_step": False,
    "scale_loss": False,
    "scale_kl": True,
    "weight_rule": "pre_2024_09",
    "ties": "subtract",
    "min_weight": None,
    "max_weight": 1.1,
    "bn_order": "clean-adv-clean",
    "start": "gaussian",
    "attack_bn": "train",
    "base": "pgd-at",
    "w_stats": "untargeted",
    "stable_log": False,
    "tau": 0,
    "gamma": 0.5,
    "shared_trajectory": True,
    "rate": 0.1,
    "margin_rate": 0.1,
    "limit": 0.005,
    "halve_every_epochs": 2,
    "remargin": False,
    "margin_floor": 0.0,
    "min_margin": 0.99,
    "max_margin": 1.01,
    "step": "per-sample",
    "validation_steps": 1,
    "eta": 0.2,
    "cost_norm": "program",
    "normalise": "mean",
    "margin_base": 0.8,
    "factor_base": 0.8,
    "scale_factor": False,
    "begin_epoch": 3,
    "accuracy": "program",
    "log_forwards": True,
    "radius": "cfps",
    "prior": "uniform",
    "collisions": "program",
    "wat.bn_order": "clean-adv",  # METHOD.OPTION comes before OPTION
    "cfa.max_margin": 0.6,
    "cfa.normalise": False,
    "cfa.tau": 1,
    "fairtat.normalise": False,
}
# Classes 0 and 1 tie and are mixed up; class 3 is so easy that its weight is negative.
TABLE = torch.tensor([[0.4, 0.1, 0.0, 0.5], [0.1, 0.4, 0.0, 0.5], [0, 0, 0.3, 0.7], [0, 0, 0, 1.0]])
COUNT = torch.tensor([5.0, 8.0, 6.0, 5.0], dtype=torch.float64)
STATISTICS = replace(
    toys.stats(TABLE, COUNT),
    robust_accuracy=TABLE.diagonal().double(),
    robust_confusion=TABLE * COUNT[:, None],
)


def trace(name, **options):
    """All numbers of two epochs of one step, with given class statistics between them."""
    method, model = objective(name, **{**WARM.get(name, {}), **options}), network()
    labels = torch.tensor([0, 1, 1, 1, 1, 1, 2, 3])
    found, validation = [], method.resolved_needs().validation
    for epoch in (1, 2):
        if validation == "start":
            found += toys.held_out(method, model, epoch)
        given, totals = batch(seed=epoch, labels=labels), toys.totals(method)
        found.append(training_step(model, method, toys.sgd(model), given, context(epoch), totals, check=True))
        found += [*toys.copied(model.state_dict()).values(), totals.stats().robust_probability]
        method.on_epoch_end(STATISTICS, context(epoch))
        if validation == "end":
            found += toys.held_out(method, model, epoch)
    return found


WARM = {"dafa": {"warmup_epochs": 1}, "trix": {"warmup_epochs": 1}, "cfa": {"begin_epoch": 2}}
BESIDE = {"cfa.tau": {"base": "fat"}}  # what an option needs to matter
OPTIONS = [(name, field.name) for name in PLUGINS for field in fields(toys.plugin(name).Config)]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_of_every_method_changes_something(name, option):
    value = CHANGED[f"{name}.{option}" if f"{name}.{option}" in CHANGED else option]
    beside = BESIDE.get(f"{name}.{option}", {})
    pairs = zip(trace(name, **beside), trace(name, **beside, **{option: value}), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)


# State


@pytest.mark.parametrize("name", METHODS)
def test_saving_everything_in_the_middle_of_an_epoch_continues_bit_for_bit(name):
    def fresh():
        method, model = objective(name, **WARM.get(name, {})), network()
        return method, model, toys.sgd(model), toys.totals(method)

    def steps(parts, first, last):
        method, model, optimizer, totals = parts
        for step in range(first, last):
            training_step(model, method, optimizer, batch(seed=step), context(1, step), totals)

    def finished(parts):
        method, model, _, totals = parts
        method.on_epoch_end(totals.stats(), context())
        return {**model.state_dict(), **method.state_dict(), **totals.sums}

    whole, half, resumed = fresh(), fresh(), fresh()
    steps(whole, 0, 4)
    steps(half, 0, 2)
    for old, new in zip(half[:2], resumed[:2], strict=True):
        new.load_state_dict(toys.copied(old.state_dict()))
    resumed[2].load_state_dict(half[2].state_dict())
    resumed[3].sums = toys.copied(half[3].sums)
    steps(resumed, 2, 4)
    toys.assert_same(finished(whole), finished(resumed))


# No waiting for the device, no work per class

WAITING = {  # what makes the host ask the device for a value
    "_local_scalar_dense",
    "is_nonzero",
    "nonzero",
    "nonzero_static",
    "masked_select",
    "equal",
    "item",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
    "repeat_interleave",
    "allclose",
}


class Operations(TorchDispatchMode):
    """Counts what is dispatched; names what would make the host wait."""

    def __init__(self):
        super().__init__()
        self.names, self.waiting = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        self.names.append(name)
        flat = [part for arg in args for part in (arg if isinstance(arg, list | tuple) else [arg])]
        by_mask = name.startswith("index") and any(
            isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in flat[1:]
        )
        if name in WAITING or by_mask:
            self.waiting.append(name)
        return function(*args, **(kwargs or {}))


def dispatched(name, num_classes, **options):
    method, model = objective(name, num_classes=num_classes, **options), network(num_classes)
    optimizer, totals = toys.sgd(model), toys.totals(method)
    given, ctx = batch(num_classes=num_classes), context()
    training_step(model, method, optimizer, given, ctx, totals)  # gradients and momentum exist from here on
    with Operations() as seen:
        training_step(model, method, optimizer, given, context(1, 1), totals, check=False)
    return seen


@EVERY_METHOD
def test_a_training_step_never_waits_for_the_device(name):
    assert dispatched(name, 4).waiting == []


def test_trix_does_not_wait_for_its_untargeted_statistics_either():
    assert dispatched("trix", 4, w_stats="untargeted", warmup_epochs=1).waiting == []


def test_the_watch_sees_what_waits():
    with Operations() as seen:
        values = torch.ones(3)
        values[values > 0].sum().item()
        int(values.nonzero()[0])
    assert {"_local_scalar_dense", "nonzero", "index"} <= set(seen.waiting)


@EVERY_METHOD
def test_a_training_step_does_no_work_per_class(name):
    assert dispatched(name, 5).names == dispatched(name, 50).names


@pytest.mark.gpu
@EVERY_METHOD
def test_a_training_step_never_synchronises_on_cuda(name):
    device = torch.device("cuda")
    method = toys.configured(toys.plugin(name), device=device, **toys.REGISTRY.method_config(name))
    model = network().to(device)
    optimizer = toys.sgd(model)
    totals = EpochTotals(4, method.resolved_needs().epoch_stats, device)
    given = batch()
    given = Batch(given.x.to(device), given.y.to(device), given.index.to(device))
    training_step(model, method, optimizer, given, context(device=device), totals)
    torch.cuda.set_sync_debug_mode("error")
    try:
        training_step(model, method, optimizer, given, context(1, 1, device=device), totals)
    finally:
        torch.cuda.set_sync_debug_mode("default")


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
