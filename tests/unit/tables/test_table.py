"""Tables from records: numbers by hand for a small case, then laws."""

import math
import statistics
import subprocess
import sys

import numpy as np
import pytest

from fairbench.core.errors import ConfigError, UnknownNameError
from fairbench.records.results_folder import scan
from fairbench.tables.formats import FORMATS, render
from fairbench.tables.request import TableRequest
from fairbench.tables.views import build_tables

T_OF_TWO_SEEDS = 12.706204736  # 97.5 % quantile of Student's t with one degree of freedom


def request(**options):
    """The six columns that numbers by hand are worked out for, unless the test chooses others."""
    return TableRequest(**{"columns": ("average", "worst", "rho"), **options})


def tables(path, attack=None, **options):
    return build_tables(scan(path)[0], request(**options), attack)


def column(table, k):
    return [row.cells[k] for row in table.rows]


@pytest.fixture
def tiny(results):
    """Two seeds of trades and dafa, one checkpoint of 30 images each."""
    results.run("trades", 0, clean=((9, 9, 6),), robust=((6, 5, 4),))
    results.run("trades", 1, clean=((9, 9, 9),), robust=((6, 7, 2),))
    results.run("dafa", 0, clean=((8, 8, 8),), robust=((5, 4, 5),))
    results.run("dafa", 1, clean=((7, 8, 6),), robust=((5, 5, 5),))
    return results


def test_every_number_of_a_tiny_table_by_hand(tiny):
    (table,) = tables(tiny.path)
    trades, dafa = table.rows
    assert (trades.label, dafa.label) == ("trades", "dafa")
    means = [cell.value for cell in trades.cells]
    assert means == pytest.approx([(24 + 27) / 60, (0.6 + 0.9) / 2, 0, (15 + 15) / 60, (0.4 + 0.2) / 2, 0])
    means = [cell.value for cell in dafa.cells]
    clean_rho = (0.7 - 0.75) / 0.75 + (45 / 60 - 51 / 60) / (51 / 60)
    robust_rho = (0.45 - 0.3) / 0.3 + (29 / 60 - 30 / 60) / (30 / 60)
    assert means == pytest.approx([45 / 60, (0.8 + 0.6) / 2, clean_rho, 29 / 60, (0.4 + 0.5) / 2, robust_rho])


def test_errors_of_a_tiny_table_by_hand(tiny):
    (table,) = tables(tiny.path)
    worst = table.rows[0].cells[1]
    assert worst.sd == pytest.approx(statistics.stdev([0.6, 0.9]))
    assert worst.half_width == pytest.approx(T_OF_TWO_SEEDS * statistics.stdev([0.6, 0.9]) / math.sqrt(2))
    # Influence of each seed on rho of the robust side: the average of trades is 15 / 30 for both.
    influence = [
        (worst - 0.45) / 0.3 - 0.45 * (base - 0.3) / 0.3**2 + (average - 29 / 60) / 0.5
        for worst, base, average in ((0.4, 0.4, 14 / 30), (0.5, 0.2, 15 / 30))
    ]
    rho = table.rows[1].cells[5]
    assert rho.sd == pytest.approx(statistics.stdev(influence))
    assert rho.half_width == pytest.approx(T_OF_TWO_SEEDS * statistics.stdev(influence) / math.sqrt(2))
    assert table.rows[0].cells[2].half_width is None


def test_the_highest_mean_of_each_column_is_best(tiny):
    (table,) = tables(tiny.path)
    assert [[cell.best for cell in row.cells] for row in table.rows] == [
        [True, True, True, True, False, False],
        [False, False, False, False, True, True],
    ]


def test_equal_means_are_both_best_and_a_single_row_is_not(results):
    for seed in (0, 1):
        results.run("trades", seed)
    assert not any(cell.best for cell in tables(results.path)[0].rows[0].cells)
    for seed in (0, 1):
        results.run("dafa", seed)
    assert all(cell.best for row in tables(results.path)[0].rows for cell in row.cells)


def test_the_order_in_which_records_are_found_does_not_matter(tiny):
    records = scan(tiny.path)[0]
    expected = build_tables(records, request())
    for seed in range(5):
        shuffled = [records[k] for k in np.random.default_rng(seed).permutation(len(records))]
        assert build_tables(shuffled, request()) == expected


