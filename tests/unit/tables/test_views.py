"""Views beside the main one: the tail, every class, and pairs against the baseline."""

import json
import shutil

import numpy as np
import pytest
from results_builder import ResultsBuilder

from fairbench.core.errors import ConfigError, UnknownNameError
from fairbench.metrics import classwise
from fairbench.records.results_folder import scan
from fairbench.stats.intervals import t_interval, wilson_interval
from fairbench.stats.paired import mcnemar, paired_t, sign_flip
from fairbench.stats.worst import noise_floor, split_half_worst, worst_class_interval
from fairbench.tables.formats import FORMATS, render
from fairbench.tables.request import VIEWS, TableRequest
from fairbench.tables.views import build_tables


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three seeds of three methods, two checkpoints, four classes of 100 images."""
    builder = ResultsBuilder(tmp_path_factory.mktemp("three") / "results")
    rng = np.random.default_rng(3)
    for method, shift in (("trades", 0), ("dafa", 2), ("trix", -20)):
        for seed in range(3):
            robust = rng.integers(40, 44, (2, 4)) + np.array([0, 10, 20, 5]) + shift
            clean = robust + 25
            builder.run(method, seed, clean=clean.tolist(), robust=robust.tolist(), size=100, counted=True)
    return builder


@pytest.fixture
def three(written, tmp_path):
    """A copy of it that a test may change."""
    shutil.copytree(written.path, tmp_path / "three")
    return ResultsBuilder(tmp_path / "three")


def tables(results, **options):
    return build_tables(scan(results.path)[0], TableRequest(**options))


def hits_of(results, method, seed, attack):
    (record,) = [r for r in scan(results.path)[0] if (r.method, r.seed) == (method, seed)]
    return np.array([record.class_hits(attack, epoch)[0] for epoch in record.epochs_evaluated])


def test_each_side_has_a_fairness_table_of_its_own(three):
    clean, robust = tables(three, view="fairness")
    assert (clean.attack, robust.attack) == ("", "pgd-20")
    assert [name for name, _ in clean.groups + robust.groups] == ["clean", "robust"]
    assert "images without attack" in " ".join(clean.description)
    assert "attack pgd-20" in " ".join(robust.description)


def test_fairness_columns_are_what_their_functions_give(three):
    robust = tables(three, view="fairness")[1]
    row = next(row for row in robust.rows if row.method == "dafa")
    hits = [hits_of(three, "dafa", seed, "pgd-20") for seed in range(3)]
    count = np.full(4, 100)
    accuracy = np.array(hits) / 100
    limits = worst_class_interval(accuracy, count)
    cell = robust.cell(row, "robust_limits")
    assert (cell.low, cell.high) == pytest.approx((limits.low, limits.high))
    assert cell.value == pytest.approx(accuracy.min(2).mean())
    expected = {
        "robust_floor": noise_floor(accuracy.mean(), count),
        "robust_split_half": np.mean([split_half_worst(row, count) for seed in hits for row in seed]),
        "robust_worst_30": np.sort(accuracy, axis=2)[:, :, :2].mean(),
        "robust_gap": np.ptp(accuracy, axis=2).mean(),
        "robust_deviation": (accuracy.std(2) / accuracy.mean(2)).mean(),
    }
    for key, value in expected.items():
        assert robust.cell(row, key).value == pytest.approx(value), key


def test_a_balanced_average_gives_every_class_the_same_weight(results):
    results.run("trades", 0, clean=((90, 20, 5), (80, 20, 4)), robust=((45, 10, 2),) * 2, size=(100, 40, 10))
    (table,) = tables(results, columns=("average", "balanced"))
    (row,) = table.rows
    assert table.cell(row, "clean_average").value == pytest.approx((115 + 104) / 2 / 150)
    assert table.cell(row, "clean_balanced").value == pytest.approx(
        ((0.9 + 0.5 + 0.5) / 3 + (0.8 + 0.5 + 0.4) / 3) / 2
    )
    assert table.cell(row, "robust_balanced").value == pytest.approx((0.45 + 0.25 + 0.2) / 3)
    assert "Balanced is the mean of the class accuracies" in " ".join(table.description)


def test_a_smaller_gap_is_better_and_a_higher_floor_is_nothing(three):
    robust = tables(three, view="fairness")[1]
    for row in robust.rows:
        assert not robust.cell(row, "robust_floor").best
        assert not robust.cell(row, "robust_limits").best
    gaps = {row.method: robust.cell(row, "robust_gap") for row in robust.rows}
    assert [gap.best for gap in gaps.values()].count(True) == 1
    assert min(gaps.values(), key=lambda cell: cell.value).best


def test_what_cannot_be_told_from_the_best_is_marked_and_what_can_is_not(three):
    (table,) = tables(three, order=("dafa", "trix"))
    marks = {row.method: table.cell(row, "robust_average") for row in table.rows}
    assert marks["dafa"].best
    assert not marks["dafa"].near
    assert not marks["trix"].near  # twenty points lower in every seed
    text = " ".join(render([table]).split())
    assert "* marks the best mean of each column" in text


def test_one_seed_has_no_marks(results):
    results.run("trades", 0)
    results.run("dafa", 0, robust=((7, 6, 5),))
    (table,) = tables(results)
    for key in ("robust_average", "robust_worst", "robust_rho"):
        assert not any(table.cell(row, key).best or table.cell(row, key).near for row in table.rows)
    assert any("1 seed is too few for a conclusion about methods" in note for note in table.notes)


def test_methods_are_compared_with_the_best_over_the_seeds_that_both_have(three):
    three.run("trix", 9, clean=((50,) * 4,), robust=((50,) * 4,), size=100)  # a seed that only trix has
    three.run("wat", 5, clean=((20,) * 4,), robust=((1,) * 4,), size=100)  # shares none
    (table,) = tables(three)
    marks = {row.method: table.cell(row, "robust_average") for row in table.rows}
    assert marks["dafa"].best
    assert not marks["trix"].near  # twenty points lower in the three seeds of both
    assert marks["wat"].near  # nothing can be told


def test_the_baseline_is_told_from_the_best_by_rho_as_by_anything_else(three):
    (table,) = tables(three)
    marks = {row.method: table.cell(row, "robust_rho") for row in table.rows}
    assert marks["dafa"].best
    assert (marks["trades"].value, marks["trades"].half_width) == (0, None)
    assert not marks["trix"].near
    three_worse = {row.method: table.cell(row, "clean_rho") for row in tables(three, baseline="dafa")[0].rows}
    assert three_worse["dafa"].best or three_worse["trades"].best


def test_few_images_of_a_class_are_told(results):
    results.run("trades", 0, size=50)
    assert any(
        "a class of 50 test images is known to about ± 12 points" in n for n in tables(results)[0].notes
    )


def test_every_class_is_below_each_other_with_the_average_first(three):
    _, robust = tables(three, view="classes")
    assert robust.head == "class"
    assert [row.label for row in robust.rows] == ["average", "class 0", "class 1", "class 2", "class 3"]
    assert [column.header for column in robust.columns] == ["trades", "dafa", "trix"]
    accuracy = np.array([hits_of(three, "trix", seed, "pgd-20") for seed in range(3)]) / 100
    for c, row in enumerate(robust.rows[1:]):
        assert row.cells[2].value == pytest.approx(accuracy[:, :, c].mean())
        assert row.cells[2].half_width is not None


def test_more_methods_than_classes_are_below_each_other(results):
    for method in ("trades", "dafa", "trix", "wat"):
        results.run(method, 0)
    _, robust = tables(results, view="classes")
    assert robust.head == "method"
    assert [column.header for column in robust.columns] == ["average", "cat", "dog", "owl"]


def test_classes_of_one_seed_have_wilson_limits_over_their_images(results):
    results.run("trades", 0, robust=((6, 5, 4), (7, 5, 3)), clean=((9, 9, 9),) * 2)
    _, robust = tables(results, view="classes")
    low, high = wilson_interval(6.5, 10)
    cat = robust.rows[1].cells[0]
    assert (cat.low, cat.high) == pytest.approx((low, high))
    assert "95 % Wilson interval" in " ".join(robust.description)
    assert f"65.0 [{100 * low:.1f}, {100 * high:.1f}]" in render([robust])


def test_pairs_are_compared_over_common_seeds(three):
    three.run("dafa", 7, clean=((99, 99, 99, 99),), robust=((99, 99, 99, 99),), size=100)  # of no common seed
    _, robust = tables(three, view="comparison")
    assert [row.method for row in robust.rows] == ["dafa", "trix"]
    worst = {
        method: [hits_of(three, method, seed, "pgd-20").min(1).mean() / 100 for seed in range(3)]
        for method in ("trades", "dafa", "trix")
    }
    for row in robust.rows:
        difference = np.subtract(worst[row.method], worst["trades"])
        cell = robust.cell(row, "robust_worst")
        assert cell.value == pytest.approx(difference.mean())
        assert cell.half_width == pytest.approx(t_interval(difference).half_width)
        assert robust.cell(row, "robust_worst_flip_p").value == pytest.approx(sign_flip(difference))
    raw = [paired_t(np.subtract(worst[m], worst["trades"])) for m in ("dafa", "trix")]
    smallest = min(range(2), key=lambda k: raw[k])
    assert robust.cell(robust.rows[smallest], "robust_worst_p").value == pytest.approx(
        min(1, 2 * raw[smallest])
    )


def test_one_common_seed_is_compared_on_its_test_images(results):
    results.run("trades", 0, robust=((30, 40, 20),), clean=((50, 50, 50),), size=50)
    results.run("dafa", 0, robust=((30, 40, 45),), clean=((50, 50, 50),), size=50)
    _, robust = tables(results, view="comparison")
    (row,) = robust.rows
    average = robust.cell(row, "robust_average")
    assert average.value == pytest.approx(25 / 150)
    worst = robust.cell(row, "robust_worst")
    assert worst.value == pytest.approx(10 / 50)
    assert worst.low < worst.value < worst.high
    assert average.low < average.value < average.high
    assert robust.cell(row, "robust_average_p").value == pytest.approx(mcnemar(25, 0))
    assert robust.cell(row, "robust_classes_up").value == 1
    assert robust.cell(row, "robust_classes_down").value == 0
    assert "compares two checkpoints, not two methods" in " ".join(robust.description)


def test_seeds_that_all_differ_by_the_same_have_no_p_of_a_t_test(results):
    for seed in range(3):
        results.run("trades", seed, robust=((30, 40, 20 + seed),), clean=((50, 50, 50),), size=50)
        results.run("dafa", seed, robust=((30, 40, 25 + seed),), clean=((50, 50, 50),), size=50)
    robust = tables(results, view="comparison")[1]
    (row,) = robust.rows
    assert robust.cell(row, "robust_worst").half_width == pytest.approx(0)
    assert not robust.cell(row, "robust_worst_p").exists
    assert robust.cell(row, "robust_worst_flip_p").value == 0.25


def test_one_seed_is_compared_at_its_last_checkpoint_in_every_column(results):
    for method, last in (("trades", (30, 40, 20)), ("dafa", (32, 40, 25))):
        results.run(method, 0, clean=((50,) * 3,) * 2, robust=((1, 1, 1), last), size=50)
    robust = tables(results, view="comparison")[1]
    (row,) = robust.rows
    assert robust.cell(row, "robust_average").value == pytest.approx(7 / 150)
    assert robust.cell(row, "robust_worst").value == pytest.approx(5 / 50)
    assert "of its last checkpoint alone" in " ".join(robust.description)
    assert "interval of the paired t test" not in " ".join(robust.description)


def test_a_worst_class_near_zero_makes_rho_unstable_whatever_the_seeds_say(results):
    for seed in range(2):
        results.run("trades", seed, robust=((50, 40, 1),), clean=((90, 90, 90),), size=100)
        results.run("trix", seed, robust=((50, 40, 3),), clean=((90, 90, 90),), size=100)
    (table,) = tables(results)
    assert any("rho (robust) is unstable" in note for note in table.notes)
    assert not any("rho (clean) is unstable" in note for note in table.notes)


def test_limits_of_one_seed_speak_of_that_run(results, three):
    results.run("trades", 0)
    assert "for this run alone" in " ".join(tables(results, view="fairness")[0].description)
    assert "new test images and new seeds" in " ".join(tables(three, view="fairness")[0].description)


def test_without_the_baseline_there_is_nothing_to_compare(results):
    results.run("dafa", 0)
    for table in tables(results, view="comparison"):
        assert table.rows == ()
        assert any("needs the baseline trades" in note for note in table.notes)


def test_outcomes_that_are_gone_leave_classes_uncounted(three):
    for record in scan(three.path)[0]:
        for file in record.folder.rglob("*.npy"):
            file.unlink()
    _, robust = tables(three, view="comparison")
    for row in robust.rows:
        assert robust.cell(row, "robust_worst").exists  # the record counts hits
        assert not robust.cell(row, "robust_classes_up").exists


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("format", FORMATS)
def test_every_view_prints_in_every_format(three, view, format):
    found = tables(three, view=view)
    text = render(found, format)
    assert text.endswith("\n")
    for table in found:
        assert all(len(row.cells) == len(table.columns) for row in table.rows)
        assert len({column.key for column in table.columns}) == len(table.columns)


def test_columns_are_chosen_by_name(three):
    (table,) = tables(three, columns=("worst", "worst-50", "gap"))
    keys = [f"{side}_{name}" for side in ("clean", "robust") for name in ("worst", "worst_50", "gap")]
    assert [column.key for column in table.columns] == keys
    assert [header for header, _ in table.groups] == ["clean", "robust"]
    assert not any("rho" in note for note in table.notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": ("wurst",)}, "did you mean: worst"),
        ({"columns": ("worst-0",)}, "lowest 0 %"),
        ({"view": "class"}, "did you mean: classes"),
        ({"view": "classes", "columns": ("worst",)}, "columns of its own"),
    ],
)
def test_views_and_columns_that_do_not_exist_are_refused(options, said):
    with pytest.raises((UnknownNameError, ConfigError)) as error:
        TableRequest(**options)
    assert said in str(error.value)


def test_the_tail_is_a_tenth_of_many_classes(results):
    hits = tuple(k % 10 for k in range(100))
    results.run("trades", 0, clean=(hits,), robust=(hits,))
    keys = [column.key for column in tables(results, view="fairness")[0].columns]
    assert "clean_worst_10" in keys


def test_counts_in_the_record_give_the_numbers_of_the_outcomes(results, tmp_path):
    old = type(results)(tmp_path / "old")
    for builder, counted in ((results, True), (old, False)):
        for seed in (0, 1):
            builder.run("trades", seed, robust=((6, 5, 4 - seed),), counted=counted)
            builder.run("dafa", seed, robust=((6, 4, 5),), counted=counted)
    for view in VIEWS:
        assert tables(results, view=view) == tables(old, view=view)


def test_titles_are_for_print_and_names_for_typing(results):
    results.run("trades", 0, titles={"method": "TRADES"})
    results.run("trix", 0, titles={"method": "TRIX"}, overrides={"strength": 2})
    (table,) = tables(results)
    assert [row.label for row in table.rows] == ["trades", "trix (strength=2)"]
    assert [row.title for row in table.rows] == ["TRADES", "TRIX (strength=2)"]
    assert "\nTRIX (strength=2) &" in render([table], "latex")
    assert "\ntrix (strength=2) " in render([table], "text")


@pytest.mark.parametrize("view", VIEWS)
def test_a_setting_without_a_finished_run_has_no_rows_in_any_view(results, view):
    results.run("trades", 0, state="failed")
    for table in tables(results, view=view):
        assert table.rows == ()
        assert table.caption == ("No run of this table is done yet.",)
    results.run("trix", 0)  # finished, but not the first that is read
    assert any(table.rows for table in tables(results, view=view, baseline="trix")) or view == "comparison"


def test_requests_survive_json():
    request = TableRequest(view="fairness", columns=("gap", "worst-20"), baseline="dafa", error="sd")
    assert TableRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


@pytest.mark.parametrize("per_method", [False, True])
def test_seeds_that_computed_differently_are_never_averaged(tmp_path, per_method):
    """The default precision depends on the device, and old records do not name what was in use."""
    results = ResultsBuilder(tmp_path)
    name = {"name": "trades-76"} if per_method else {}
    for seed, (arithmetic, hits) in enumerate([(None, 9), ("fp32", 8), ("tf32-conv", 2), ("tf32-conv", 1)]):
        robust = ((hits, hits, hits),)
        results.run("trades", seed, robust=robust, protocol_content=name, counted=True, arithmetic=arithmetic)
    old, new = sorted(tables(results), key=lambda table: "TF32" in " ".join(table.description))
    assert "Networks were trained with TF32 convolutions" in " ".join(new.description)
    assert "TF32" not in " ".join(old.description)
    for table, seeds in ((old, {0, 1}), (new, {2, 3})):
        (row,) = table.rows
        assert {seed for cell in row.cells for seed, _ in cell.values} == seeds
    assert old.title != new.title


@pytest.mark.parametrize("per_method", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_precisions_have_tables_of_their_own_and_captions_that_say_which(tmp_path, view, per_method):
    results = ResultsBuilder(tmp_path)
    for content in ({}, {"precision": "tf32"}, {"precision": "bf16"}):
        name = {"name": "trades-76"} if per_method else {}
        for method in ("trades", "dafa"):
            results.run(method, protocol_content={**name, **content}, counted=True)
    captions = [" ".join(table.description) for table in tables(results, view=view)]
    said = {
        "tf32": "Networks were trained with TF32 products and convolutions, and evaluated in float32.",
        "bf16": "Networks were trained in bfloat16, weights and losses in float32, and evaluated in float32.",
    }
    for sentence in said.values():
        assert sum(sentence in caption for caption in captions) == len(captions) // 3
    assert sum("Networks were trained" not in caption for caption in captions) == len(captions) // 3


def test_columns_of_class_accuracies_and_of_confusions_are_what_their_functions_give(three):
    names = ("gini", "nsd", "deviation", "harmonic", "lowest-2", "asymmetry")
    (table,) = tables(three, columns=names)
    row = next(row for row in table.rows if row.method == "dafa")
    hits = np.array([hits_of(three, "dafa", seed, "pgd-20") for seed in range(3)]) / 100
    expected = {
        "robust_gini": classwise.gini(hits).mean(),
        "robust_nsd": (hits.std(2) / hits.mean(2)).mean(),
        "robust_harmonic": classwise.harmonic_mean(hits).mean(),
        "robust_lowest_2": np.sort(hits, axis=2)[:, :, :2].mean(),
        "robust_asymmetry": 1,  # each class is taken for the next one alone
    }
    for key, value in expected.items():
        assert table.cell(row, key).value == pytest.approx(value), key
    assert table.cell(row, "robust_nsd").value == table.cell(row, "robust_deviation").value
    assert not tables(three, columns=("lowest-9",))[0].rows[0].cells[0].exists  # four classes
    for format in FORMATS:
        assert "Gini" in render([table], format) or format == "csv"


def test_confusions_need_the_outcomes(three):
    for record in scan(three.path)[0]:
        for file in record.folder.rglob("*.npy"):
            file.unlink()
    (table,) = tables(three, columns=("asymmetry", "gini"))
    assert not any(table.cell(row, "robust_asymmetry").exists for row in table.rows)
    assert all(table.cell(row, "robust_gini").exists for row in table.rows)
