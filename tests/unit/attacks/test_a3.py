"""A3: the published plan, directions as specified, and decisions that follow from results only."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.overrides import TorchFunctionMode

from fairbench.attacks.a3 import Ranking, Restart, a3, choose, step_sizes
from fairbench.attacks.a3_plan import BY_DIRECTION, BY_MARGIN, AttackStatistics, DirectionBias, plan_bias
from fairbench.attacks.budget import BUDGET_TOLERANCE, Budget, excess
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.margin import margin
from fairbench.attacks.network import Network
from fairbench.attacks.search import SearchResult, run_search

EPS = 0.1
SHAPE = (1, 4, 4)


def toy(num_classes=6, num_images=12):
    """A small curved model, images, and the labels that it gives them; all float64."""
    generator = torch.Generator().manual_seed(num_classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, num_classes)).double()
    for parameter in model.parameters():
        parameter.requires_grad_(False).copy_(torch.randn(parameter.shape, generator=generator) / 3)
    x = torch.rand(num_images, *SHAPE, generator=generator, dtype=torch.float64)
    return model.eval(), x, model(x).argmax(1)


class Bench:
    """Runs the searches that A3 asks for, stores results by key, and returns stored ones."""

    def __init__(self, model, x, y, *, seed=0, batch_size=64, stored=None):
        self.network, self.x, self.y = Network(model), x, y
        self.seed, self.batch_size = seed, batch_size
        self.stored = {} if stored is None else dict(stored)
        self.keys, self.x_adv = [], x.clone()

    def __call__(self, search, index, key, *, target, keep):
        self.keys.append(key)
        if key not in self.stored:
            self.stored[key] = run_search(
                search,
                self.network,
                self.x[index],
                self.y[index],
                index,
                seed=self.seed,
                purpose=key,
                target=target,
                keep=(*keep, "x_adv"),
                batch_size=self.batch_size,
            )
        result = self.stored[key]
        self.x_adv[index[result.success]] = result.rows["x_adv"][result.success]
        return result

    def run(self, eps=EPS, norm="linf", num_classes=6):
        everyone = torch.arange(len(self.x))
        settings = {"eps": eps, "norm": norm, "num_classes": num_classes, "num_images": len(self.x)}
        return a3(self, everyone, **settings).tolist()


@pytest.fixture(scope="module")
def finished():
    """A whole run with some images left at the end, and the positions of those."""
    bench = Bench(*toy())
    return bench, bench.run()


class Scripted:
    """An attack without a model: each call's result is made up: `fall(key, n)` -> success, in start (n,)."""

    def __init__(
        self, fall=lambda key, n: (torch.zeros(n, dtype=torch.bool),) * 2, num_rivals=9, weights=(0.0, 0.0)
    ):
        self.fall, self.num_rivals, self.weights, self.calls = fall, num_rivals, weights, []

    def __call__(self, search, index, key, *, target, keep):
        self.calls.append((key, search, index, target))
        n = len(index)
        success, in_start = self.fall(key, n)
        own, reached = (torch.full((n,), weight) for weight in self.weights)
        rows = {"best": -1.0 - index, "in_start": in_start, "own_weight": own, "reached_weight": reached}
        rows["rival"] = torch.arange(self.num_rivals).expand(n, -1)
        return SearchResult(success, {name: rows[name] for name in keep})

    def rounds(self):
        """For each of rounds 0..12: start steps, steps, images of the first restart, restarts."""
        first, restarts = {}, {}
        for key, search, index, _ in self.calls[1:]:
            number = int(key.split(".")[0])
            first.setdefault(number, (search.start_steps, search.iterations - search.start_steps, len(index)))
            restarts[number] = restarts.get(number, 0) + 1
        return [(*first[number], restarts[number]) for number in sorted(first)]


def first_fall(count, keys=("1.1",), in_start=True):
    """The first `count` images of these calls fall."""

    def fall(key, n):
        success = torch.arange(n) < (count if key in keys else 0)
        return success, success & in_start

    return fall


run = partial(a3, eps=EPS, num_classes=10)


def test_hard_models_get_the_published_rounds():
    script = Scripted()
    run(script, torch.arange(10_000), num_images=10_000)
    assert script.rounds() == [
        (0, 8, 10_000, 1),
        (7, 15, 10_000, 1),
        (7, 15, 10_000, 1),
        (7, 32, 7_000, 1),
        (7, 37, 6_000, 1),
        (7, 37, 5_000, 1),
        (7, 42, 4_000, 1),
        (7, 47, 3_000, 1),
        (7, 52, 2_000, 1),
        (7, 57, 1_000, 1),
        (7, 57, 1_000, 4),
        (7, 62, 650, 4),
        (7, 67, 300, 50),
    ]