def test_exchanging_the_seeds_of_all_methods_gives_the_same_numbers(tiny, results, tmp_path):
    swapped = type(results)(tmp_path / "swapped")
    swapped.run("trades", 1, clean=((9, 9, 6),), robust=((6, 5, 4),))
    swapped.run("trades", 0, clean=((9, 9, 9),), robust=((6, 7, 2),))
    swapped.run("dafa", 1, clean=((8, 8, 8),), robust=((5, 4, 5),))
    swapped.run("dafa", 0, clean=((7, 8, 6),), robust=((5, 5, 5),))
    for row, other in zip(tables(tiny.path)[0].rows, tables(swapped.path)[0].rows, strict=True):
        for cell, second in zip(row.cells, other.cells, strict=True):
            assert second.value == pytest.approx(cell.value)
            assert second.half_width == pytest.approx(cell.half_width)


def test_relabelled_classes_give_the_same_numbers_under_new_names(results, tmp_path):
    other = type(results)(tmp_path / "relabelled")
    results.run("trades", 0, clean=((9, 2, 7), (9, 4, 7)), robust=((6, 1, 4), (6, 0, 4)))
    other.run(
        "trades", 0, clean=((7, 9, 2), (7, 9, 4)), robust=((4, 6, 1), (4, 6, 0)), names=["owl", "cat", "dog"]
    )
    first, second = tables(results.path)[0], tables(other.path)[0]
    assert first.rows[0].cells == second.rows[0].cells
    assert first.rows[0].worst_class_robust == second.rows[0].worst_class_robust == "dog (2 of 2)"


def test_two_folders_merged_equal_the_whole(tiny, tmp_path):
    records = scan(tiny.path)[0]
    halves = [tmp_path / "a" / "runs", tmp_path / "b" / "runs"]
    for k, record in enumerate(records):
        half = halves[k % 2]
        half.mkdir(parents=True, exist_ok=True)
        record.folder.rename(half / record.folder.name)
    merged = [record for half in halves for record in scan(half.parent)[0]]
    whole = build_tables(merged, request())
    for half in halves:
        for folder in list(half.iterdir()):
            folder.rename(tiny.path / "runs" / folder.name)
    assert whole == tables(tiny.path)


def test_rows_follow_the_given_order_after_the_baseline(results):
    for method in ("wat", "trix", "dafa", "trades", "bat"):
        results.run(method)
    (table,) = tables(results.path, order=("trix", "dafa", "trades"))
    assert [row.method for row in table.rows] == ["trades", "trix", "dafa", "bat", "wat"]
    (table,) = tables(results.path, baseline="dafa")
    assert [row.method for row in table.rows] == ["dafa", "bat", "trades", "trix", "wat"]


def test_rho_is_paired_over_the_seeds_in_common_and_the_note_says_so(tiny):
    tiny.run("dafa", 2, clean=((9, 9, 9),), robust=((9, 9, 9),))
    (table,) = tables(tiny.path)
    dafa = table.rows[1]
    assert dafa.cells[5].value == pytest.approx((0.45 - 0.3) / 0.3 + (29 / 60 - 0.5) / 0.5)
    assert dafa.cells[4].value == pytest.approx((0.4 + 0.5 + 0.9) / 3)
    assert any("rho is of the seeds shared with trades: dafa 0, 1" in note for note in table.notes)
    assert any("no run with seed: 2 of trades" in note for note in table.notes)
    assert "seeds (trades 2, dafa 3)" in " ".join(table.description)


def test_without_a_common_seed_rho_is_of_the_means_without_error(results):
    results.run("trades", 0, robust=((5, 5, 2),))
    results.run("dafa", 1, robust=((5, 4, 3),))
    (table,) = tables(results.path)
    assert table.rows[1].cells[5].value == pytest.approx(0.5)
    assert table.rows[1].cells[5].half_width is None
    assert any("no common seed with trades: dafa" in note for note in table.notes)


def test_a_missing_baseline_leaves_rho_empty_and_says_what_to_type(results):
    results.run("dafa", 0)
    results.run("dafa", 4)
    (table,) = tables(results.path)
    assert [cell.value is None for cell in table.rows[0].cells] == [False, False, True, False, False, True]
    command = "fairbench run --methods trades --datasets digits --models cnn-small --protocol quickstart"
    assert any(note.endswith(f"{command} --seeds 0,4") for note in table.notes)
    results.run("dafa", 0, protocol_content={"epochs": 1}, overrides={"protocol.epochs": 1})
    notes = [note for table in tables(results.path) for note in table.notes]
    assert sum(note.endswith(f"{command} --seeds 0 --set protocol.epochs=1") for note in notes) == 1


