"""APGD: the reference's iterates, one by one; and what it never lets through."""

import pytest
import torch
from curved import RowNet
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import nn
from torch.overrides import TorchFunctionMode
from toys import CPU

from fairbench.attacks.apgd import Apgd, checkpoints, targeted_dlr
from fairbench.attacks.budget import Budget, excess
from fairbench.attacks.draws import Draws
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.network import Network
from fairbench.attacks.search import run_search

N, CLASSES = 40, 6
BOTH_LOSSES = pytest.mark.parametrize("loss", ["ce", "dlr-t"])
BALLS = pytest.mark.parametrize(("norm", "eps"), [("linf", 1 / 12), ("l2", 1 / 4)])


class ConvNet(nn.Sequential):
    """Curved enough that some images fall at once, some late and some never; keeps what it was shown."""

    def __init__(self, scale=5.0):
        super().__init__(nn.Conv2d(1, 6, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(24, 16), nn.Tanh())
        self.append(nn.Linear(16, CLASSES))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.requires_grad_(False).parameters():
            width = parameter[0].numel() if parameter.dim() > 1 else 16
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = drawn * scale / width**0.5
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return super().forward(x)


class Moody(nn.Module):
    """Its losses follow a walk of their own, up or down by image, whatever the images look like."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        steps = torch.randn(101, N, generator=generator, dtype=torch.float64)
        self.walk = (0.2 * (steps + torch.linspace(-1, 3, N, dtype=torch.float64))).cumsum(0)
        self.walk[:, 0] = torch.linspace(-3, 2, 101)  # always up, but from far below the start
        self.walk[0, 0] = 2.5
        self.walk[:, 1] = 0.0  # wrong at the very end
        self.walk[-1, 1] = 4.0
        self.weight = 0.01 * torch.randn(CLASSES, 36, generator=generator, dtype=torch.float64)
        self.offset = torch.tensor([3.0, 0.0, -0.2, -0.4, -0.6, -0.8], dtype=torch.float64)
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        falling = torch.zeros(N, CLASSES, dtype=torch.float64)
        falling[:, 0] = self.walk[len(self.seen) - 1]
        return self.offset - falling + x.flatten(1) @ self.weight.T


def pictures(dtype=torch.float64):
    return torch.rand(N, 1, 6, 6, generator=torch.Generator().manual_seed(1)).to(dtype)


def asked(model, x):
    """Labels that the model gives, and the second most likely class as the target."""
    ranked = model(x).argsort(1, descending=True)
    return ranked[:, 0], ranked[:, 1]


def begun(search, network, x, y, target, draws=None):
    rows = {"x": x, "y": y, "target": target, "x_adv": x, "success": torch.zeros(len(x), dtype=torch.bool)}
    search.begin(network, rows, draws or Draws(0, CPU))
    return rows


def walked(search, model, x, y, target):
    """Rows after all iterations, and the iterates from the start on (iterations + 1, N, 1, 6, 6)."""
    model.seen = []
    network = Network(model)
    rows = begun(search, network, x, y, target)
    for k in range(search.iterations):
        search.step(network, rows, k)
    return rows, torch.stack(model.seen)


def reference(model, x, y, target, norm, loss, eps, iterations):
    """(best image, still correct, best loss, last misclassified iterate), and the iterates."""
    kind = APGDAttack if loss == "ce" else APGDAttack_targeted
    attack = kind(model, n_iter=iterations, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, device="cpu")
    attack.y_target = target
    attack.init_hyperparam(x)
    model.seen = []
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the noise of Draws(0)
        torch.set_default_dtype(x.dtype)  # that of its books
        try:
            outcome = attack.attack_single_run(x, y)
        finally:
            torch.set_default_dtype(torch.float32)
    return outcome, torch.stack(model.seen)


def found_by(search, model, x, y, target, keep=("x_adv",), **options):
    index = options.pop("index", torch.arange(len(x)))
    return run_search(search, Network(model), x, y, index, seed=5, target=target, keep=keep, **options)


# The reference. In the L2 ball whether the loss still rises near an optimum is decided by the last digit, so
# in 100 iterations two orders of summation may take different ways to the same loss; in 25 they do not yet.


@BOTH_LOSSES
@pytest.mark.parametrize(("norm", "eps", "iterations"), [("linf", 1 / 12, 100), ("l2", 1 / 4, 25)])
def test_every_iterate_and_every_verdict_is_the_references(norm, eps, iterations, loss):
    model, x = ConvNet(), pictures()
    y, target = asked(model, x)
    search = Apgd(eps, norm, loss, iterations)
    rows, ours = walked(search, model, x, y, target)
    (_, correct, best_loss, last), theirs = reference(model, x, y, target, norm, loss, eps, iterations)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-10
    assert torch.equal(rows["success"], ~correct)
    final = search._loss(model(ours[-1]), rows)  # the reference counts it, though nothing depends on it
    assert (torch.maximum(rows["best_loss"], final) - best_loss).abs().max() < 1e-10

    fooled = torch.stack([model(each).argmax(1) != y for each in ours]).long()
    found = rows["success"].nonzero().squeeze(1)
    first, newest = fooled.argmax(0)[found], iterations - fooled.flip(0).argmax(0)[found]
    assert torch.equal(rows["x_adv"][found], ours[first, found])
    assert (last[found] - ours[newest, found]).abs().max() < 1e-10
    assert 10 < len(found) < N - 10
    assert (first <= 1).any()
    assert (first > checkpoints(iterations).popitem()[1]).any()


@BOTH_LOSSES
def test_verdicts_in_the_l2_ball_are_the_references_after_a_hundred_iterations(loss):
    model, x = ConvNet(scale=3.0), pictures()
    y, target = asked(model, x)
    rows, _ = walked(Apgd(1 / 4, "l2", loss), model, x, y, target)
    (_, correct, _, _), _ = reference(model, x, y, target, "l2", loss, 1 / 4, 100)
    assert torch.equal(rows["success"], ~correct)
    assert 5 < correct.sum() < N - 5


@BOTH_LOSSES
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_whatever_way_the_loss_goes_the_steps_are_the_references(norm, loss):
    model, x = Moody(), pictures()
    y, target = torch.zeros(N, dtype=torch.long), torch.ones(N, dtype=torch.long)
    rows, ours = walked(Apgd(1 / 4, norm, loss), model, x, y, target)
    (_, correct, _, _), theirs = reference(model, x, y, target, norm, loss, 1 / 4, 100)
    assert (ours - theirs).abs().max() < 1e-10
    assert torch.equal(rows["success"], ~correct)
    assert rows["success"][1]
    assert len(rows["step_size"].unique()) > 3


def test_a_start_that_fools_counts():
    model, x = ConvNet(), pictures()
    y, target = asked(model, x)
    rows = begun(Apgd(1 / 2), Network(model), x, y, target)
    assert 0 < rows["success"].sum() < N
    assert torch.equal(rows["success"], model(model.seen[-1]).argmax(1) != y)
    assert torch.equal(rows["x_adv"][rows["success"]], model.seen[-1][rows["success"]])
    assert torch.equal(rows["x_adv"][~rows["success"]], x[~rows["success"]])


# Schedule and cost


def test_a_hundred_iterations_are_checked_where_the_paper_says():
    assert tuple(checkpoints(100)) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert tuple(checkpoints(100).values()) == (22, 19, 16, 13, 10, 7, 6, 6)
    assert Apgd(0.1).regroup == (1, 3, 7, 14, *checkpoints(100), 100)


@given(st.integers(1, 300))
@settings(deadline=None, max_examples=50)
def test_checkpoints_and_regrouping_fit_any_number_of_iterations(iterations):
    found = checkpoints(iterations)
    done = list(found)
    assert [after - before for before, after in zip([0, *done], done, strict=False)] == list(found.values())
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert all(0 < each < iterations for each in done)
    regroup = Apgd(0.1, iterations=iterations).regroup
    assert list(regroup) == sorted(set(regroup))
    assert regroup[-1] == iterations
    assert set(done) <= set(regroup)


@pytest.mark.parametrize("iterations", [1, 2, 30])
def test_an_image_that_never_falls_costs_what_is_announced(iterations):
    model, x = ConvNet(), pictures()[:3]
    y, target = asked(model, x)
    network, search = Network(model), Apgd(1e-9, iterations=iterations)
    result = run_search(search, network, x, y, torch.arange(3), seed=0, target=target)
    assert not result.success.any()
    assert search.cost == (network.passes.forward / 3, network.passes.backward / 3)


class NoWaiting(TorchFunctionMode):
    """Refuses what waits for the device or makes shapes from values."""

    CASTS = frozenset({"item", "tolist", "cpu", "__bool__", "__int__", "__float__", "__index__"})
    REFUSED = frozenset({"nonzero", "argwhere", "masked_select", "unique", "equal", "allclose"})

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert func.__name__ not in self.REFUSED | self.CASTS, func.__name__
        if func.__name__ in ("__getitem__", "__setitem__"):  # by numbers, not by a mask
            masks = args[1] if isinstance(args[1], tuple) else (args[1],)
            assert not any(isinstance(each, torch.Tensor) and each.dtype == torch.bool for each in masks)
        return func(*args, **(kwargs or {}))


@BOTH_LOSSES
@BALLS
def test_no_step_waits_for_the_device(norm, eps, loss):
    model, x = ConvNet(), pictures()
    y, target = asked(model, x)
    search, network = Apgd(eps, norm, loss, iterations=10), Network(model)
    rows = begun(search, network, x, y, target)
    with NoWaiting():
        for k in range(search.iterations):
            search.step(network, rows, k)
    for waits in (lambda: bool(rows["success"].any()), lambda: rows["x"][rows["success"]]):
        with pytest.raises(AssertionError), NoWaiting():
            waits()


# Laws


@BOTH_LOSSES
@BALLS
def test_results_do_not_depend_on_batches_company_or_order(norm, eps, loss):
    model, x, search = RowNet((1, 6, 6), CLASSES), pictures(), Apgd(eps / 2, norm, loss, iterations=25)
    y, target = asked(model, x)
    keep = ("x_adv", "iterate", "best_loss", "step_size")
    whole = found_by(search, model, x, y, target, keep)
    assert 3 < whole.success.sum() < N - 3
    some = torch.tensor([31, 2, 17, 8, 25, 3, 39])
    for size in (7, 16):
        again = found_by(search, model, x, y, target, keep, batch_size=size)
        assert torch.equal(again.success, whole.success)
        assert torch.equal(again.rows["x_adv"], whole.rows["x_adv"])
    for size in (1, 3):
        part = found_by(search, model, x[some], y[some], target[some], keep, index=some, batch_size=size)
        assert torch.equal(part.success, whole.success[some])
        for name in keep:
            assert torch.equal(part.rows[name], whole.rows[name][some])


@BOTH_LOSSES
@BALLS
def test_closing_up_changes_no_verdict_and_no_image(norm, eps, loss):
    model, x, search = RowNet((1, 6, 6), CLASSES), pictures(), Apgd(eps / 2, norm, loss, iterations=25)
    y, target = asked(model, x)
    network = Network(model)
    rows = begun(search, network, x, y, target, ImageDraws(5, torch.arange(N), "search"))
    for k in range(search.iterations):
        search.step(network, rows, k)
    result = found_by(search, model, x, y, target, batch_size=16)
    assert torch.equal(result.success, rows["success"])
    assert torch.equal(result.rows["x_adv"][result.success], rows["x_adv"][rows["success"]])


@BOTH_LOSSES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 1 / 8), ("linf", 1.5), ("l2", 0.3), ("l2", 4.0)])
def test_every_iterate_stays_in_the_ball_and_in_the_unit_range(norm, eps, dtype, loss):
    model, x = ConvNet().to(dtype), pictures(dtype)
    x[0], x[1] = 0.0, 1.0
    y, target = asked(model, x)
    rows, iterates = walked(Apgd(eps, norm, loss, iterations=20), model, x, y, target)
    budget = Budget(eps, 0.0, 0, norm)
    assert all((excess(x, each, budget) <= 1e-6).all() for each in [*iterates, rows["x_adv"]])
    assert iterates.min() >= 0
    assert iterates.max() <= 1
    assert all(each.dtype == dtype for each in iterates)


@BOTH_LOSSES
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_radius_zero_finds_the_misclassified_and_only_those(norm, loss):
    model, x = ConvNet(), pictures()
    y, target = asked(model, x)
    y[::3] = target[::3]
    result = found_by(Apgd(0.0, norm, loss, iterations=5), model, x, y, target)
    assert torch.equal(result.success, torch.arange(N) % 3 == 0)
    assert torch.equal(result.rows["x_adv"], x)


@BOTH_LOSSES
@BALLS
def test_a_wider_ball_holds_more(norm, eps, loss):
    model, x = ConvNet(), pictures()
    y, target = asked(model, x)
    counts = [
        int(found_by(Apgd(factor * eps, norm, loss, iterations=30), model, x, y, target).success.sum())
        for factor in (1 / 8, 1 / 2, 1, 8)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[1] < counts[2] < counts[3] == N


# The targeted loss


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-10, 10))
@settings(deadline=None, max_examples=30)
def test_the_targeted_loss_ignores_shift_and_scale_and_is_positive_when_the_target_wins(seed, scale, shift):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    label = torch.arange(8) % 5
    target = (label + 1 + torch.arange(8) % 4) % 5
    value = targeted_dlr(logits, label, target)
    moved = targeted_dlr(scale * logits + shift, label, target)
    assert ((moved - value).abs() <= 1e-6 * (1 + value.abs())).all()
    rows = torch.arange(8)
    assert torch.equal(value > 0, logits[rows, target] > logits[rows, label])


def test_the_targeted_loss_is_the_papers():
    logits = torch.tensor([[4.0, 1.0, 3.0, 2.0, -9.0]], dtype=torch.float64)
    label, target = torch.tensor([0]), torch.tensor([2])
    assert targeted_dlr(logits, label, target).item() == pytest.approx((3 - 4) / (4 - (2 + 1) / 2))
    (gradient,) = torch.autograd.grad(targeted_dlr(logits.requires_grad_(), label, target).sum(), logits)
    assert gradient[0].tolist() == pytest.approx([-0.24, -0.08, 0.4, -0.08, 0.0])
