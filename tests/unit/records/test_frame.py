"""The tidy frame of a results folder."""

import shutil

import numpy as np
import pytest
from results_builder import ResultsBuilder

import fairbench
from fairbench.core.errors import ResultsError
from fairbench.core.files import read_json, write_sealed
from fairbench.records.frame import COLUMNS
from fairbench.records.results_folder import scan


@pytest.fixture
def results(tmp_path):
    return ResultsBuilder(tmp_path / "results")


def test_there_is_one_row_per_run_checkpoint_attack_and_class(results):
    for method in ("trades", "dafa"):
        for seed in (0, 1):
            results.run(method, seed, clean=((9, 8, 7), (9, 9, 9)), robust=((6, 5, 4), (5, 5, 5)))
    frame = fairbench.load_records(results.path)
    assert tuple(frame.columns) == COLUMNS
    keys = ["method", "dataset", "model", "protocol", "seed", "epoch", "attack", "attack_id", "class"]
    assert len(frame) == 2 * 2 * 2 * 2 * 3
    assert not frame.duplicated(keys).any()
    assert frame.accuracy.equals(frame.num_correct / frame.num_images)
    assert set(frame["class"]) == {"cat", "dog", "owl"}
    row = frame[
        (frame.method == "dafa") & (frame.seed == 1) & (frame.epoch == 4) & (frame.attack == "pgd-20")
    ]
    assert row.num_correct.tolist() == [6, 5, 4]


def test_it_has_the_means_of_the_tables(results):
    from fairbench.tables.views import build_tables

    for seed in (0, 1):
        results.run(
            "trades", seed, robust=((6, 5, 4), (5, 2 + seed, 5)), clean=((9, 8, 7),) * 2, counted=True
        )
    frame = fairbench.load_records(results.path)
    robust = frame[frame.selected & (frame.attack == "pgd-20")]
    worst = robust.groupby(["seed", "epoch"]).accuracy.min().groupby("seed").mean().mean()
    (table,) = build_tables(scan(results.path)[0])
    assert table.cell(table.rows[0], "robust_worst").value == pytest.approx(worst)


def test_counts_in_the_record_and_in_the_outcomes_give_one_frame(results, tmp_path):
    old = ResultsBuilder(tmp_path / "old")
    for builder, counted in ((results, True), (old, False)):
        builder.run("trades", 0, overrides={"beta": 3.0}, counted=counted)
    frame = fairbench.load_records(results.path)
    assert frame.equals(fairbench.load_records(old.path))
    assert set(frame.overrides) == {"beta=3.0"}


def test_runs_that_are_not_done_or_damaged_have_no_row_and_are_named(results):
    results.run("trades", 0)
    results.run("dafa", 0, state="diverged")
    results.run("trix", 0, state=None)
    broken = results.run("wat", 0)
    (broken / "record.json").write_text("{")
    lost = results.run("bat", 0)
    next(lost.rglob("pgd-20.npy")).unlink()
    frame = fairbench.load_records(str(results.path))
    assert set(frame.method) == {"trades", "bat"}
    assert set(frame[frame.method == "bat"].attack) == {"clean"}
    assert len(frame.attrs["problems"]) == 2


def test_copies_of_a_run_count_once_as_in_the_tables(results):
    folder = results.run("trades", 0)
    shutil.copytree(folder, folder.with_name("copy"))
    assert len(fairbench.load_records(results.path)) == 2 * 3


def test_one_attack_has_one_id_in_every_run_and_another_another(results):
    for seed in (0, 1):
        for eps in (0.1, 0.2):
            attack = {"name": "pgd", "id": f"{seed}{eps}", "kind": "pgd", "eps": eps, "seed": seed}
            results.run("trades" if eps == 0.1 else "dafa", seed, attack=attack)
    frame = fairbench.load_records(results.path)
    ids = frame[frame.attack == "pgd"].groupby("method", observed=True).attack_id.unique()
    assert [len(found) for found in ids] == [1, 1]
    assert ids["trades"][0] != ids["dafa"][0]
    assert set(frame[frame.attack == "clean"].attack_id) == {"clean"}


def test_a_seed_that_no_run_has_is_a_damaged_record(results):
    folder = results.run("trades", 0)
    write_sealed(folder / "cell.json", {**read_json(folder / "cell.json"), "seed": 10**30})
    frame = fairbench.load_records(results.path)
    assert len(frame) == 0
    assert "seed is not a number in 0.." in frame.attrs["problems"][0]


def test_a_folder_without_runs_is_an_empty_frame_with_columns(tmp_path):
    frame = fairbench.load_records(tmp_path)
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError):
        fairbench.load_records(tmp_path / "file")


def test_classes_of_several_data_sets_lie_in_one_frame(results):
    results.run("trades", 0, dataset="digits")
    results.run("trades", 0, dataset="svhn", clean=((1, 2),), robust=((1, 2),), names=["one", "two"])
    frame = fairbench.load_records(results.path)
    assert frame.groupby("dataset", observed=True)["class"].nunique().to_dict() == {"digits": 3, "svhn": 2}
    assert np.isfinite(frame.accuracy).all()


def test_the_package_has_no_other_attribute():
    with pytest.raises(AttributeError, match="load_record"):
        _ = fairbench.load_record


def test_the_precision_of_training_is_a_column(results):
    for precision in ("fp32", "bf16"):
        results.run("trades", protocol_content={} if precision == "fp32" else {"precision": precision})
    frame = fairbench.load_records(results.path)
    assert set(frame.precision) == {"fp32", "bf16"}
    assert frame.groupby("precision", observed=True).record.nunique().tolist() == [1, 1]
