"""A plan: costs by entry, a budget on several devices, and what is missing."""

from pathlib import Path

import pytest

from fairbench.planning.plan import make_plan, unfinished
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import parse_selection
from fairbench.registry import load_registry

REGISTRY = load_registry(())


@pytest.fixture
def planned(tmp_path: Path):
    """The plan of a selection in an empty results folder."""

    def make(selection: dict, **options):
        cells, notes = resolve(parse_selection(REGISTRY, **selection), REGISTRY, tmp_path)
        return make_plan(
            cells, REGISTRY, tmp_path / "results", tmp_path, notes=notes, device="cpu", **options
        )

    return make


def test_a_plan_of_an_empty_folder_is_all_to_do_and_a_guess(planned):
    plan = planned({"methods": "trix", "seeds": "0..1"})
    assert plan.states == {"missing": 4}  # trix, and trades for rho
    assert len(plan.to_do) == len(unfinished(plan.planned)) == 4
    assert plan.notes
    assert plan.guessed
    assert 0 < plan.disk_bytes < plan.free_bytes
    assert plan.missing_data == ()


def test_seeds_of_an_entry_cost_the_same(planned):
    plan = planned({"methods": "trades", "seeds": "0..2"})
    assert len({plan.costs[item.cell.id].seconds for item in plan.planned}) == 1


def test_two_devices_take_half_the_time(planned):
    one, two = (planned({"methods": "trades", "seeds": "0..3"}, devices=devices) for devices in (1, 2))
    assert one.seconds == pytest.approx(2 * two.seconds)


def test_a_budget_leaves_out_whole_cells_and_counts_them_by_method(planned):
    whole = planned({"methods": "trades,dafa", "seeds": "0..1"})
    longest = max(cost.seconds for cost in whole.costs.values())
    plan = planned({"methods": "trades,dafa", "seeds": "0..1"}, budget=2.1 * longest)
    assert [item.cell.seed for item in plan.to_do] == [0, 0]
    assert plan.left_methods == {"trades": 1, "dafa": 1}
    nothing = planned({"methods": "trades"}, budget=1e-9)
    assert (nothing.to_do, nothing.seconds, nothing.disk_bytes) == ((), 0.0, 0)


def test_data_sets_that_are_not_prepared_are_named_once(planned):
    plan = planned({"methods": "trades", "datasets": "cifar10,digits,cifar100", "models": "cnn-small"})
    assert plan.missing_data == ("cifar10", "cifar100")