@pytest.mark.parametrize(("fallen", "by_direction"), [(49, False), (50, True)])
def test_models_that_fall_in_the_start_steps_get_the_other_published_rounds(fallen, by_direction):
    script = Scripted(first_fall(fallen))
    run(script, torch.arange(1_000), num_images=1_000)
    rounds = script.rounds()
    if not by_direction:
        assert [each[:2] for each in rounds[3:]] == [(r.start_steps, r.steps) for r in BY_MARGIN]
        return
    assert rounds[3:] == [
        (10, 15, 950, 10),
        (15, 20, 950, 1),
        (15, 25, 950, 1),
        (10, 20, 950, 1),
        (10, 25, 950, 1),
        (10, 28, 950, 1),
        (10, 30, 950, 1),
        (10, 35, 760, 5),
        (10, 45, 475, 5),
        (10, 55, 475, 20),
    ]


def test_images_that_fall_later_than_in_the_start_steps_do_not_change_the_rounds():
    script = Scripted(first_fall(500, in_start=False))
    run(script, torch.arange(1_000), num_images=1_000)
    assert script.rounds()[3][:2] == (7, 32)


def test_below_a_tenth_all_are_attacked_ten_more_times():
    script = Scripted()
    run(script, torch.arange(99), num_images=1_000)
    assert [each[2:] for each in script.rounds()] == [(99, 11)] * 10 + [(99, 14)] * 2 + [(99, 60)]


@pytest.mark.parametrize(
    ("num_images", "asked", "last"), [(999, None, 29), (1_000, None, 100), (999, 100, 100), (1_000, 1, 30)]
)
def test_a_hundred_images_are_the_least_from_a_thousand_on_or_when_asked(num_images, asked, last):
    script = Scripted()
    run(script, torch.arange(num_images), num_images=num_images, min_images=asked)
    assert script.rounds()[-1][2] == last


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.data())
def test_the_hardest_pushed_of_the_robust_are_chosen_in_order(margins, data):
    best = torch.tensor(margins, dtype=torch.float64)
    robust = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(margins), max_size=len(margins))))
    chosen = choose(best, robust, data.draw(st.floats(0.01, 1)), 1)
    left = robust.clone()
    left[chosen] = False
    assert robust[chosen].all()
    assert torch.equal(chosen, chosen.unique())
    assert bool(len(chosen)) == bool(robust.any())
    if left.any():
        assert best[chosen].min() >= best[left].max()


def test_rivals_take_turns_best_first():
    script = Scripted()
    run(script, torch.arange(200), num_images=200)
    turns = [target if target is None else int(target[0]) for _, _, _, target in script.calls]
    assert turns[:3] == [None] * 3  # the ranking and the two rounds without a lean
    assert turns[3:11] == [1, 2, 3, 4, 5, 6, 7, 8]  # rounds 2 to 9; restart 1 would have had the best
    assert turns[11:] == [restart % 4 for restart in range(9, 67)]


@pytest.mark.parametrize(
    ("own_weight_sum", "reached_weight_sum", "own", "rival"),
    [
        (1, 1, (-0.1, 0.5), 0.8),
        (1, -1, (-0.1, 0.5), -0.8),
        (-1, -1, (-0.5, 0.1), -0.8),
        (-1, 1, (-0.5, 0.1), 0.8),
        (0, 0, (-0.5, 0.1), 0.8),
    ],
)
def test_what_fell_in_round_one_gives_the_signs(own_weight_sum, reached_weight_sum, own, rival):
    script = Scripted(first_fall(4), weights=(own_weight_sum, reached_weight_sum))
    run(script, torch.arange(200), num_images=200)
    biases = [search.bias for key, search, *_ in script.calls if key in ("1.1", "2.1", "3.1")]
    assert biases == [None, DirectionBias(own, rival, 9), DirectionBias(own, rival, 9)]


def test_later_rounds_and_many_classes_have_signs_of_their_own():
    statistics, broken_in_start = (
        AttackStatistics(robust=100, own_weight_sum=1, reached_weight_sum=-1),
        AttackStatistics(robust=100, in_start=5),
    )
    assert plan_bias(9, statistics, 10) == DirectionBias((-0.1, 0.5), -0.8, 9)
    assert plan_bias(10, statistics, 10) == DirectionBias((-0.8, 0.1), 0.8, 4)
    assert plan_bias(9, statistics, 100) == DirectionBias((-5.0, 1.0), 8.0, 14)
    assert plan_bias(12, statistics, 100) == DirectionBias((-8.0, 1.0), 8.0, 14)
    assert plan_bias(10, broken_in_start, 10) == DirectionBias((-0.1, 0.5), 0.8, 9)
    assert plan_bias(11, broken_in_start, 10) == DirectionBias((0.0, 0.0), 0.8, 9)
    assert plan_bias(12, statistics, 4) == DirectionBias((-0.8, 0.1), 0.8, 3)


