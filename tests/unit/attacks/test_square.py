"""Square: with the same draws the reference's search, query by query; for images of any batch."""

import math

import pytest
import torch
from curved import RowNet
from pyautoattack.square import SquareAttack
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fairbench.attacks.budget import Budget, excess
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.network import Network
from fairbench.attacks.search import run_search
from fairbench.attacks.square import Square, bump

CLASSES = 6
BALLS = pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.4)])


def setting(size=32, shape=(2, 10, 10), classes=CLASSES):
    """A network, images and their labels."""
    model = RowNet(shape, classes, first=4.0)
    x = torch.rand(size, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Network(model), x, model(x).argmax(1)


def search(network, x, y, index=None, *, norm="linf", eps=0.05, queries=100, seed=0, batch_size=256):
    index = torch.arange(len(x)) if index is None else index
    return run_search(Square(eps, norm, queries), network, x, y, index, seed=seed, batch_size=batch_size)


def begun(attack, network, x, y):
    rows = {"x": x, "y": y, "x_adv": x.clone(), "success": torch.zeros(len(x), dtype=torch.bool)}
    attack.begin(network, rows, ImageDraws(0, torch.arange(len(x))))
    return rows


def reference(network, x, y, eps, norm, draws, queries, monkeypatch):
    """The reference's images and numbers of queries when its random numbers are `draws`, in float64."""
    attack = SquareAttack(
        network.model,
        {"linf": "Linf", "l2": "L2"}[norm],
        queries,
        eps,
        resc_schedule=False,
    )
    attack.init_hyperparam(x)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(torch, "rand", lambda shape: next(draws).double().reshape(shape))
        torch.set_default_dtype(torch.float64)
        try:
            used, x_adv = attack.attack_single_run(x, y)
        finally:
            torch.set_default_dtype(torch.float32)
    return x_adv, used


def uniform(sign):
    """A value in [0, 1) from which the reference makes this sign."""
    return (torch.as_tensor(sign) + 2) / 4


def ours(attack, network, x, y):
    """Rows after all queries, the rows of the start, and how many queries each image took."""
    rows = begun(attack, network, x, y)
    start = {name: value.clone() for name, value in rows.items()}
    used = torch.ones(len(x))
    for k in range(attack.iterations):
        used += ~rows["success"]
        attack.step(network, rows, k)
    return rows, start, used


def assert_same_search(network, rows, used, x_adv, reference_used):
    margins = rows["margin"]
    logits = network.model(x_adv)
    best = logits.gather(1, rows["y"][:, None]).squeeze(1)
    best = best - logits.scatter(1, rows["y"][:, None], -torch.inf).amax(1)
    torch.testing.assert_close(margins, best, rtol=0, atol=1e-12)
    torch.testing.assert_close(rows["x_adv"], x_adv, rtol=0, atol=1e-12)
    assert torch.equal(used.double(), reference_used.double())
    assert torch.equal(rows["success"], logits.argmax(1) != rows["y"])


def test_linf_search_is_that_of_the_reference_with_the_same_draws(monkeypatch):
    network, x, y = setting(40)
    attack = Square(0.05, queries=250)
    rows, start, used = ours(attack, network, x, y)

    def draws():
        yield uniform((start["x_adv"] - x)[:, :, :1].sign())
        for (top, left, *_), signs in zip(attack.offsets, attack.signs, strict=True):
            yield from (torch.tensor(top), torch.tensor(left), uniform(signs))

    x_adv, reference_used = reference(network, x, y, 0.05, "linf", draws(), 250, monkeypatch)
    assert_same_search(network, rows, used, x_adv, reference_used)
    assert used[rows["success"]].unique().numel() > 5  # early and late, and some never
    assert not rows["success"].all()


def test_l2_search_is_that_of_the_reference_with_the_same_draws(monkeypatch):
    network, x, y = setting(10)  # sides of 2 x 2 tiles: 25 of them fill the image
    attack = Square(0.4, "l2", queries=120)
    rows, start, used = ours(attack, network, x, y)

    def draws(image):
        for tile in range(25):
            top, left = tile // 5 * 2, tile % 5 * 2
            corner = (start["x_adv"] - x)[image, :, top : top + 2, left : left + 2]  # up to scale, a bump
            turned = corner[0, 0, 0] * corner[0, 0, 1] < 0
            yield uniform(1.0 if turned else -1.0)
            yield uniform(corner[:, 0, 0].sign())
        for places, turned, signs in zip(attack.offsets, attack.turned, rows["signs"][image], strict=True):
            yield from map(torch.tensor, places)
            yield uniform(1.0 if turned else -1.0)
            yield uniform(signs)

    for image in range(len(x)):  # alone: the reference draws signs for those left, in their order
        one = slice(image, image + 1)
        found = reference(network, x[one], y[one], 0.4, "l2", draws(image), 120, monkeypatch)
        assert_same_search(network, {name: value[one] for name, value in rows.items()}, used[one], *found)
    assert 0 < rows["success"].sum() < len(x)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7, 12, 25])
