"""Entries: what is averaged over what, and which class was the worst."""

from dataclasses import replace

import pytest

from fairbench.core.errors import EmptyClassError
from fairbench.records.deduplicate import distinct
from fairbench.records.read import numbered
from fairbench.records.results_folder import scan
from fairbench.records.run_folder import RunFolder
from fairbench.tables.entries import SideCache, make_entries, reduce_side, tail_fraction


def test_the_worst_class_is_taken_per_checkpoint_and_averaged_afterwards(results):
    folder = results.run(clean=((9, 2, 7), (1, 8, 9)), robust=None)
    record = RunFolder(folder).read()
    side = reduce_side(record, "clean", record.epochs_evaluated)
    assert side.worst == pytest.approx((0.2 + 0.1) / 2)  # not min((9+1)/2, (2+8)/2, 8) / 10 = 0.5
    assert side.average == pytest.approx((18 / 30 + 18 / 30) / 2)
    assert side.worst_classes == (1, 0)
    assert side.count.tolist() == [10, 10, 10]


def test_with_two_hundred_classes_worst_is_the_mean_of_the_lowest_fifth(results):
    hits = tuple(k % 10 for k in range(200))  # 20 classes at each of 0/10 .. 9/10
    record = RunFolder(results.run(clean=(hits,), robust=(hits,))).read()
    side = reduce_side(record, "clean", record.epochs_evaluated)
    assert side.worst == pytest.approx(0.05)
    assert tail_fraction(200) == 0.2
    assert tail_fraction(199) is None


def test_records_that_differ_only_in_seed_are_one_entry(results):
    for seed in (2, 0, 1):
        results.run("trades", seed)
        results.run("dafa", seed)
    entries = make_entries(scan(results.path)[0], None, SideCache())
    assert [(entry.label, list(entry.seeds)) for entry in entries] == [
        ("dafa", [0, 1, 2]),
        ("trades", [0, 1, 2]),
    ]


def test_overrides_are_in_the_label(results):
    results.run("trix", overrides={"strength": 1.5})
    results.run("trix", overrides={"strength": 2, "beta": 6.0})
    results.run("trix", overrides={"strength": 3, "protocol.epochs": 5})
    results.run("trix", overrides={"protocol.epochs": 5})
    labels = [entry.label for entry in make_entries(scan(results.path)[0], None, SideCache())]
    assert labels == ["trix", "trix (beta=6.0, strength=2)", "trix (strength=1.5)", "trix (strength=3)"]


def test_entries_of_one_method_with_other_settings_are_told_apart(results):
    results.run("trix", config={"strength": 1.0})
    results.run("trix", config={"strength": 2.0})
    results.run("trix", 0, config={"strength": 3.0}, state=None)
    labels = [entry.label for entry in make_entries(scan(results.path)[0], None, SideCache()) if entry.seeds]
    assert labels == ["trix [config.strength=1.0]", "trix [config.strength=2.0]"]


def test_the_most_frequent_worst_class_is_named(results):
    results.run(clean=((9, 2, 7), (1, 8, 9), (5, 4, 9)), robust=((1, 2, 3),) * 3)
    (entry,) = make_entries(scan(results.path)[0], None, SideCache())
    assert entry.worst_class_name("clean") == "dog (2 of 3)"
    assert entry.worst_class_name("robust") == ""


def test_a_copied_run_counts_once(results, tmp_path):
    results.run(seed=0)
    results.run(seed=1)
    results.run(seed=0, into=tmp_path / "copy")
    kept, disputed = distinct(scan(results.path)[0] + scan(tmp_path / "copy")[0])
    assert ([record.seed for record in kept], disputed) == ([0, 1], [])


def test_of_copies_that_disagree_the_one_finished_last_counts(results, tmp_path):
    results.run(seed=0, clean=((1, 1, 1),))
    later = results.run(seed=0, clean=((2, 2, 2),), into=tmp_path / "b", finished="2026-11-23T00:00:00Z")
    results.run(seed=0, state="failed", into=tmp_path / "c", finished="2026-11-24T00:00:00Z")
    records = [record for path in (results.path, tmp_path / "b", tmp_path / "c") for record in scan(path)[0]]
    kept, disputed = distinct(records)
    assert [record.folder for record in kept] == [record.folder for record in disputed] == [later]


def test_a_class_without_test_images_is_named(results):
    folder = results.run(clean=((9, 8, 7),))
    record = RunFolder(folder).read()
    wider = replace(record, num_classes=4, class_names=numbered(4))
    with pytest.raises(EmptyClassError, match=r"class 3 \(class 3\)"):
        reduce_side(wider, "clean", wider.epochs_evaluated)
