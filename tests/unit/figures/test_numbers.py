"""The data beside a figure: the numbers of the tables, and what the records say."""

import numpy as np
import pytest

from fairbench.figures.eps import families
from fairbench.figures.figure import FigureOptions
from fairbench.figures.kinds import build_figures
from fairbench.figures.success import MOVED, REACHED, UNTARGETED
from fairbench.records.read import AttackKey
from fairbench.records.run_folder import RunFolder
from fairbench.tables.request import TableRequest
from fairbench.tables.views import build_tables

PGD = FigureOptions(attack="pgd")


def drawn(kind, records, options=PGD):
    (figure,) = build_figures(kind, records, options)
    return figure.data


def cell(table, label, key):
    (row,) = [row for row in table.rows if row.label == label]
    return table.cell(row, key)


def test_average_and_worst_are_those_of_the_table(trio):
    (table,) = build_tables(trio, TableRequest(), "pgd")
    data = drawn("front", trio)
    for row in data.itertuples():
        for name in ("average", "worst"):
            expected = cell(table, row.entry, f"robust_{name}")
            assert getattr(row, name) == expected.value
            assert getattr(row, f"{name}_high") == expected.value + expected.half_width


def test_gap_and_worst_of_the_spread_are_those_of_the_table(trio):
    (table,) = build_tables(trio, TableRequest(columns=("average", "worst", "gap")), "pgd")
    data = drawn("disparity", trio).set_index(["entry", "side", "kind"]).sort_index()
    for entry in ("trades", "dafa", "trix"):
        for side in ("clean", "robust"):
            for name in ("average", "worst", "gap"):
                expected = cell(table, entry, f"{side}_{name}").value
                assert data.loc[(entry, side, name), "value"].item() == expected


def test_the_differences_of_the_forest_are_those_of_the_comparison(trio):
    (table,) = build_tables(trio, TableRequest("comparison"), "pgd")
    for row in drawn("forest", trio).itertuples():
        expected = cell(table, row.entry, f"robust_{row.measure}")
        assert row.value == expected.value
        assert row.high == expected.value + expected.half_width


def test_class_accuracies_are_the_shares_of_correct_images(trio):
    data = drawn("classes", trio)
    for side, attack in (("clean", "clean"), ("robust", "pgd")):
        own = [record for record in trio if record.method == "dafa"]
        shares = []
        for record in own:
            outcomes = [record.outcomes(attack, epoch) for epoch in record.epochs_evaluated]
            shares.append(
                np.mean([[r["correct"][r["label"] == c].mean() for c in range(3)] for r in outcomes], 0)
            )
        rows = data[(data["entry"] == "dafa") & (data["side"] == side)]
        assert rows["value"].to_numpy() == pytest.approx(np.mean(shares, axis=0))
        assert list(rows["class"]) == ["cat", "horse", "owl"]
        assert sorted(rows["rank"]) == [1, 2, 3]
        assert rows["value"].to_numpy()[np.argsort(rows["rank"])].tolist() == sorted(rows["value"])


def test_one_seed_has_wilson_intervals_over_images(results):
    results.run("trades", 0, checkpoints=1)
    data = drawn("classes", results.records())
    own = data[data["side"] == "robust"].iloc[0]
    assert 0 <= own["low"] < own["value"] < own["high"] <= 1
    k, n, z = own["value"] * 20, 20, 1.959963984540054
    centre = (k + z * z / 2) / (n + z * z)
    assert (own["low"] + own["high"]) / 2 == pytest.approx(centre)


def test_no_method_on_the_front_is_exceeded_in_both(three):
    for method in ("cfa", "frl", "wat", "bat"):
        three.run(method, 0)
    data = drawn("front", three.records())
    for _, one in data.iterrows():
        exceeded = ((data["average"] > one["average"]) & (data["worst"] > one["worst"])).any()
        assert not (one["front"] and exceeded)
    assert data["front"].any()


def test_rows_of_the_confusion_sum_to_one_and_its_diagonal_is_the_class_accuracy(trio):
    data, classes = drawn("confusion", trio), drawn("classes", trio)
    assert data.groupby(["entry", "class"])["value"].sum().to_numpy() == pytest.approx(1)
    diagonal = data[data["class"] == data["predicted"]].set_index(["entry", "class"])["value"]
    robust = classes[classes["side"] == "robust"].set_index(["entry", "class"])["value"]
    assert diagonal.sort_index().to_numpy() == pytest.approx(robust.sort_index().to_numpy())


def test_the_sweep_runs_from_the_clean_accuracy_over_every_radius(trio):
    data = drawn("eps", trio)
    assert sorted(data["eps"].unique()) == [0.0, 0.05, 0.1]
    (table,) = build_tables(trio, TableRequest(), "pgd")
    for entry in ("trades", "dafa", "trix"):
        own = data[(data["entry"] == entry) & (data["kind"] == "worst")].set_index("eps")["value"]
        assert own[0.0] == cell(table, entry, "clean_worst").value
        assert own[0.1] == cell(table, entry, "robust_worst").value
        assert list(own) == sorted(own, reverse=True)


