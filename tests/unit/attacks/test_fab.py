"""FAB-T: the reference's verdicts, for images of any batch, with the passes it needs and no more."""

import pytest
import torch
from curved import RowNet
from pyautoattack.fab_pt import FABAttack_PT
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fairbench.attacks.budget import Budget, excess
from fairbench.attacks.fab import Fab
from fairbench.attacks.network import Network
from fairbench.attacks.search import run_search

CLASSES = 6
BALLS = pytest.mark.parametrize(("norm", "eps"), [("linf", 0.06), ("l2", 0.25)])


def pictures(size=32, shape=(1, 6, 6)):
    return torch.rand(size, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def setting(size=32, shape=(1, 6, 6), classes=CLASSES):
    """A network, images, their labels, and the logits behind them."""
    model, x = RowNet(shape, classes, width=24, first=6.0, second=2.0), pictures(size, shape)
    logits = model(x)
    return Network(model), x, logits.argmax(1), logits


def search(network, x, y, target, index=None, *, norm="linf", eps=0.06, batch_size=256, **options):
    index = torch.arange(len(x)) if index is None else index
    attack = Fab(eps, norm, **options)
    return run_search(attack, network, x, y, index, seed=0, target=target, batch_size=batch_size)


@pytest.fixture
def in_float64(monkeypatch):
    """The reference turns all it gets into float32: keep it from that."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@BALLS
@pytest.mark.parametrize("rank", [2, 3])
def test_verdicts_are_those_of_the_reference(norm, eps, rank, in_float64):
    network, x, y, logits = setting(80)
    reference = FABAttack_PT(
        network.model, {"linf": "Linf", "l2": "L2"}[norm], n_restarts=1, eps=eps, targeted=True
    )
    reference.target_class = rank
    x_adv = reference.attack_single_run(x, y, is_targeted=True)
    fooled = (network.model(x_adv).argmax(1) != y) & (excess(x, x_adv, Budget(eps, 0.0, 0, norm)) <= 0)
    found = search(network, x, y, logits.argsort(1)[:, -rank], norm=norm, eps=eps).success
    assert torch.equal(found, fooled)
    assert 0 < found.sum() < len(x)


@BALLS
def test_points_are_those_of_the_reference_wherever_the_search_goes(norm, eps, in_float64, monkeypatch):
    network, x, y, logits = setting(40)
    target = logits.argsort(1)[:, -2]
    reference = FABAttack_PT(
        network.model, {"linf": "Linf", "l2": "L2"}[norm], n_restarts=1, n_iter=12, eps=eps, targeted=True
    )
    reference.target_class = 2
    expected, linearise = [], reference.get_diff_logits_grads_batch_targeted

    def keep(points, *rest):
        expected.append(points.clone())
        return linearise(points, *rest)

    monkeypatch.setattr(reference, "get_diff_logits_grads_batch_targeted", keep)
    reference.attack_single_run(x, y, is_targeted=True)
    attack, rows = Fab(eps, norm), begun(x, y, target)
    attack.begin(network, rows, None)
    for k, points in enumerate(expected):
        torch.testing.assert_close(rows["point"], points, rtol=0, atol=1e-9)
        attack.step(network, rows, k)


def begun(x, y, target):
    success = torch.zeros(len(x), dtype=torch.bool)
    return {"x": x, "y": y, "target": target, "x_adv": x.clone(), "success": success}


@BALLS
def test_results_do_not_depend_on_batch_size_order_or_company(norm, eps):
    network, x, y, logits = setting()
    target, index = logits.argsort(1)[:, -2], torch.arange(len(x))
    whole = search(network, x, y, target, norm=norm, eps=eps, iterations=30)
    assert 0 < whole.success.sum() < len(x)
    some = torch.tensor([5, 30, 2, 17, 3])
    for chosen, batch_size in ((index, 7), (index.flip(0), 256), (some, 2)):
        part = search(
            network, x[chosen], y[chosen], target[chosen], chosen,
            norm=norm, eps=eps, iterations=30, batch_size=batch_size,
        )  # fmt: skip
        assert torch.equal(part.success, whole.success[chosen])
        assert torch.equal(part.rows["x_adv"], whole.rows["x_adv"][chosen])


@BALLS
@pytest.mark.parametrize(("shape", "classes"), [((1, 8, 8), 10), ((1, 28, 28), 4), ((3, 5, 7), 2)])
def test_results_are_wrong_within_the_ball_and_the_unit_box(norm, eps, shape, classes):
    network, x, y, logits = setting(24, shape, classes)
    result = search(network, x, y, logits.argsort(1)[:, -2], norm=norm, eps=eps, iterations=20)
    x_adv = result.rows["x_adv"][result.success]
    assert len(x_adv) > 0
    assert (network.model(x_adv).argmax(1) != y[result.success]).all()
    assert (excess(x[result.success], x_adv, Budget(eps, 0.0, 0, norm)) <= 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_eps_0_finds_exactly_the_misclassified(norm):
    network, x, y, logits = setting()
    wrong = torch.arange(len(x)) % 5 == 0
    y = torch.where(wrong, (y + 1) % CLASSES, y)
    target = torch.where(wrong, (y + 1) % CLASSES, logits.argsort(1)[:, -2])
    result = search(network, x, y, target, norm=norm, eps=0.0, iterations=10)
    assert torch.equal(result.success, wrong)
    assert torch.equal(result.rows["x_adv"], x)


def test_the_first_success_within_eps_stays_and_one_beyond_goes_on():
    network, x, y, logits = setting()
    target = logits.argsort(1)[:, -2]
    short, long = (search(network, x, y, target, iterations=n) for n in (3, 40))
    assert torch.equal(long.rows["x_adv"][short.success], short.rows["x_adv"][short.success])
    assert (short.success & ~long.success).sum() == 0
    assert short.success.sum() < long.success.sum()  # their first points beyond the boundary were too far out


def test_survivors_cost_two_forward_passes_and_one_backward_pass_in_an_iteration():
    network, x, y, logits = setting()
    result = search(network, x, y, logits.argsort(1)[:, -2], eps=0.0, iterations=100)
    assert not result.success.any()
    assert (network.passes.forward, network.passes.backward) == (200 * len(x), 100 * len(x))
    assert Fab(0.0).cost == (200, 100)


def test_found_images_cost_less():
    network, x, y, logits = setting()
    search(network, x, y, logits.argsort(1)[:, -2], eps=1.0)
    assert network.passes.forward < 20 * len(x)


def test_an_image_without_gradient_stays_where_it_is():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([2.0, 1.0, 0.0], dtype=x.dtype) + 0 * x.flatten(1).sum(1, keepdim=True)

    x = pictures(4)
    rows = begun(x, torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64))
    attack = Fab(0.1)
    attack.begin(Network(Constant()), rows, None)
    for k in range(3):
        attack.step(Network(Constant()), rows, k)
    assert torch.equal(rows["point"], x)
    assert not rows["success"].any()


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for a device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.name() not in {
            "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero",
            "aten::equal", "aten::unique_dim", "aten::_unique2",
        }  # fmt: skip
        masks = [a for a in args[1] if a is not None] if function.name().startswith("aten::index") else []
        assert all(mask.dtype != torch.bool for mask in masks if isinstance(mask, torch.Tensor))
        return function(*args, **(kwargs or {}))


@BALLS
def test_a_step_never_waits_for_the_device(norm, eps):
    network, x, y, logits = setting(6)
    attack, rows = Fab(eps, norm), begun(x, y, logits.argsort(1)[:, -2])
    attack.begin(network, rows, None)
    with NoWaiting():
        for k in range(3):
            attack.step(network, rows, k)


def test_the_watch_for_waiting_sees_it():
    mask = torch.tensor([True, False])
    for waits in (lambda: bool(mask[0]), lambda: mask.nonzero(), lambda: mask[mask]):
        with pytest.raises(AssertionError), NoWaiting():
            waits()
