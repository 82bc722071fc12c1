"""Reading run folders: every good record is found, every bad one is named."""

import json
from dataclasses import replace

import numpy as np
import pytest
from outcome_files import folder_of, whole_cell, write_outcomes

from fairbench.core.errors import RecordError, ResultsError
from fairbench.core.files import write_sealed
from fairbench.records.results_folder import scan
from fairbench.records.run_folder import RunFolder

GIVEN = {
    "schema": 1,
    "method": "trades",
    "dataset": "digits",
    "model": "cnn-small",
    "protocol": "quickstart",
    "seed": 3,
    "overrides": {"beta": 3.0},
    "identity": {"method": {"name": "trades", "config": {"beta": 3.0}}, "protocol": {"version": 1}},
    "evaluation": [{"name": "pgd-20", "id": "e1", "eps": 0.1}],
}
CELL = whole_cell(GIVEN)


def record_content(digest, file="outcomes/epoch-0002/clean.npy"):
    evaluation = {"attack": "clean", "epoch": 2, "file": file, "digest": digest, "id": "e0"}
    attacked = {**evaluation, "attack": "pgd-20", "id": "e1"}
    return {
        "schema": 1,
        "id": CELL["id"],
        "entry": CELL["entry"],
        "state": "done",
        "reason": None,
        "epoch": 2,
        "num_classes": 2,
        "class_names": ["cat", "dog"],
        "epochs_evaluated": [2],
        "evaluations": [evaluation, attacked],
        "warnings": ["unofficial data"],
        "finished": "2026-11-22T10:00:00Z",
    }


@pytest.fixture
def folder(tmp_path):
    """A done run folder in a results folder."""
    folder = folder_of(tmp_path / "results" / "runs", CELL)
    (folder / "outcomes/epoch-0002").mkdir(parents=True)
    label = np.array([0, 1, 1])
    digest = write_outcomes(folder / "outcomes/epoch-0002/clean.npy", label, label, label == label)
    write_sealed(folder / "cell.json", CELL)
    write_sealed(folder / "record.json", record_content(digest))
    return folder


def change(folder, file="record.json", **values):
    content = json.loads((folder / file).read_text())
    write_sealed(folder / file, {**content, **values})


def test_a_done_run_is_read_with_all_its_properties(folder):
    (record,), problems = scan(folder.parents[1])
    assert problems == []
    assert (record.id, record.entry) == (CELL["id"], CELL["entry"])
    assert (record.seed, record.state) == (3, "done")
    assert (record.method, record.dataset, record.model) == ("trades", "digits", "cnn-small")
    assert (record.protocol, record.attacks, record.epochs_evaluated) == ("quickstart", ("pgd-20",), (2,))
    assert (record.class_names, record.warnings, record.reason) == (("cat", "dog"), ("unofficial data",), "")
    assert record.attack_settings("pgd-20")["eps"] == 0.1
    assert record.outcomes("clean", 2)["label"].tolist() == [0, 1, 1]


def test_a_folder_without_a_record_is_unfinished(folder):
    (folder / "record.json").unlink()
    (record,), problems = scan(folder.parents[1])
    assert (record.state, record.attacks, problems) == ("unfinished", (), [])


def test_results_without_runs_hold_nothing(tmp_path):
    assert scan(tmp_path) == ([], [])