def test_only_attacks_that_differ_in_nothing_but_the_radius_form_a_sweep():
    def attack(name, **settings):
        text = ",".join(f'"{key}":{value}' for key, value in settings.items())
        return AttackKey(name, "{" + text + "}")

    sweep = [attack(f"a{k}", eps=k * 0.1, step_size=k * 0.01, num_steps=20) for k in (2, 1)]
    others = [
        attack("slower", eps=0.1, step_size=0.001, num_steps=20),
        attack("longer", eps=0.1, step_size=0.01, num_steps=100),
        attack("none", eps=0.0, step_size=0.0, num_steps=20),
    ]
    names = [[one.name for one in family] for family in families([*sweep, *others])]
    assert sorted(names, key=len)[-1] == ["a1", "a2"]
    assert len(names) == 3


def test_success_counts_the_images_that_are_correct_without_attack(trio):
    records = [record for record in trio if record.method == "trades"]
    data = drawn("success", records).set_index(["kind", "class"])["value"]
    shares = {UNTARGETED: [], MOVED: [], REACHED: []}
    for record in records:
        seen = []
        for epoch in record.epochs_evaluated:
            clean, plain, aimed = (record.outcomes(a, epoch) for a in ("clean", "pgd", "pgd-targeted"))
            right = clean["correct"] & (clean["label"] == 1)
            seen.append(
                [
                    right.sum(),
                    (right & ~plain["correct"]).sum(),
                    (right & ~aimed["correct"]).sum(),
                    (right & aimed["reached_target"]).sum(),
                ]
            )
        total, *hits = np.mean(seen, axis=0)
        for kind, hit in zip(shares, hits, strict=True):
            shares[kind].append(hit / total)
    for kind, values in shares.items():
        assert data[(kind, "horse")] == pytest.approx(np.mean(values))
    assert (data[REACHED] <= data[MOVED]).all()
    assert (data[MOVED] <= data[UNTARGETED]).all()


def test_curves_are_the_means_and_ranges_of_the_epochs_over_seeds(trio):
    data = drawn("curves", trio, FigureOptions(attack="pgd"))
    own = data[(data["entry"] == "trix") & (data["images"] == "train")].set_index(
        ["quantity", "side", "epoch"]
    )
    rows = [RunFolder(record.folder).read_epochs() for record in trio if record.method == "trix"]
    losses = [row[2]["loss"] for row in rows]
    assert own.loc[("loss", "", 3), "value"] == pytest.approx(np.mean(losses))
    assert (own.loc[("loss", "", 3), "low"], own.loc[("loss", "", 3), "high"]) == (min(losses), max(losses))
    worst = [min(row[2]["train_robust_accuracy"]) for row in rows]
    assert own.loc[("worst", "robust", 3), "value"] == pytest.approx(np.mean(worst))
    tested = data[(data["images"] == "test") & (data["side"] == "robust") & (data["entry"] == "trix")]
    assert sorted(tested["epoch"].unique()) == [5, 6]


def test_weights_are_what_the_methods_logged(three):
    three.run("cfa", 0, logged=("margin", "factor"))
    three.run("mart", 0, logged=())
    data = drawn("weights", three.records(), FigureOptions())
    logged = {tuple(pair) for pair in data[["method", "name"]].drop_duplicates().to_numpy().tolist()}
    weights = {("trades", "weight"), ("dafa", "weight"), ("trix", "weight")}
    assert logged == weights | {("cfa", "margin"), ("cfa", "factor")}
    own = data[data["method"] == "dafa"]
    assert own["value"].unique() == pytest.approx(1.05)
    assert (own["low"].unique(), own["high"].unique()) == (pytest.approx(1.0), pytest.approx(1.1))


def test_the_baseline_is_first_and_the_others_are_in_the_order_asked_for(trio):
    options = FigureOptions(attack="pgd", methods=("trix", "dafa"))
    assert list(drawn("front", trio, options)["entry"]) == ["trades", "trix", "dafa"]


def test_overridden_entries_of_a_method_stand_beside_each_other_and_look_different(results):
    from fairbench.figures.style import entry_styles

    results.run("trades", 0)
    results.run("trix", 0)
    results.run("trix", 0, overrides={"strength": 2.0})
    data = drawn("front", results.records())
    styles = entry_styles(data)
    assert len(styles) == 3
    assert len({(style.colour, style.marker) for style in styles.values()}) == 3
    assert styles["trix"].colour == entry_styles(data[data["method"] == "trix"])["trix"].colour
