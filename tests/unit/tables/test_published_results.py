"""Published values: the file, the tables rebuilt from it, and the verdicts beside ours."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from fairbench.core.errors import ConfigError, UnknownNameError
from fairbench.metrics.rho import rho
from fairbench.records.attack_strength import same_attack
from fairbench.records.results_folder import scan
from fairbench.stats.intervals import t_factor, t_interval
from fairbench.tables.formats import render
from fairbench.tables.published_results import read_published, verdict, with_published
from fairbench.tables.published_tables import published_tables
from fairbench.tables.table import TableCell
from fairbench.tables.views import build_tables

PAPER = Path(__file__).parents[2] / "data" / "trix_tables.csv"
AUTOATTACK = {
    "name": "autoattack",
    "id": "aa",
    "kind": "autoattack",
    "version": 2,
    "eps": 8 / 255,
    "norm": "linf",
    "attacks": "standard",
    "num_steps": 100,
    "num_targets": 9,
    "num_queries": 5000,
    "precision": "float32",
    "engine": "fairbench",
}


def printed():
    """The paper's tables as a file of their own: (table, method) -> row."""
    with PAPER.open(newline="") as file:
        return {(row["table"], row["method"]): row for row in csv.DictReader(file)}


def test_our_tables_of_the_paper_have_its_numbers_to_the_last_digit():
    found = {}
    for table in published_tables("trix"):
        name = table.title.rpartition(" ")[2]
        for row in table.rows:
            found[(name, row.label)] = [
                None if cell.value is None else f"{100 * cell.value if k % 3 < 2 else cell.value:.2f}"
                for k, cell in enumerate(row.cells)
            ]
    expected = {
        key: [
            f"{float(row[name]):.2f}" if row[name] else None
            for name in (
                *("avg_clean", "worst_clean", "rho_clean"),
                *("avg_robust", "worst_robust", "rho_robust"),
            )
        ]
        for key, row in printed().items()
    }
    assert found == expected
    assert len(found) == 80


def test_the_latex_of_table_1_prints_the_papers_numbers():
    text = render(published_tables("trix:1a"), "latex")
    for row in (row for (table, _), row in printed().items() if table == "1a"):
        lines = [line for line in text.splitlines() if line.startswith(f"{row['method']} &")]
        line = " ".join(lines)  # clean above robust
        for name in ("avg_clean", "worst_clean", "avg_robust", "worst_robust"):
            assert row[name] in line
            assert rf"$\pm${row[f'{name}_std']}" in line
    assert r"\textbf{32.65}" in text
    assert r"\textbf{+0.39}" in text


def test_rho_recomputed_by_the_papers_rule_is_the_printed_one_but_for_three_cells():
    wrong = 0
    for computed, told in zip(published_tables("trix", "trix"), published_tables("trix"), strict=True):
        for row, other in zip(computed.rows, told.rows, strict=True):
            for key in ("clean_rho", "robust_rho"):
                ours, theirs = computed.cell(row, key).value, told.cell(other, key).value
                if ours is not None and theirs is not None:
                    wrong += abs(ours - theirs) > 0.0105
    assert wrong == 3


def test_the_signed_rule_is_dafas():
    for computed, told in zip(published_tables("dafa", "signed"), published_tables("dafa"), strict=True):
        for row, other in zip(computed.rows, told.rows, strict=True):
            for key in ("clean_rho", "robust_rho"):
                assert computed.cell(row, key).value == pytest.approx(told.cell(other, key).value, abs=0.0051)


def test_a_verdict_counts_the_printed_deviation_and_its_seeds():
    ours = TableCell(0.5, 0.02, sd=0.02 * math.sqrt(3) / t_factor(3), values=((0, 0.49), (1, 0.5), (2, 0.51)))
    called = [verdict(TableCell(value, sd=0.0), 50, ours) for value in (0.47, 0.481, 0.5, 0.519, 0.53)]
    assert called == ["below", "inside", "inside", "inside", "above"]
    assert verdict(TableCell(0.53, sd=0.02), 3, ours) == "inside"
    assert verdict(TableCell(0.53), 3, ours) == "above"  # by our deviation, over three seeds
    assert verdict(TableCell(0.53), None, ours) == "inside"  # one seed
    assert [verdict(TableCell(value, sd=0.02), 3, ours, rules=1) for value in (0.519, 0.521)] == [
        "inside",
        "above",
    ]
    assert verdict(TableCell(0.5), 3, TableCell(0.5)) == verdict(TableCell(0.5), 3, TableCell()) == ""