def test_runs_that_is_no_folder_is_said(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(ResultsError):
        scan(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', '{"schema": 2}', "\x00\xff"])
@pytest.mark.parametrize("file", ["cell.json", "record.json"])
def test_a_damaged_record_is_a_problem_and_hides_no_other(folder, file, content):
    bad = folder.with_name("other")
    bad.mkdir()
    for name in ("cell.json", "record.json"):
        (bad / name).write_bytes((folder / name).read_bytes())
    (bad / file).write_bytes(content.encode("latin-1"))
    records, problems = scan(folder.parents[1])
    assert [record.folder for record in records] == [folder]
    assert [problem.folder for problem in problems] == [bad]
    assert str(problems[0]).startswith("other: ")


def test_a_folder_without_a_cell_is_a_problem(folder):
    folder.with_name("empty").mkdir()
    folder.with_name(".hidden").mkdir()
    records, problems = scan(folder.parents[1])
    assert (len(records), len(problems)) == (1, 1)


@pytest.mark.parametrize(
    "values",
    [
        {"id": "zz"},
        {"entry": "zz"},
        {"state": "great"},
        {"warnings": [1]},
        {"num_classes": 0},
        {"num_classes": True},
        {"class_names": "cat"},
        {"epochs_evaluated": []},
        {"epochs_evaluated": ["2"]},
        {"evaluations": {}},
        {"evaluations": [{"attack": "clean", "epoch": "2", "file": "x"}]},
        {"evaluations": [{"attack": "clean", "epoch": 2, "file": 5}]},
        {"evaluations": [{"attack": "clean", "epoch": 2, "file": "x", "digest": 5}]},
    ],
)
def test_a_record_of_another_shape_is_refused(folder, values):
    change(folder, **values)
    with pytest.raises(RecordError, match=r"record\.json in trades"):
        RunFolder(folder).read()


@pytest.mark.parametrize(
    "values",
    [{"seed": "3"}, {"seed": -1}, {"method": None}, {"overrides": []}, {"identity": 1}, {"evaluation": [1]}],
)
def test_a_cell_of_another_shape_is_refused(folder, values):
    values = {key: value if value != [] else ["x"] for key, value in values.items()}
    change(folder, "cell.json", **values)
    with pytest.raises(RecordError, match=r"cell\.json in trades"):
        RunFolder(folder).read()


@pytest.mark.parametrize(
    "file",
    ["/etc/hostname", "../clean.npy", "outcomes/../../clean.npy", "..\\clean.npy", "C:\\clean.npy", "a\0b"],
)
def test_a_path_that_leaves_the_run_folder_is_refused(folder, file):
    write_sealed(folder / "record.json", record_content(None, file))
    with pytest.raises(RecordError, match="outside its own folder"):
        RunFolder(folder).read().outcomes("clean", 2)


def test_a_link_that_leaves_the_run_folder_is_refused(folder, tmp_path):
    file = folder / "outcomes/epoch-0002/clean.npy"
    file.rename(tmp_path / "elsewhere.npy")
    file.symlink_to(tmp_path / "elsewhere.npy")
    with pytest.raises(RecordError, match="outside its own folder"):
        RunFolder(folder).read().outcomes("clean", 2)


def test_outcomes_with_another_digest_are_refused(folder):
    write_sealed(folder / "record.json", record_content("0" * 64))
    with pytest.raises(RecordError, match="digest"):
        RunFolder(folder).read().outcomes("clean", 2)


def test_an_evaluation_that_is_missing_is_said_with_what_there_is(folder):
    with pytest.raises(RecordError, match=r"no outcomes of pgd-20 at epoch 1.*\n.*clean, pgd-20 at epochs 2"):
        RunFolder(folder).read().outcomes("pgd-20", 1)


def test_of_several_settings_of_an_attack_the_cells_own_is_read(folder):
    record = RunFolder(folder).read()
    evaluation = record.evaluations[1]._replace(id="e9", file="outcomes/absent.npy")
    record = replace(record, evaluations=(*record.evaluations, evaluation))
    assert len(record.outcomes("pgd-20", 2)) == 3
    with pytest.raises(RecordError, match=r"absent\.npy"):
        record.outcomes("pgd-20", 2, "e9")
    undecided = replace(record, cell=replace(record.cell, evaluation=()))
    with pytest.raises(RecordError, match="2 outcomes with different settings"):
        undecided.outcomes("pgd-20", 2)


def test_classes_without_names_are_numbered(folder):
    change(folder, class_names=[])
    assert RunFolder(folder).read().class_names == ("class 0", "class 1")
