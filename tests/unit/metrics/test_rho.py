"""rho: laws, the quadrants, and the numbers that were published."""

import csv
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import ConfigError, DataError
from fairbench.metrics.rho import rho, rho_gradient

DATA = Path(__file__).parents[2] / "data"
SIDES = ("clean", "robust")
quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)
accuracy = st.floats(0.01, 1.0)


def published(file):
    """(table, method, side, the four accuracies, printed rho) for each row that is no baseline."""
    cells, base = [], {}
    with (DATA / file).open() as lines:
        for row in csv.DictReader(lines):
            place = (row.get("table", ""), row["dataset"])
            if row["method"] == "TRADES":
                base[place] = row
            elif row["rho_clean"]:
                for side in SIDES:
                    four = [
                        float(r[f"{what}_{side}"]) for r in (row, base[place]) for what in ("avg", "worst")
                    ]
                    cells.append((place[0], row["method"], side, four, float(row[f"rho_{side}"])))
    return cells


def test_all_thirty_values_of_the_dafa_paper_follow_the_signed_definition():
    cells = published("dafa_tables.csv")
    assert len(cells) == 30
    for *place, four, printed in cells:
        assert rho(*four) == pytest.approx(printed, abs=0.005 + 1e-9), place


def test_the_trix_tables_follow_the_trix_rule_in_all_cells_but_three():
    cells = published("trix_tables.csv")
    assert len(cells) == 114
    off = {
        (table, method.removeprefix("TRADES + "), side)
        for table, method, side, four, printed in cells
        if abs(rho(*four, convention="trix") - printed) > 0.01 + 1e-9
    }
    assert off == {("1a", "FAIRTAT", "clean"), ("5a", "DAFA", "clean"), ("5b", "TRIX", "clean")}


def test_the_signed_definition_reproduces_fewer_of_the_trix_tables():
    cells = published("trix_tables.csv")
    assert sum(abs(rho(*four) - printed) <= 0.01 for *_, four, printed in cells) < 70


@pytest.mark.parametrize(
    ("change_worst", "change_average", "signed", "trix"),
    [
        (0.1, -0.02, 0.08, 0.08),
        (0.1, 0.02, 0.12, 0.08),
        (-0.1, -0.02, -0.12, -0.08),
        (-0.1, 0.02, -0.08, -0.08),
    ],
)
def test_each_quadrant_by_hand(change_worst, change_average, signed, trix):
    four = (0.5 * (1 + change_average), 0.2 * (1 + change_worst), 0.5, 0.2)
    assert rho(*four) == pytest.approx(signed)
    assert rho(*four, convention="trix") == pytest.approx(trix)


@quick
@given(accuracy, accuracy)
def test_the_baseline_against_itself_is_zero(average, worst):
    assert rho(average, worst, average, worst) == 0
    assert rho(average, worst, average, worst, convention="trix") == 0


@quick
@given(accuracy, accuracy, accuracy, accuracy, st.sampled_from(["signed", "trix"]))
def test_percent_and_fractions_give_the_same(a, b, c, d, convention):
    fraction = rho(a, b, c, d, convention=convention)
    assert rho(100 * a, 100 * b, 100 * c, 100 * d, convention=convention) == pytest.approx(fraction, abs=1e-9)


@quick
@given(accuracy, accuracy, accuracy, accuracy)
def test_signed_rho_is_at_least_minus_two_and_rises_with_both_accuracies(a, b, c, d):
    value = rho(a, b, c, d)
    assert value >= -2
    assert rho(a + 0.1, b, c, d) > value
    assert rho(a, b + 0.1, c, d) > value


@quick
@given(accuracy, accuracy, accuracy, accuracy, st.sampled_from(["signed", "trix"]))
def test_gradient_is_the_slope_of_rho(a, b, c, d, convention):
    four = (a, b, c, d)
    change_worst, change_average = (b - d) / d, (a - c) / c
    kinks = (change_worst, change_average, abs(change_worst) - abs(change_average))
    if convention == "trix" and min(map(abs, kinks)) < 1e-3:
        return
    gradient = rho_gradient(*four, convention=convention)
    for k in range(4):
        step = 1e-6 * four[k]
        up, down = ([v + (s if j == k else 0) for j, v in enumerate(four)] for s in (step, -step))
        slope = (rho(*up, convention=convention) - rho(*down, convention=convention)) / (2 * step)
        assert slope == pytest.approx(gradient[k], rel=1e-4, abs=1e-4)


def test_a_zero_baseline_gives_nan():
    assert math.isnan(rho(0.5, 0.1, 0.5, 0.0))
    assert math.isnan(rho(0.5, 0.1, 0.0, 0.0))


@pytest.mark.parametrize("bad", [-0.1, 100.1, math.nan, math.inf])
def test_what_is_no_accuracy_is_refused(bad):
    with pytest.raises(DataError):
        rho(bad, 0.1, 0.5, 0.1)


def test_an_unknown_convention_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean: trix"):
        rho(0.5, 0.1, 0.5, 0.1, convention="trixx")
