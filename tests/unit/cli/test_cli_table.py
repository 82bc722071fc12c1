"""The options of `fairbench table`."""

import csv
import io
import json

import pytest
from outcome_files import folder_of, whole_cell, write_outcomes

from fairbench.cli.main import main
from fairbench.core.files import write_sealed


def write_run(results, method, dataset="digits", protocol="tiny"):
    """A finished run with two test images."""
    names = {"method": method, "dataset": dataset, "model": "cnn-small", "protocol": protocol}
    cell = {"schema": 1, **names, "seed": 0, "overrides": {}, "identity": {}, "locations": {}}
    cell = whole_cell(cell)
    folder = folder_of(results / "runs", cell)
    evaluations = []
    for attack in ("clean", "pgd-2"):
        file = f"outcomes/epoch-0001/{attack}.npy"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        digest = write_outcomes(folder / file, [0, 1], [0, 1], [True, True])
        evaluations.append({"attack": attack, "id": "1", "epoch": 1, "digest": digest, "file": file})
    head = {key: cell[key] for key in ("schema", "id", "entry")}
    write_sealed(folder / "cell.json", {**cell, "evaluation": [{"name": "pgd-2", "id": "1"}]})
    record = {**head, "state": "done", "num_classes": 2, "epochs_evaluated": [1]}
    write_sealed(folder / "record.json", {**record, "evaluations": evaluations})


@pytest.fixture
def table(tmp_path, capsys):
    """`fairbench table` over trades, dafa and trix: what it prints."""
    for method in ("trades", "dafa", "trix"):
        write_run(tmp_path, method)

    def call(*options: str, code: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["table", "--results", str(tmp_path), "--format", "csv", *options])
        out, error = capsys.readouterr()
        assert (ended.value.code or 0) == code, out + error
        return out, error

    return call


def methods_in(text):
    return {name for name in ("trades", "dafa", "trix") if f"{name}," in text}


def test_spaces_and_empty_names_do_not_matter(table):
    assert methods_in(table("--methods", " dafa, trix,,")[0]) == {"trades", "dafa", "trix"}
    assert methods_in(table("--methods", "dafa")[0]) == {"trades", "dafa"}
    assert table("--datasets", " digits ,", "--protocol", "tiny") == table()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        (
            "--methods",
            "trixx,dafa",
            ["no method called 'trixx'", "--methods trixx,dafa", "did you mean: trix"],
        ),
        ("--datasets", "digit", ["no dataset called 'digit'", "--datasets digit", "did you mean: digits"]),
        (
            "--datasets",
            "cifar10",
            [
                "no run here has the dataset cifar10",
                "in these results: digits",
                "fairbench run --datasets cifar10",
            ],
        ),
        ("--protocol", "tini", ["no protocol called 'tini'", "--protocol tini", "did you mean: tiny"]),
        ("--protocol", "", ["no protocol called ''"]),
        ("--baseline", "nope", ["no method called 'nope'", "--baseline nope", "known: dafa, trades, trix"]),
        ("--methods", " , ", ["--methods is empty"]),
    ],
)
def test_a_name_that_no_record_has_is_exit_code_2(table, option, value, said):
    _, error = table(option, value, code=2)
    assert all(text in error for text in said)


def test_another_baseline_is_taken(table):
    assert methods_in(table("--methods", "trix", "--baseline", "dafa")[0]) == {"dafa", "trix"}


def test_an_absent_default_baseline_is_a_note(tmp_path, capsys):
    write_run(tmp_path, "trix")
    for options in ([], ["--methods", "trix"]):
        with pytest.raises(SystemExit) as ended:
            main(["table", "--results", str(tmp_path), *options])
        assert not ended.value.code
        assert "trades" in capsys.readouterr().out


def test_known_names_without_common_records_say_so(table, tmp_path):
    write_run(tmp_path, "pgd-at", dataset="svhn", protocol="other")
    _, error = table("--datasets", "svhn", "--protocol", "tiny", code=2)
    assert "fit the options" in error


def test_a_folder_without_runs_says_how_to_start_whatever_the_names(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["table", "--results", str(tmp_path), "--methods", "trixx"])
    assert "start with: fairbench run" in capsys.readouterr().err


def test_json_has_the_numbers_of_the_csv(table):
    printed = list(csv.DictReader(io.StringIO(table()[0])))
    rows = json.loads(table("--json")[0])
    assert [row["entry"] for row in rows] == [row["entry"] for row in printed]
    for row, same in zip(rows, printed, strict=True):
        for key, cell in row["columns"].items():
            assert same[key] in ("" if cell["value"] is None else repr(cell["value"]), "nan")
        assert row["records"] == json.loads(same["records"])


def test_attacks_are_chosen_by_the_same_terms(table):
    assert table("--attacks", "pgd-*") == table("--attack", "pgd-2") == table("--attacks", "all")
    _, error = table("--attacks", "pgd-3", code=2)
    assert "no attack called 'pgd-3'" in error