def test_bumps_are_those_of_the_reference(side, monkeypatch):
    attack = SquareAttack(None, "L2", eps=1.0, device="cpu")
    monkeypatch.setattr(torch, "rand", lambda shape: torch.zeros(shape))  # not turned
    torch.testing.assert_close(bump(side).float(), attack.eta(side))


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (32, 32), (32, 20)])
def test_windows_shrink_as_the_reference_s(shape):
    attack = SquareAttack(None, "Linf", resc_schedule=False)
    for k in (0, 10, 11, 50, 51, 200, 201, 500, 501, 1000, 1001, 2000, 2001, 4000, 4001, 6001, 8001):
        expected = max(round(math.sqrt(attack.p_selection(k) * shape[0] * shape[1])), 1)
        assert Square(0.1).side(k, *shape) == min(expected, *shape)
        assert Square(0.1, "l2").side(k, *shape) >= min(3, *shape)


@BALLS
def test_results_do_not_depend_on_batch_size_order_or_company(norm, eps):
    network, x, y = setting()
    index = torch.arange(len(x))
    whole = search(network, x, y, norm=norm, eps=eps)
    assert 0 < whole.success.sum() < len(x)
    some = torch.tensor([5, 30, 2, 17, 3])
    for chosen, batch_size in ((index, 7), (index.flip(0), 256), (some, 2)):
        part = search(network, x[chosen], y[chosen], chosen, norm=norm, eps=eps, batch_size=batch_size)
        assert torch.equal(part.success, whole.success[chosen])
        assert torch.equal(part.rows["x_adv"], whole.rows["x_adv"][chosen])


@BALLS
def test_another_seed_searches_elsewhere(norm, eps):
    network, x, y = setting(8)
    first, again, other = (search(network, x, y, norm=norm, eps=eps, queries=20, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.rows["x_adv"], again.rows["x_adv"])
    assert not torch.equal(first.rows["x_adv"], other.rows["x_adv"])


@BALLS
@pytest.mark.parametrize(
    ("shape", "classes"),
    [((1, 8, 8), 4), ((1, 28, 28), 10), ((3, 12, 8), 2), ((3, 8, 13), 6), ((1, 4, 6), 6)],
)
def test_images_stay_in_the_ball_and_the_found_are_wrong(norm, eps, shape, classes):
    network, x, y = setting(24, shape, classes)
    result = search(network, x, y, norm=norm, eps=eps, queries=60)
    x_adv = result.rows["x_adv"]
    assert result.success.any()
    assert torch.equal(network.model(x_adv).argmax(1) != y, result.success)
    assert (excess(x, x_adv, Budget(eps, 0.0, 0, norm)) <= 1e-12).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_eps_0_finds_exactly_the_misclassified(norm):
    network, x, y = setting()
    wrong = torch.arange(len(x)) % 5 == 0
    y = torch.where(wrong, (y + 1) % CLASSES, y)
    result = search(network, x, y, norm=norm, eps=0.0, queries=15)
    assert torch.equal(result.success, wrong)
    assert torch.equal(result.rows["x_adv"], x)


@BALLS
def test_margins_never_rise_and_found_images_never_change(norm, eps):
    network, x, y = setting()
    attack = Square(eps, norm, queries=60)
    rows = begun(attack, network, x, y)
    for k in range(60):
        margin, found, x_adv = rows["margin"].clone(), rows["success"].clone(), rows["x_adv"].clone()
        attack.step(network, rows, k)
        assert (rows["margin"] <= margin).all()
        assert torch.equal(rows["x_adv"][found], x_adv[found])
    assert 0 < found.sum() < len(x)


def test_the_last_row_and_column_keep_their_start_as_in_the_program():
    network, x, y = setting()
    attack = Square(0.05, queries=60)
    rows = begun(attack, network, x, y)
    start = rows["x_adv"].clone()
    for k in range(60):
        attack.step(network, rows, k)
    assert torch.equal(rows["x_adv"][..., -1, :], start[..., -1, :])
    assert torch.equal(rows["x_adv"][..., -1], start[..., -1])
    assert not torch.equal(rows["x_adv"][..., -2], start[..., -2])


def test_a_tie_that_leaves_the_label_first_is_no_success():
    class Undecided(nn.Module):
        def forward(self, x):
            return 0 * x.flatten(1)[:, :3]

    _, x, y = setting(4)
    assert not search(Network(Undecided()), x, torch.zeros_like(y), queries=5).success.any()
    assert search(Network(Undecided()), x, torch.ones_like(y), queries=5).success.all()


@BALLS
def test_a_survivor_costs_a_forward_pass_for_the_start_and_one_for_each_query(norm, eps):
    network, x, y = setting(4)
    search(network, x, y, norm=norm, eps=0.0, queries=30)
    assert (network.passes.forward, network.passes.backward) == (31 * len(x), 0)
    assert Square(eps, norm, 30).cost == (31, 0)


def test_found_images_leave():
    network, x, y = setting()
    search(network, x, y, eps=1.0, queries=2000)
    assert network.passes.forward < 200 * len(x)


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for a device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.name() not in {
            "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero",
        }  # fmt: skip
        masks = [a for a in args[1] if a is not None] if function.name().startswith("aten::index") else []
        assert all(mask.dtype != torch.bool for mask in masks if isinstance(mask, torch.Tensor))
        return function(*args, **(kwargs or {}))


@BALLS
def test_a_step_never_waits_for_the_device(norm, eps):
    network, x, y = setting(6)
    attack = Square(eps, norm, queries=30)
    rows = begun(attack, network, x, y)
    with NoWaiting():
        for k in range(30):
            attack.step(network, rows, k)