def test_a_direction_leans_to_its_rival_and_is_uniform_elsewhere():
    n, num_classes = 400, 5
    y = torch.arange(n) % num_classes
    rows = {"x": torch.zeros(n, *SHAPE), "y": y, "target": (y + 1) % num_classes, "success": y < 0}
    search = Restart(EPS, "linf", num_classes, 7, 15, DirectionBias((-0.1, 0.5), -0.8, 4))
    search.begin(Network(nn.Identity()), rows, ImageDraws(0, torch.arange(n)))
    direction = rows["direction"]
    own, rival = (direction.gather(1, rows[name][:, None]) for name in ("y", "target"))
    others = direction.gather(1, (y[:, None] + torch.tensor([2, 3, 4])) % num_classes)
    assert (rival == -0.8).all()
    assert -0.1 <= own.min() < -0.05 < 0.45 < own.max() <= 0.5
    assert -1 <= others.min() < -0.9 < 0.9 < others.max() <= 1


@pytest.mark.parametrize(("steps", "least"), [(8, 0.1), (10, 0.1), (11, 0.001), (67, 0.001)])
def test_steps_shrink_from_the_radius_along_a_cosine(steps, least):
    sizes = step_sizes(EPS, steps)
    assert len(sizes) == steps
    assert sizes[0] == EPS
    assert all(later < earlier for earlier, later in pairwise(sizes))
    turn = (1 + math.cos(math.pi * (steps - 1) / (steps + 1))) / 2
    assert sizes[-1] == pytest.approx(EPS * (least + (1 - least) * turn))


def test_rivals_are_ranked_by_their_logits_without_the_label():
    model, x, y = toy()
    rows = run_search(
        Ranking(0.0, "linf", 3), Network(model), x, y, torch.arange(12), seed=0, keep=("rival",)
    ).rows
    expected = model(x).scatter(1, y[:, None], -torch.inf).topk(3).indices
    assert torch.equal(rows["rival"], expected)


def restart(num_classes=6, **options):
    return Restart(EPS, "linf", num_classes, 3, 9, DirectionBias((-0.5, 0.1), 0.8, 3), **options)


def search_all(order, batch_size):
    model, x, y = toy(num_images=40)
    given = {
        "seed": 3,
        "target": ((y + 1) % 6)[order],
        "keep": ("best", "in_start", "reached_weight", "x_adv"),
    }
    return run_search(restart(), Network(model), x[order], y[order], order, batch_size=batch_size, **given)


def test_results_depend_neither_on_batches_nor_on_order():
    whole = search_all(torch.arange(40), 64)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    parts = search_all(order, 7)
    assert 0 < whole.success.sum() < 40
    assert torch.equal(parts.success, whole.success[order])
    for name, value in whole.rows.items():
        assert torch.allclose(parts.rows[name].double(), value[order].double(), rtol=0, atol=1e-12), name


def test_a_step_costs_one_pass_each_way_and_the_last_iterate_one_more():
    model, x, y = toy()
    network = Network(model)
    search = Restart(0.0, "linf", 6, 3, 9, None)
    run_search(search, network, x, y, torch.arange(12), seed=0)
    assert (network.passes.forward, network.passes.backward) == (12 * 13, 12 * 12)
    assert search.cost == (13, 12)


def test_the_rows_tell_when_and_where_an_image_fell():
    model, x, y = toy(num_images=60)
    keep = ("best", "in_start", "own_weight", "reached_weight", "direction", "x_adv")
    rows, found = {}, {}
    for start_steps in (0, 3):
        search = Restart(EPS, "linf", 6, start_steps, 9, None)
        result = run_search(search, Network(model), x, y, torch.arange(60), seed=0, keep=keep)
        rows[start_steps], found[start_steps] = result.rows, result.success
        direction, logits = result.rows["direction"], model(result.rows["x_adv"])
        reached = direction.gather(1, logits.argmax(1, keepdim=True)).squeeze(1)
        assert torch.equal(result.rows["own_weight"], direction.gather(1, y[:, None]).squeeze(1))
        assert torch.equal(result.rows["reached_weight"], torch.where(result.success, reached, 0.0))
        assert torch.equal(result.rows["best"] > 0, result.success)
        assert (result.rows["best"][result.success] >= margin(logits, y)[result.success] - 1e-12).all()
    in_start = rows[3]["in_start"]
    assert torch.equal(in_start & found[3], in_start)
    assert (found[3] & ~in_start).any()
    assert rows[0]["in_start"].sum() < in_start.sum()  # without start steps only the random start counts


