"""Cells: what is part of an identity, what is not, and what a run would cost."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.core.errors import ConfigError, RecordError
from fairbench.core.files import write_json, write_sealed
from fairbench.core.identity import digest
from fairbench.planning.cost import Paces, estimate
from fairbench.planning.protocols import scaled_epochs, set_path
from fairbench.planning.resolve import evaluation_content, resolve
from fairbench.planning.selection import Selection
from fairbench.planning.status import statuses
from fairbench.records.cell import Cell, cell_ids
from fairbench.records.results_folder import ResultsFolder
from fairbench.registry import load_registry
from fairbench.registry.protocol import RequestedAttack

TRIX_150 = load_registry([]).get("protocol", "trix-150")
SMALL = {"methods": ("trades", "trix"), "seeds": (0, 1)}


def ids(cells: list[Cell]) -> list[str]:
    return [cell.id for cell in cells]


def test_the_same_plan_in_another_order_has_the_same_ids(plan):
    expected = set(ids(plan(methods=("trades", "dafa", "trix"), seeds=(0, 1))))
    assert len(expected) == 6
    for methods in itertools.permutations(("trades", "dafa", "trix")):
        assert set(ids(plan(methods=methods, seeds=(1, 0)))) == expected


def test_the_order_of_overrides_is_no_part_of_an_id(plan):
    items = ("methods.trix.beta=3", "protocol.epochs=5", "protocol.optimizer.lr=0.2")
    expected = ids(plan(*items, **SMALL))
    for order in itertools.permutations(items):
        assert ids(plan(*order, **SMALL)) == expected


def test_where_data_and_plugins_lie_is_no_part_of_an_id(plan, tmp_path: Path):
    here, there = plan(**SMALL), plan(data=str(tmp_path), **SMALL)
    assert ids(here) == ids(there)
    assert here[0].locations != there[0].locations
    text = str([cell.identity for cell in here])
    assert str(Path(__file__).parents[3]) not in text
    assert ".py" not in text


@pytest.mark.parametrize(
    "change",
    [
        "protocol.threat.eps=0.05",
        "protocol.budget.step_size=0.02",
        "protocol.budget.num_steps=3",
        "protocol.epochs=5",
        "protocol.batch_size=32",
        "protocol.optimizer.lr=0.2",
        "protocol.optimizer.momentum=0.8",
        "protocol.optimizer.weight_decay=0.0",
        "protocol.optimizer.nesterov=false",
        "protocol.milestones.4=0.5",
        "protocol.augmentation.crop_padding=2",
        "protocol.augmentation.padding=reflect",
        "protocol.augmentation.flip=false",
        "protocol.selection.last=1",
    ],
)
def test_every_setting_of_a_protocol_is_part_of_every_id(plan, change):
    before, after = plan(**SMALL), plan(change, **SMALL)
    assert not set(ids(before)) & set(ids(after))


def test_a_subset_is_part_of_an_id(plan):
    found = {
        cell.id
        for size in (10, 11)
        for cell in plan(
            f"protocol.subset.train_per_class={size}", "protocol.subset.test_per_class=5", **SMALL
        )
    }
    assert len(found | set(ids(plan(**SMALL)))) == 12


def test_what_a_user_sets_by_hand_counts_in_the_epochs_of_the_run(plan):
    changes = ("protocol.epochs=30", "protocol.milestones.7=0.5", "protocol.selection.last=2")
    protocol = plan(*changes, methods=("trades",), seeds=(0,), protocol="trix-150")[0].identity["protocol"]
    assert {int(epoch): factor for epoch, factor in protocol["milestones"].items()} == {
        7: 0.5,
        28: 0.1,
        29: 0.01,
    }
    assert protocol["selection"]["last"] == 2


def test_every_option_of_a_method_is_part_of_its_ids_and_of_no_other(plan, registry):
    changed = {float: 0.125, int: 3, bool: None, str: None}
    before = {cell.slot: cell.id for cell in plan(**SMALL)}
    for name, option in registry.plugin("trix").options.items():
        value = changed[type(option.default)] if option.default is not None else 2.5
        if isinstance(option.default, bool):
            value = str(not option.default).lower()
        if value is None:
            continue
        for cell in plan(f"methods.trix.{name}={value}", **SMALL):
            assert (cell.id == before[cell.slot]) == (cell.method == "trades"), name


def test_seed_model_and_data_set_are_part_of_an_id_and_the_entry_ignores_the_seed(plan):
    cells = plan(
        methods=("trades",), models=("cnn-small", "resnet18"), datasets=("cifar10", "mnist"), seeds=(0, 1)
    )
    assert len(set(ids(cells))) == 8
    assert len({cell.entry for cell in cells}) == 4


def attacks(*texts):
    return tuple(RequestedAttack.model_validate(text) for text in texts)


def test_another_attack_changes_no_id_of_a_cell_and_each_attack_has_its_own(plan):
    before, after = plan(**SMALL), plan(attacks=attacks("pgd-20", "autoattack"), **SMALL)
    assert ids(before) == ids(after)
    evaluations = [attack.id for cell in after for attack in cell.evaluation]
    assert len(set(evaluations)) == 2 * len(after)


def test_the_baseline_is_added_once(plan):
    assert [cell.method for cell in plan(methods=("trix",), seeds=(0,))] == ["trades", "trix"]
    assert [cell.method for cell in plan(methods=("trix", "trades"), seeds=(0,))] == ["trix", "trades"]


def test_the_official_protocol_is_each_methods_own(plan):
    cells = plan(methods=("trades", "dafa"), datasets=("cifar10",), protocol="official", seeds=(0,))
    assert [cell.identity["protocol"]["epochs"] for cell in cells] == [76, 110]


@pytest.mark.parametrize(
    "change",
    [
        "protocol.epochs=0",
        "protocol.epochs=true",
        "protocol.optimizer=fast",
        "protocol.epochs.last=3",
        "protocol.nothing.inside=3",
        "protocol.selection.last=99",
        "protocol.threat.norm=l2",
    ],
)
def test_an_impossible_protocol_is_an_error(plan, change):
    with pytest.raises(ConfigError):
        plan(change, **SMALL)


def test_set_path_creates_what_is_none_and_refuses_what_has_no_inside():
    data: dict = {"subset": None, "epochs": 3}
    set_path(data, "subset.train_per_class", 5)
    assert data["subset"] == {"train_per_class": 5}
    with pytest.raises(ConfigError, match="epochs"):
        set_path(data, "epochs.last", 5)


@given(st.integers(1, 400))
def test_epochs_of_a_method_scale_with_the_run_like_milestones(epochs):
    config = {"warmup_epochs": 70, "mix_start_epoch": 1, "beta": 6.0, "flag_epochs": True, "epochs": 40}
    scaled = scaled_epochs(config, epochs / 150)
    assert 1 <= scaled["warmup_epochs"] <= max(epochs, 1)
    assert scaled["warmup_epochs"] == max(1, round(70 * epochs / 150))
    assert 1 <= scaled["mix_start_epoch"] <= max(1, round(epochs / 150))
    assert scaled["epochs"] == max(1, round(40 * epochs / 150))
    assert (scaled["beta"], scaled["flag_epochs"]) == (6.0, True)
    assert (scaled == config) or epochs != 150


def test_epochs_that_a_user_sets_by_hand_are_not_scaled(plan):
    (_, cell) = plan(
        "methods.trix.warmup_epochs=7", "protocol.epochs=30", methods=("trades", "trix"), seeds=(0,)
    )
    assert cell.identity["method"]["config"]["warmup_epochs"] == 7


def test_a_cell_survives_its_file_and_a_changed_file_is_refused(plan, tmp_path: Path):
    (cell,) = plan(methods=("trades",), seeds=(3,))
    run = ResultsFolder(tmp_path).prepare(cell)
    assert run.read_cell().to_json() == cell.to_json()
    for change, said in (
        ({"identity": {**cell.identity, "seed": 4}}, "changed by hand"),
        ({"schema": 2}, "schema 2"),
    ):
        write_sealed(run.cell_file, cell.to_json() | change)
        with pytest.raises(RecordError, match=said):
            run.read_cell()
    write_sealed(run.cell_file, {"schema": 1})
    with pytest.raises(RecordError, match="id is not a text"):
        run.read_cell()
    write_json(run.cell_file, cell.to_json())
    with pytest.raises(RecordError, match="no digest, so it may have been changed"):
        run.read_cell()


def test_a_cost_is_positive_and_grows_with_the_work(plan, registry):
    def seconds(*changes: str, cuda: bool = False, **chosen) -> float:
        (cell,) = plan(*changes, methods=("trades",), seeds=(0,), **chosen)
        return estimate(cell, registry, Paces(), cuda=cuda).seconds

    base = seconds()
    assert base > 0
    assert seconds("protocol.epochs=24") > base
    assert seconds("protocol.budget.num_steps=10") > base
    assert seconds("protocol.subset.train_per_class=10", "protocol.subset.test_per_class=5") < base
    assert seconds(models=("resnet18",), datasets=("mnist",)) > seconds(datasets=("mnist",))
    assert seconds(attacks=attacks("autoattack")) > seconds(attacks=attacks("autoattack@last")) > base
    assert seconds(cuda=True) < base


def test_a_measured_epoch_replaces_the_guess(plan, registry):
    (cell,) = plan(methods=("trades",), seeds=(0,))
    paces = Paces({cell.entry: 10.0})
    found = estimate(cell, registry, paces, cuda=False)
    assert found.measured
    assert found.seconds >= 10.0 * cell.identity["protocol"]["epochs"]


def test_a_folder_of_other_settings_is_missing_and_of_changed_code_stale(plan, tmp_path: Path):
    (cell,) = plan(methods=("trades",), seeds=(0,))
    (other,) = plan("methods.trades.beta=1", methods=("trades",), seeds=(0,))
    folder = tmp_path / "runs" / other.folder_name
    folder.mkdir(parents=True)
    write_sealed(folder / "cell.json", other.to_json())
    assert [item.state for item in statuses([cell], tmp_path)] == ["missing"]
    write_sealed(folder / "cell.json", other.to_json() | {"overrides": cell.overrides})
    (item,) = statuses([cell], tmp_path)
    assert (item.state, item.reason) == ("stale", "method changed since")
    assert [item.state for item in statuses([other], tmp_path)] == ["partial"]


@pytest.mark.parametrize("suite", ["quickstart", "table1", "table6", "figure1"])
def test_ids_of_many_seeds_are_those_that_each_cell_hashes_by_itself(suite, tmp_path):
    cells, _ = resolve(Selection(suite=suite, seeds=(0, 3, 12)), load_registry(), tmp_path)
    assert {cell.seed for cell in cells} == {0, 3, 12}
    for cell in [*cells, *(cell.start for cell in cells if cell.start)]:
        assert cell.identity["seed"] == cell.seed
        assert cell_ids(cell.identity) == (cell.id, cell.entry)
        for attack in cell.evaluation:
            assert attack.id == digest(evaluation_content(cell.identity, attack.name, attack.settings), 8)
        assert cell.start is None or cell.start.seed == cell.seed