@pytest.mark.parametrize(("n", "seeds", "spread"), [(3, 3, 1), (3, 5, 1), (5, 3, 1), (5, 5, 2), (3, 3, 0.5)])
def test_a_replicated_mean_is_called_low_or_high_in_about_five_percent(n, seeds, spread):
    rng = np.random.default_rng(n + seeds)
    called = {1: 0, 2: 0}
    for ours, theirs in zip(rng.normal(size=(2000, n)), spread * rng.normal(size=(2000, seeds)), strict=True):
        interval = t_interval(0.5 + 0.01 * ours)
        cell = TableCell(interval.mean, interval.half_width, interval.sd, values=tuple(enumerate(ours)))
        published = TableCell(0.5 + 0.01 * theirs.mean(), sd=0.01 * theirs.std(ddof=1))
        for rules in called:
            called[rules] += verdict(published, seeds, cell, rules) != "inside"
    assert 0.02 < called[2] / 2000 < 0.075
    assert called[1] > called[2]  # before, the printed deviation did not count


@pytest.fixture
def table(results):
    for seed, shift in enumerate((0, 1, -1)):
        options = {"dataset": "cifar10", "model": "resnet18", "size": 100, "attack": AUTOATTACK}
        results.run("trades", seed, clean=((90, 89, 67 + shift),), robust=((70, 56, 23 + shift),), **options)
        results.run("trix", seed, clean=((90, 89, 60),), robust=((70, 56, 33 + shift),), **options)
        results.run("trix", seed, overrides={"strength": 2}, **options)
    (table,) = build_tables(scan(results.path)[0])
    return table


def test_published_values_are_rows_of_their_own_and_change_no_number_of_ours(table):
    beside = with_published(table, read_published("trix"), "trix")
    ours = [row for row in beside.rows if not row.source]
    assert tuple(ours) == table.rows
    theirs = [row for row in beside.rows if row.source]
    assert [row.label.strip() for row in theirs][:2] == ["published (trix 1a)", "published (trix 6)"]
    worst = beside.cell(theirs[0], "robust_worst")
    assert (worst.value, worst.sd, worst.verdict) == (0.2311, 0.008, "inside")
    assert not worst.best
    assert beside.rows[-1].label == "trix (strength=2)"  # overrides were not published
    assert "published (trix 1a): arXiv 2507.07768, Table 1a" in beside.notes
    for format in ("text", "markdown", "latex", "html", "csv"):
        render([beside], format)
    assert "Published values have rows of their own" in " ".join(render([beside]).split())


def test_rho_by_another_rule_is_never_set_beside_ours(table):
    (row,) = [
        r for r in with_published(table, read_published("trix"), "trix").rows if r.label.endswith("(trix 1a)")
    ][1:]
    assert not table.cell(row, "robust_rho").exists
    same = with_published(table, read_published("dafa"), "dafa")
    (row,) = [r for r in same.rows if r.source and r.method == "trades"]
    assert same.cell(row, "robust_rho").value == 0


def test_values_under_another_attack_are_not_shown_and_the_note_says_so(results):
    results.run("trades", 0, dataset="cifar10", model="resnet18")
    (table,) = build_tables(scan(results.path)[0])
    beside = with_published(table, read_published("dafa"), "dafa")
    assert beside.rows == table.rows
    assert any("are under autoattack: none is shown here" in note for note in beside.notes)


PGD = {"kind": "pgd", "eps": 0.031, "step_size": 0.003, "num_steps": 20}