def test_a_baseline_whose_worst_class_is_zero_has_no_rho(results):
    results.run("trades", 0, robust=((5, 5, 0),))
    results.run("dafa", 0)
    (table,) = tables(results.path)
    assert math.isnan(table.rows[1].cells[5].value)
    assert table.rows[1].cells[2].value == 0
    assert any("rho (robust) is undefined" in note for note in table.notes)
    assert "nan" in render([table], "csv")
    assert "nan" not in render([table])


def test_a_baseline_whose_worst_class_is_near_zero_is_called_unstable(results):
    for seed, hits in enumerate((0, 3, 1)):
        results.run("trades", seed, robust=((5, 5, hits),))
        results.run("dafa", seed)
    (table,) = tables(results.path)
    assert any("rho (robust) is unstable" in note for note in table.notes)
    assert not any("rho (clean) is unstable" in note for note in table.notes)


def test_rho_takes_the_baseline_without_overrides(results):
    results.run("trades", 0, robust=((5, 5, 2),))
    results.run("trades", 0, robust=((5, 5, 4),), overrides={"beta": 1.0})
    results.run("trades", 1, robust=((5, 5, 4),), overrides={"beta": 1.0})
    (table,) = tables(results.path)
    assert [row.label for row in table.rows] == ["trades", "trades (beta=1.0)"]
    assert [row.cells[2].value for row in table.rows] == [0, 0]


def test_runs_that_did_not_end_well_are_noted_and_not_averaged(tiny):
    before = tables(tiny.path)[0].rows
    tiny.run("dafa", 2, state="diverged", reason="loss is not finite")
    tiny.run("trix", 0, state="failed", reason="no\n  memory")
    tiny.run("trix", 1, state=None)
    (table,) = tables(tiny.path)
    assert table.rows == before
    assert "diverged, not in the means: dafa, seed 2 at epoch 5 (loss is not finite)" in table.notes
    assert "failed, not in the means: trix, seed 0 at epoch 5 (no memory)" in table.notes
    assert "not finished: trix, seed 1" in table.notes


def test_a_setting_without_a_done_run_has_no_rows_but_notes(results):
    results.run("trades", 0, state="failed")
    (table,) = tables(results.path)
    assert (table.rows, " ".join(table.description)) == ((), "No run of this table is done yet.")
    for format in FORMATS:
        render([table], format)


def test_damaged_outcomes_leave_their_seed_out_with_a_note(tiny):
    folder = next(
        record.folder for record in scan(tiny.path)[0] if (record.method, record.seed) == ("dafa", 1)
    )
    file = folder / "outcomes/epoch-0005/pgd-20.npy"
    file.write_bytes(file.read_bytes()[:-1])
    (table,) = tables(tiny.path)
    assert table.rows[1].seeds == (0,)
    assert any(note.startswith("left out: dafa, seed 1, the outcomes") for note in table.notes)


def test_each_attack_has_its_own_table_and_settings_are_never_mixed(results):
    other = {"name": "pgd-20", "id": "x", "version": 1, "eps": 8 / 255, "seed": 7}
    results.run("trades", 0)
    results.run("trades", 1, attack=other)
    results.run("dafa", 0, attack={"name": "autoattack", "id": "y", "eps": 0.1})
    found = tables(results.path)
    assert [table.attack for table in found] == ["autoattack", "pgd-20", "pgd-20"]
    assert [len(table.rows) for table in found] == [1, 1, 1]
    assert "(eps=0.1, step_size=0.02, num_steps=20)" in " ".join(found[2].description)
    assert "(eps=0.0313725)" in " ".join(found[1].description)
    assert [table.attack for table in tables(results.path, attack="autoattack")] == ["autoattack"]
    with pytest.raises(UnknownNameError, match="did you mean: autoattack"):
        tables(results.path, attack="autoatack")