class Unread(TorchFunctionMode):
    """Refuses calls whose result's shape or value the host has to wait for."""

    WAITING = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")
    WAITING += ("nonzero", "masked_select", "equal", "allclose", "unique")

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert func.__name__ not in self.WAITING, func.__name__
        if func.__name__ in ("__getitem__", "__setitem__"):
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            assert not any(isinstance(place, torch.Tensor) and place.dtype == torch.bool for place in places)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("search", [restart(), Ranking(EPS, "linf", 3)])
def test_a_step_never_waits_for_the_device(search):
    model, x, y = toy()
    network = Network(model)
    rows = {"x": x, "y": y, "target": (y + 1) % 6, "x_adv": x, "success": y < 0}
    search.begin(network, rows, ImageDraws(0, torch.arange(12)))
    shapes = {name: value.shape for name, value in rows.items()}
    with Unread():
        for k in range(search.iterations):
            search.step(network, rows, k)
    assert {name: value.shape for name, value in rows.items()} == shapes


@pytest.mark.parametrize(
    "wait", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: bool((x > 0).any())]
)
def test_waiting_would_be_noticed(wait):
    with Unread(), pytest.raises(AssertionError):
        wait(torch.ones(3))


def test_what_is_left_is_still_recognised_and_what_fell_is_not(finished):
    bench, left = finished
    model = bench.network.model
    assert 0 < len(left) < len(bench.x)
    robust = torch.isin(torch.arange(len(bench.x)), torch.tensor(left))
    assert torch.equal(model(bench.x_adv).argmax(1) == bench.y, robust)


def test_adversaries_stay_in_the_ball_and_in_the_pixel_range(finished):
    bench, _ = finished
    assert (excess(bench.x, bench.x_adv, Budget(EPS, 0.0, 0)) <= BUDGET_TOLERANCE).all()


def test_stored_results_lead_to_the_same_calls_without_a_pass(finished):
    bench, left = finished
    replay = Bench(*toy(), stored=bench.stored)
    assert replay.run() == left
    assert replay.keys == bench.keys
    assert replay.network.passes.forward == 0


def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not(finished):
    bench, left = finished
    half = dict(list(bench.stored.items())[: len(bench.stored) - 5])
    resumed = Bench(*toy(), stored=half, batch_size=5)
    assert resumed.run() == left
    for key, result in bench.stored.items():
        assert torch.equal(resumed.stored[key].success, result.success)
        for name, value in result.rows.items():
            again = resumed.stored[key].rows[name]
            assert torch.allclose(again.double(), value.double(), rtol=0, atol=1e-12), (key, name)


def test_an_image_that_is_found_but_not_confirmed_stays_in_the_pool():
    script = Scripted()  # says of all images that they stand, whatever their margins
    assert len(run(script, torch.arange(50), num_images=50)) == 50


def test_restarts_draw_anew_and_the_seed_decides():
    model, x, y = toy()

    def margins(seed, purpose):
        search = Restart(EPS, "linf", 6, 3, 2, None)
        index = torch.arange(12)
        return run_search(
            search, Network(model), x, y, index, seed=seed, purpose=purpose, keep=("best",)
        ).rows["best"]

    assert torch.equal(margins(0, "a"), margins(0, "a"))
    assert not torch.equal(margins(0, "a"), margins(1, "a"))
    assert not torch.equal(margins(0, "a"), margins(0, "b"))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_radius_zero_breaks_nothing(norm):
    model, x, y = toy()
    for search in (Ranking(0.0, norm, 3), Restart(0.0, norm, 6, 7, 15, None)):
        result = run_search(search, Network(model), x, y, torch.arange(12), seed=0)
        assert not result.success.any()
        assert torch.equal(result.rows["x_adv"], x)


@pytest.mark.parametrize("num_classes", [4, 12, 101])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.5), ("l2", 4.0)])
def test_a_model_that_is_not_robust_falls_to_zero_for_any_number_of_classes(norm, eps, num_classes):
    bench = Bench(*toy(num_classes))
    assert bench.run(eps=eps, norm=norm, num_classes=num_classes) == []
    assert (excess(bench.x, bench.x_adv, Budget(eps, 0.0, 0, norm)) <= BUDGET_TOLERANCE).all()


def test_nothing_is_asked_of_an_empty_pool():
    script = Scripted()
    assert run(script, torch.arange(0), num_images=50).tolist() == []
    assert [key for key, *_ in script.calls] == ["ranking"]


def test_both_plans_have_ten_rounds():
    assert len(BY_MARGIN) == len(BY_DIRECTION) == 10