@pytest.mark.parametrize(
    ("described", "change", "same"),
    [
        ("autoattack", {}, True),
        ("autoattack", {"engine": "reference", "name": "autoattack:reference"}, True),
        ("autoattack", {"eps": 0.5}, False),
        ("autoattack", {"num_steps": 1}, False),
        ("autoattack", {"norm": "l2"}, False),
        ("autoattack l2", {"norm": "l2", "eps": 0.5}, True),
        ("autoattack l2 128/255", {"norm": "l2", "eps": 128 / 255}, True),
        ("autoattack 4/255", {"eps": 4 / 255}, True),
        ("autoattack 4/255", {}, False),
        ("a3", {"kind": "a3"}, True),
        ("pgd-20", PGD, True),
        ("pgd-20", {**PGD, "target": "random"}, False),
        ("pgd-20 targeted", {**PGD, "target": "random"}, True),
        ("pgd-20", {**PGD, "loss": "margin"}, False),
        ("cw-20", {**PGD, "loss": "margin"}, True),
        ("pgd-20", {**PGD, "eps": 8 / 255}, False),
        ("pgd-20 8/255", {**PGD, "eps": 8 / 255}, True),
        ("pgd-100 8/255 step 2/255", {**PGD, "eps": 8 / 255, "step_size": 2 / 255, "num_steps": 100}, True),
        ("pgd-100 8/255 step 2/255", {**PGD, "eps": 8 / 255, "step_size": 1 / 255, "num_steps": 100}, False),
        ("pgd-100 16/255 step 2/255", {**PGD, "eps": 8 / 255, "step_size": 2 / 255, "num_steps": 100}, False),
        ("mine", {}, False),
        ("its-name", PGD, True),
    ],
)
def test_an_attack_is_the_papers_by_its_settings_and_not_by_its_name(described, change, same):
    assert same_attack(described, "its-name", {**AUTOATTACK, **change}) == same


def test_the_attacks_of_every_published_table_can_be_described():
    for attack in {result.attack for result in read_published("all")}:
        assert not same_attack(attack, attack, {})  # by settings, which are empty here


def test_published_results_of_ones_own_are_read_from_a_file(tmp_path, table):
    path = tmp_path / "mine.csv"
    head = Path(read_published.__globals__["OURS"]).read_text().splitlines()[0]
    row = "mine,7,a note,cifar10,resnet18,autoattack,trix,Trix,80,,70,,,50,1,30.5,,,"
    path.write_text(f"{head}\n{row}\n")
    (result,) = read_published(str(path))
    assert result.values["robust_average"] == (0.5, 0.01)
    assert "clean_rho" not in result.values
    assert any(row.label.endswith("(mine 7)") for row in with_published(table, [result], str(path)).rows)


def test_sources_and_files_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean: trix"):
        read_published("trixx")
    with pytest.raises(ConfigError, match="its columns"):
        read_published(str(tmp_path / "none.csv"))
    (tmp_path / "bad.csv").write_text("source,table\na,b\n")
    with pytest.raises(ConfigError, match="not a file of published values"):
        read_published(str(tmp_path / "bad.csv"))
    with pytest.raises(UnknownNameError, match="known: 1a"):
        published_tables("trix:9")
    with pytest.raises(ConfigError, match="printed, signed, trix"):
        published_tables("trix", "sgined")


def test_every_published_method_data_set_and_network_is_registered():
    from fairbench.registry import load_registry

    registry = load_registry()
    for result in read_published("trix,dafa"):
        registry.get("method", result.method)
        registry.get("dataset", result.dataset)
        registry.get("attack", result.attack)
        assert not result.model or registry.get("model", result.model)
    foreign = {result.method for result in read_published("trix-2026")} - set(registry.names("method"))
    assert foreign == {"absld", "codat", "ham", "trix-ema", "frl-trix", "bat-trix"}


def test_the_deviation_of_a_published_value_is_the_printed_one_and_no_interval_of_ours(table):
    beside = with_published(table, read_published("trix"), "trix")
    theirs = next(row for row in beside.rows if row.source)
    cell = beside.cell(theirs, "robust_worst")
    assert (cell.sd, cell.half_width) == (0.008, None)
    assert "23.11 ± 0.80" in render([beside])
    assert "with their deviation as printed" in " ".join(render([beside]).split())


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_published_value_that_is_no_number_is_refused(tmp_path, value):
    head = Path(read_published.__globals__["OURS"]).read_text().splitlines()[0]
    (tmp_path / "mine.csv").write_text(
        f"{head}\nmine,7,a,cifar10,resnet18,autoattack,trix,T,{value},,,,,,,,,,\n"
    )
    with pytest.raises(ConfigError, match="is no accuracy"):
        read_published(str(tmp_path / "mine.csv"))


def test_rho_needs_all_four_means():
    assert rho(50, 20, 50, 20) == 0
    for table in published_tables("trix-2026", "signed"):
        for row in table.rows:
            if table.title.endswith("2"):
                assert not table.cell(row, "clean_rho").exists