def test_an_attack_that_differs_only_in_its_seed_is_one_attack(results):
    for seed in (0, 1):
        results.run(
            "trades", seed, attack={"name": "autoattack", "id": f"aa{seed}", "eps": 0.1, "seed": seed}
        )
    assert [table.rows[0].seeds for table in tables(results.path)] == [(0, 1)]


def test_without_an_attack_the_robust_columns_are_empty(results):
    results.run("trades", 0, attack=None)
    results.run("dafa", 0, attack=None)
    (table,) = tables(results.path)
    assert [cell.exists for cell in table.rows[1].cells] == [True, True, True, False, False, False]
    assert "no attack evaluated" in " ".join(table.description)


def test_protocols_of_one_name_with_other_settings_are_two_tables(results):
    results.run("trades", 0)
    results.run("trades", 0, protocol_content={"epochs": 1}, overrides={"protocol.epochs": 1})
    found = tables(results.path)
    assert sorted(table.title for table in found) == [
        "cnn-small, digits, quickstart v2 (5 epochs), PGD-20, 0.1 (epochs=5)",
        "cnn-small, digits, quickstart v2, PGD-20, 0.1 (epochs=1)",
    ]
    assert sum("protocol quickstart v2 with epochs=1" in " ".join(table.description) for table in found) == 1
    assert all(table.rows[0].label == "trades" for table in found)


def test_a_protocol_that_lets_each_method_use_its_own_is_one_table(results):
    hits = ((6, 5, 4), (6, 5, 3))
    own = {"name": "trades-100", "epochs": 100}
    results.run("trades", 0, hits, hits, protocol="official", protocol_content=own)
    results.run("dafa", 0, protocol="official", protocol_content={"name": "dafa-110", "epochs": 110})
    (table,) = tables(results.path)
    assert [row.label for row in table.rows] == ["trades", "dafa"]
    assert "own schedules: trades trades-100 v2; dafa dafa-110 v2" in table.notes
    assert table.protocol_version == ""
    assert "last checkpoints of each run, which end at different epochs" in " ".join(table.description)


def test_the_caption_says_what_the_numbers_are(tiny):
    (table,) = tables(tiny.path)
    for part in (
        "protocol quickstart v2",
        "attack pgd-20 v1 (eps=0.1, step_size=0.02, num_steps=20)",
        "mean over 2 seeds per method",
        "the one checkpoint evaluated (epoch 5)",
        "half-width of the 95 % t interval over seeds",
        "rho (signed)",
        "Worst is the lowest class accuracy",
        "10 test images per class",
    ):
        assert part in " ".join(table.description)
    (table,) = tables(tiny.path, error="sd", convention="trix")
    assert "standard deviation (n - 1) over seeds" in " ".join(table.description)
    assert "do not compare it with signed values" in " ".join(table.description)


def test_the_caption_names_the_checkpoints_and_the_tail(results):
    hits = tuple(k % 10 for k in range(200))
    results.run("trades", 0, clean=(hits, hits), robust=(hits, hits))
    (table,) = tables(results.path)
    assert "the mean over the last 2 checkpoints (epochs 4-5)" in " ".join(table.description)
    assert "lowest 20 % of classes" in " ".join(table.description)
    assert "one seed does not show the spread" in " ".join(table.description)


def test_warnings_of_records_reach_the_notes(tiny):
    tiny.run("trix", 0, warnings=["unofficial data"])
    tiny.run("trix", 1)
    (table,) = tables(tiny.path)
    assert "trix (seed 0): unofficial data" in table.notes
    assert table.rows[2].warnings == ("unofficial data",)


def test_the_worst_class_of_each_method_is_noted(tiny):
    (table,) = tables(tiny.path)
    assert "lowest class most often: clean cat, robust owl (cat for dafa)" in table.notes


def test_no_records_make_no_tables():
    assert build_tables([], request()) == []
    assert render([]) == ""


def test_unknown_options_are_refused():
    with pytest.raises(ConfigError, match="known: t95, sd"):
        request(error="se")
    with pytest.raises(ConfigError, match="signed"):
        request(convention="sigend")


def test_making_tables_needs_neither_torch_nor_pandas_nor_scipy_stats():
    code = (
        "import sys, fairbench.tables.formats, fairbench.stats.intervals as i; i.t_interval([1, 2]);"
        "heavy = {'torch', 'pandas', 'matplotlib', 'scipy.stats'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
