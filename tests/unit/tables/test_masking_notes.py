"""A table says when PGD and the stronger attacks disagree by more than they usually do."""

import json

import pytest
from outcome_files import write_outcomes

from fairbench.core.files import write_sealed
from fairbench.records.outcomes import read_outcomes
from fairbench.records.run_folder import RunFolder
from fairbench.tables.views import build_tables

PGD = {"name": "pgd", "id": "p", "kind": "pgd", "norm": "linf", "eps": 0.031}
STRONG = {"name": "autoattack", "id": "a", "kind": "autoattack", "norm": "linf", "eps": 8 / 255}


def run(results, method, pgd, strong, settings=STRONG):
    """A run of three classes of 50 images; `pgd` and `strong` are the images of each class that stand."""
    folder = results.run(method=method, clean=((45, 45, 45),), robust=(pgd,), attack=PGD, size=50)
    cell, record = (json.loads((folder / name).read_text()) for name in ("cell.json", "record.json"))
    cell["evaluation"].append(settings)
    line = next(line for line in record["evaluations"] if line["attack"] == "pgd")
    file = line["file"].replace("pgd", "autoattack")
    label = read_outcomes(folder / line["file"])["label"]
    correct = [place % 50 < strong[c] for place, c in enumerate(label)]
    digest = write_outcomes(folder / file, label, label, correct)
    record["evaluations"].append({**line, "attack": "autoattack", "id": "a", "file": file, "digest": digest})
    write_sealed(folder / "cell.json", cell)
    write_sealed(folder / "record.json", record)
    return RunFolder(folder).read()


def notes(*records):
    return [note for table in build_tables(records) for note in table.notes if "masked" in note]


def test_a_gap_beyond_the_baselines_is_flagged_with_its_class_in_every_table(results):
    base = run(results, "trades", (30, 30, 30), (28, 28, 28))
    masked = run(results, "gairat", (40, 30, 30), (20, 28, 28))
    found = notes(base, masked)
    assert len(found) == 2  # the table of PGD and that of AutoAttack
    start = (
        "gradients may be masked, PGD is too high: gairat, 16.0 points between pgd and autoattack, 4.0 for"
    )
    assert all(note.startswith(start) for note in found)
    assert all("40.0" in note for note in found)


def test_the_usual_gap_is_not_flagged(results):
    base = run(results, "trades", (30, 30, 30), (28, 28, 28))
    assert notes(base, run(results, "fair", (30, 30, 30), (26, 26, 26))) == []


@pytest.mark.parametrize(
    "settings",
    [{**STRONG, "eps": 0.1}, {**STRONG, "norm": "l2"}, {**STRONG, "kind": "pgd"}],
    ids=["radius", "norm", "kind"],
)
def test_attacks_of_other_radius_norm_or_kind_are_not_compared(results, settings):
    assert notes(run(results, "gairat", (40, 40, 40), (10, 10, 10), settings)) == []


def test_without_a_baseline_a_gap_of_ten_points_is_flagged(results):
    assert notes(run(results, "gairat", (30, 30, 30), (26, 26, 26))) == []
    assert len(notes(run(results, "other", (30, 30, 30), (20, 20, 20)))) == 2


def test_a_margin_attack_that_sees_through_the_mask_does_not_hide_it(results):
    base = run(results, "trades", (30, 30, 30), (28, 28, 28))
    margin = {**STRONG, "kind": "pgd", "loss": "margin", "id": "c", "name": "cw"}
    masked = run(results, "gairat", (40, 30, 30), (20, 28, 28))
    cell = json.loads((masked.folder / "cell.json").read_text())
    record = json.loads((masked.folder / "record.json").read_text())
    cell["evaluation"].append(margin)
    line = next(line for line in record["evaluations"] if line["attack"] == "autoattack")
    record["evaluations"].append({**line, "attack": "cw", "id": "c"})
    write_sealed(masked.folder / "cell.json", cell)
    write_sealed(masked.folder / "record.json", record)
    assert any(
        "gairat, 16.0 points between pgd" in note for note in notes(base, RunFolder(masked.folder).read())
    )


def test_an_attack_towards_targets_is_no_measure_of_plain_pgd(results):
    record = run(results, "trades", (44, 44, 44), (28, 28, 28))
    cell = json.loads((record.folder / "cell.json").read_text())
    for attack in cell["evaluation"]:
        if attack["kind"] == "pgd":
            attack["target"] = "random"
    write_sealed(record.folder / "cell.json", cell)
    assert notes(record) != notes(RunFolder(record.folder).read()) == []


def test_a_baseline_without_a_gap_is_a_baseline_too(results):
    base = run(results, "trades", (30, 30, 30), (30, 30, 30))
    assert len(notes(base, run(results, "gairat", (33, 33, 33), (29, 29, 29)))) == 2
