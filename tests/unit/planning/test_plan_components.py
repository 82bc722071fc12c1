"""Components in a plan: shown, part of the identity, scaled, and a start that is planned first."""

from dataclasses import replace
from pathlib import Path

import fairbench_methods.wat
import pytest

from fairbench.core.errors import ConfigError, UnknownNameError
from fairbench.planning.cost import Paces, estimate
from fairbench.planning.overrides import parse_overrides
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.records.results_folder import ResultsFolder
from fairbench.registry import load_registry

ONE = {"methods": ("trades",), "seeds": (0,)}


def only(cells, method):
    (found,) = [cell for cell in cells if cell.method == method and not cell.preparation]
    return found


def test_a_method_without_blocks_keeps_the_identity_it_had(plan):
    (cell,) = plan(**ONE)
    assert set(cell.identity) == {"numerics", "method", "dataset", "model", "protocol", "seed"}


@pytest.mark.parametrize(
    ("change", "block"),
    [
        (
            "averaging=ema",
            {"kind": "ema", "decay": 0.999, "start_epoch": 1, "warmup": True, "batch_norm": "average"},
        ),
        ("averaging.kind=swa", {"kind": "swa", "start_epoch": 5, "batch_norm": "recompute"}),
        ("averaging=fawa", {"kind": "fawa", "decay": 0.85, "start_epoch": 5, "threshold": 0.2}),
        ("awp=true", {"gamma": 0.005, "start_epoch": 2, "inner": "base"}),
        ("awp=0.01", {"gamma": 0.01, "start_epoch": 2, "inner": "base"}),
        ("awp.start_epoch=7", {"gamma": 0.005, "start_epoch": 7, "inner": "base"}),
        ("hold_out=0.1", {"share": 0.1, "min_per_class": 10, "pick": "seeded"}),
    ],
)
def test_a_block_is_written_out_scaled_and_part_of_the_identity_and_of_the_label(plan, change, block):
    (plain,), (cell,) = plan(**ONE), plan(f"methods.trades.{change}", **ONE)
    name = change.partition("=")[0].partition(".")[0]
    assert cell.identity[name] == block
    assert cell.id != plain.id
    assert list(cell.overrides) == [change.partition("=")[0]]
    assert cell.identity["protocol"] == plain.identity["protocol"]  # still rows of one table


def test_a_block_can_be_switched_off_and_an_average_exchanged(plan):
    chosen = {"methods": ("cfa",), "seeds": (0,)}
    assert only(plan(**chosen), "cfa").identity["averaging"]["kind"] == "fawa"
    assert "averaging" not in only(plan("methods.cfa.averaging=none", **chosen), "cfa").identity
    exchanged = only(plan("methods.cfa.averaging=ema", **chosen), "cfa").identity["averaging"]
    assert exchanged["kind"] == "ema"
    assert "threshold" not in exchanged


def test_thresholds_of_the_gate_follow_the_data_set(plan):
    for dataset, threshold in (("cifar10", 0.2), ("stl10", 0.05), ("cifar100", 0.0)):
        cell = only(plan(methods=("cfa",), datasets=(dataset,), seeds=(0,)), "cfa")
        assert cell.identity["averaging"]["threshold"] == threshold


def test_components_for_all_methods_reach_each_and_a_methods_own_setting_wins(registry):
    overrides = parse_overrides(["methods.dafa.averaging=none"], registry) | {
        "all_methods": {"averaging": "ema"}
    }
    selection = replace(Selection(methods=("trades", "dafa"), seeds=(0,)), overrides=overrides)
    cells, _ = resolve(selection, registry, Path("nowhere"))
    assert only(cells, "trades").identity["averaging"]["kind"] == "ema"
    assert "averaging" not in only(cells, "dafa").identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("averaging=emma", "expected 'ema', 'fawa' or 'swa', got 'emma'"),
        ("averaging.decay=0.9", "'kind' is missing"),
        ("averaging.dekay=0.9", "has no option 'dekay'"),
        ("awp=-1", "at least 0"),
        ("hold_out=1.5", "below 1"),
        ("fine_tune=frl", "which itself starts from another method"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_place(plan, change, message):
    with pytest.raises(ConfigError) as error:
        plan(f"methods.trades.{change}", **ONE)
    assert message in error.value.message
    assert "trades" in error.value.message


def test_an_option_of_another_kind_of_average_is_refused(plan):
    with pytest.raises(ConfigError, match="ema has no 'threshold'"):
        plan("methods.trades.averaging=ema", "methods.trades.averaging.threshold=0.1", **ONE)


def test_an_unknown_start_is_refused(plan):
    with pytest.raises(UnknownNameError, match="no method called 'traeds'"):
        plan("methods.trades.fine_tune=traeds", **ONE)


# A start


def test_a_start_is_planned_first_without_the_held_out_images_and_once_for_all_that_share_it(plan):
    cells = plan(methods=("trades", "frl", "frl-rw"), seeds=(0, 1))
    starts, rows = cells[:2], cells[2:]
    assert [cell.preparation for cell in cells] == [True] * 2 + [False] * 6
    frl = only([cell for cell in rows if cell.seed == 0], "frl")
    assert frl.start == starts[0]
    assert only([cell for cell in rows if cell.seed == 0], "frl-rw").start == starts[0]
    assert starts[0].identity["hold_out"] == frl.identity["hold_out"]
    assert starts[0].identity["protocol"] == frl.identity["protocol"]
    assert starts[0].id != only([cell for cell in rows if cell.seed == 0], "trades").id
    assert starts[0].evaluation == ()


def test_a_start_on_all_images_is_the_baseline_itself_and_comes_before(plan):
    cells = plan("methods.frl.fine_tune.hold_out=false", methods=("frl", "trades"), seeds=(0,))
    assert [cell.method for cell in cells] == ["trades", "frl"]
    assert cells[1].start.id == cells[0].id
    assert not cells[0].preparation


def test_a_start_that_is_no_row_of_the_plan_is_a_preparation_even_on_all_images(plan):
    options = ("methods.frl.fine_tune.hold_out=false", "methods.frl.fine_tune.start=pgd-at")
    cells = plan(*options, methods=("frl", "trades"), seeds=(0,))
    assert [(cell.method, cell.preparation) for cell in cells] == [
        ("pgd-at", True),
        ("frl", False),
        ("trades", False),
    ]
    official = plan(options[0], methods=("frl", "trades"), seeds=(0,), protocol="official")
    assert [cell.preparation for cell in official] == [True, False, False]


def test_a_method_that_holds_nothing_out_starts_from_the_baseline_itself(plan):
    cells = plan("methods.trix.fine_tune=trades", methods=("trix", "trades"), seeds=(0,))
    assert [cell.method for cell in cells] == ["trades", "trix"]
    assert cells[1].start.id == cells[0].id


@pytest.mark.parametrize(("method", "options"), [("wat", ()), ("trades", ("methods.trades.averaging=fawa",))])
def test_images_are_held_out_where_they_are_measured_and_the_identity_says_so(plan, method, options):
    chosen = {"methods": (method,), "seeds": (0,)}
    assert only(plan(*options, **chosen), method).identity["hold_out"]["share"] == 0.06
    with pytest.raises(ConfigError, match="measures held-out images"):
        plan(*options, f"methods.{method}.hold_out=none", **chosen)


def test_a_plugin_that_needs_validation_holds_out_without_a_registry_entry(tmp_path):
    text = Path(fairbench_methods.wat.__file__).read_text().replace('@method("wat"', '@method("mine"')
    (tmp_path / "mine.py").write_text(text)
    registry = load_registry([tmp_path / "mine.py"])
    cells, _ = resolve(Selection(methods=("mine",), seeds=(0,)), registry, Path("nowhere"))
    assert only(cells, "mine").identity["hold_out"]["share"] == 0.06


def test_validation_on_training_images_holds_nothing_out(tmp_path):
    text = Path(fairbench_methods.wat.__file__).read_text().replace('@method("wat"', '@method("mine"')
    assert 'Needs(validation="end")' in text
    text = text.replace('Needs(validation="end")', 'Needs(validation="end", validation_on="training")')
    (tmp_path / "mine.py").write_text(text)
    cells, _ = resolve(
        Selection(methods=("mine",), seeds=(0,)), load_registry([tmp_path / "mine.py"]), Path("nowhere")
    )
    assert "hold_out" not in only(cells, "mine").identity


@pytest.mark.parametrize("kind", ["fawa", "swa"])
def test_an_average_begins_in_proportion_to_the_fine_tuning(plan, kind):
    cell = only(
        plan(f"methods.frl.averaging={kind}", methods=("frl",), seeds=(0,), protocol="trix-150"), "frl"
    )
    assert cell.identity["averaging"]["start_epoch"] in (14, 16)
    assert cell.identity["fine_tune"]["epochs"] == 40


@pytest.mark.parametrize("change", ["awp=0", "averaging=none", "hold_out=none"])
def test_switching_off_what_was_not_on_is_the_plain_cell_with_the_plain_label(plan, change):
    (plain,), (cell,) = plan(**ONE), plan(f"methods.trades.{change}", **ONE)
    assert (cell.id, cell.overrides) == (plain.id, plain.overrides)


def test_the_last_word_on_a_block_counts(plan):
    chosen = {"methods": ("cfa",), "seeds": (0,)}
    off, option = "methods.cfa.averaging=none", "methods.cfa.averaging.decay=0.5"
    assert only(plan(off, option, **chosen), "cfa").identity["averaging"]["decay"] == 0.5
    assert "averaging" not in only(plan(option, off, **chosen), "cfa").identity


def test_weight_perturbation_has_its_price(plan, registry):
    (plain,), (dearer,) = plan(**ONE), plan("methods.trades.awp=0.005", **ONE)
    seconds = [estimate(cell, registry, Paces(), cuda=False).seconds for cell in (plain, dearer)]
    assert seconds[1] > 1.1 * seconds[0]


def test_cells_that_differ_only_in_seed_share_their_entry_even_with_a_start(plan):
    cells = [cell for cell in plan(methods=("frl",), seeds=(0, 1)) if cell.method == "frl"]
    assert len({cell.entry for cell in cells}) == 1
    assert len({cell.id for cell in cells}) == 2


def test_what_trains_the_start_is_part_of_the_identity(plan):
    chosen = {"methods": ("frl",), "seeds": (0,)}
    first = only(plan(**chosen), "frl")
    assert only(plan("methods.trades.beta=5", **chosen), "frl").id != first.id
    assert only(plan("methods.frl.fine_tune.start=pgd-at", **chosen), "frl").start.method == "pgd-at"


@pytest.mark.parametrize(
    ("protocol", "options", "epochs"),
    [("trix-150", (), 40), ("quickstart", (), 3), ("quickstart", ("methods.frl.fine_tune.epochs=7",), 7)],
)
def test_fine_tuning_is_short_at_a_constant_small_rate(plan, protocol, options, epochs):
    cell = only(plan(*options, methods=("frl",), seeds=(0,), protocol=protocol), "frl")
    schedule = cell.training_protocol
    assert (schedule.epochs, schedule.milestones) == (epochs, {})
    assert (schedule.optimizer.lr, schedule.optimizer.nesterov) == (0.001, False)
    assert schedule.optimizer.weight_decay == 5e-4
    assert cell.start.training_protocol.optimizer.lr == 0.1


def test_milestones_of_fine_tuning_scale_with_it(plan):
    cell = only(plan(methods=("frl-2021",), seeds=(0,), protocol="budget-30"), "frl-2021")
    schedule = cell.training_protocol
    assert (schedule.epochs, schedule.milestones) == (24, {8: 0.1, 16: 0.01})
    assert cell.start.method == "pgd-at"


@pytest.mark.parametrize("protocol", ["quickstart", "budget-30", "faal-200", "official"])
def test_a_fixed_fine_tuning_keeps_its_epochs_whatever_the_length_of_the_run(plan, protocol):
    cell = only(plan(methods=("faal",), seeds=(0,), protocol=protocol), "faal")
    schedule = cell.training_protocol
    assert (schedule.epochs, schedule.milestones) == (2, {2: 0.1})
    assert (schedule.optimizer.lr, schedule.optimizer.nesterov) == (0.01, False)
    assert schedule.selection.last == min(2, cell.start.training_protocol.selection.last)


@pytest.mark.parametrize(("options", "epochs"), [((), 1), (("methods.faal.fine_tune.epochs=4",), 4)])
def test_a_fine_tuning_that_is_not_fixed_scales(plan, options, epochs):
    chosen = ("methods.faal.fine_tune.fixed=false", *options)
    cell = only(plan(*chosen, methods=("faal",), seeds=(0,)), "faal")
    assert (cell.training_protocol.epochs, cell.training_protocol.milestones) == (epochs, {1: 0.1})


def test_faal_with_awp_perturbs_from_its_first_epoch(plan):
    cell = only(plan(methods=("faal-awp",), seeds=(0,)), "faal-awp")
    assert cell.identity["awp"] == {"gamma": 0.005, "start_epoch": 1, "inner": "base"}
    assert "awp" not in cell.start.identity


@pytest.mark.parametrize("method", ["frl", "frl-2021", "faal"])
def test_a_cell_with_a_start_is_read_back_whole(plan, tmp_path, method):
    cell = only(plan(methods=(method,), seeds=(0,)), method)
    assert ResultsFolder(tmp_path).prepare(cell).read_cell() == cell


def test_a_registry_file_may_give_blocks_and_every_fault_in_them_is_named(tmp_path):
    path = tmp_path / "registry.yaml"
    path.write_text(
        "version: 1\nmethods:\n"
        "  a: {extends: trades, averaging: {kind: ema, threshold: 3}}\n"
        "  b: {extends: trades, awp: {gama: 1}}\n"
        "  c: {extends: cfa, datasets: {stl10: {averaging: {kind: fawa, decay: 2}}}}\n"
        "  d: {extends: trades, fine_tune: {start: nobody}}\n".replace("\\\n", "\n")
    )
    with pytest.raises(ConfigError) as error:
        load_registry([path])
    for text in (
        "methods.a.averaging.threshold",
        "ema has no 'threshold'",
        "methods.b.awp.gama",
        "methods.c.datasets.stl10.averaging.decay",
        "methods.d.fine_tune.start",
        "no method called 'nobody'",
    ):
        assert text in error.value.message


def test_what_extends_a_method_inherits_its_blocks_unless_it_brings_its_own(tmp_path):
    path = tmp_path / "registry.yaml"
    path.write_text(
        "version: 1\nmethods:\n  same: {extends: cfa}\n  own: {extends: cfa, averaging: {kind: swa}}\n"
    )
    registry = load_registry([path])
    assert registry.method_components("same", "stl10") == registry.method_components("cfa", "stl10")
    own = registry.method_components("own", "stl10")
    assert own["averaging"]["kind"] == "swa"
    assert "threshold" not in own["averaging"]
    assert own["hold_out"] == registry.method_components("cfa")["hold_out"]
