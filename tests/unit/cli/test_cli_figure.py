"""The options of `fairbench figure`, and features of a run that was really trained."""

import csv

import numpy as np
import pytest
from outcome_files import folder_of, whole_cell, write_outcomes

from fairbench.cli.main import main
from fairbench.core.files import write_sealed
from fairbench.figures.kinds import KINDS


def write_run(results, method, dataset="digits", seed=0):
    """A finished run with four test images of two classes."""
    names = {"method": method, "dataset": dataset, "model": "cnn-small", "protocol": "tiny"}
    cell = {"schema": 1, **names, "seed": seed, "overrides": {}, "identity": {}, "locations": {}}
    cell = whole_cell(cell)
    folder = folder_of(results / "runs", cell)
    evaluations = []
    for attack, id in (("clean", "clean"), ("pgd-2", "1")):
        file = f"outcomes/epoch-0001/{attack}.npy"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        correct = [True, True, attack == "clean", True]
        digest = write_outcomes(folder / file, [0, 0, 1, 1], [0, 0, 1, 1], correct)
        evaluations.append({"attack": attack, "id": id, "epoch": 1, "digest": digest, "file": file})
    head = {key: cell[key] for key in ("schema", "id", "entry")}
    write_sealed(folder / "cell.json", {**cell, "evaluation": [{"name": "pgd-2", "id": "1"}]})
    record = {**head, "state": "done", "num_classes": 2, "epochs_evaluated": [1]}
    write_sealed(folder / "record.json", {**record, "evaluations": evaluations})


def call_in(folder, capsys):
    def call(*words, code=0):
        with pytest.raises(SystemExit) as ended:
            main(["figure", *words])
        out, error = capsys.readouterr()
        assert (ended.value.code or 0) == code, out + error
        return out + error

    return call


@pytest.fixture
def figure(tmp_path, monkeypatch, capsys):
    """`fairbench figure` in a folder with results of trades, dafa and trix."""
    monkeypatch.chdir(tmp_path)
    for method in ("trades", "dafa", "trix"):
        write_run(tmp_path / "results", method)
    return call_in(tmp_path, capsys)


def methods_in(path):
    with path.open() as file:
        return [row["method"] for row in csv.DictReader(file)]


def test_a_figure_lies_beside_its_data_and_caption_and_the_caption_is_printed(figure, tmp_path):
    told = figure("front")
    assert "front.pdf, front.csv, front.txt" in told
    assert (tmp_path / "front.txt").read_text().strip() in told
    assert methods_in(tmp_path / "front.csv") == ["trades", "dafa", "trix"]


def test_only_the_methods_asked_for_are_drawn_and_in_their_order(figure, tmp_path):
    figure("front", "--methods", "trix,dafa", "-o", "f.svg")
    assert methods_in(tmp_path / "f.csv") == ["trix", "dafa"]


def test_a_forest_keeps_the_baseline_it_compares_with(figure, tmp_path):
    figure("forest", "--methods", "trix", "-o", "f.svg")
    assert set(methods_in(tmp_path / "f.csv")) == {"trix"}


def test_the_clean_side_alone(figure, tmp_path):
    figure("classes", "--side", "clean", "-o", "f.svg")
    with (tmp_path / "f.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["side"] for row in rows} == {"clean"}
    assert {row["value"] for row in rows} == {"1.0"}


def test_several_data_sets_give_several_files(figure, tmp_path):
    write_run(tmp_path / "results", "trades", dataset="cifar10")
    told = figure("classes", "-o", "figures/f.svg")
    assert "figures/f.cifar10.svg" in told
    assert "figures/f.digits.svg" in told
    assert "figures/f.cifar10.svg" not in figure("classes", "--datasets", "digits", "-o", "figures/g.svg")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["front", "--methods", "trixx"], ["no method called 'trixx'", "did you mean: trix"]),
        (["front", "--datasets", "digit"], ["no dataset called 'digit'", "did you mean: digits"]),
        (["front", "--protocol", "tinny"], ["no protocol called 'tinny'"]),
        (["front", "--attack", "pgd-3"], ["no attack called 'pgd-3'", "did you mean: pgd-2"]),
        (["forest", "--baseline", "trade"], ["no method called 'trade'"]),
        (["front", "--results", "nowhere"], ["no runs in nowhere", "fairbench run"]),
        (["front", "-o", "f.jpg"], ["cannot be written", ".pdf, .svg, .png"]),
        (["front", "--classes", "1,2"], ["--classes is for features"]),
        (["weights", "--side", "clean"], ["weights cannot show one side alone"]),
        (["eps"], ["no run here was attacked at several radii", "--suite figure3"]),
        (["success"], ["with and without targets", "--suite figure1"]),
        (["weights"], ["logged a value per class", "--methods dafa,trix"]),
        (["curves"], ["no training curves"]),
        (["features"], ["attacked by PGD"]),
    ],
    ids=lambda value: " ".join(value) if value[0] in KINDS else "",
)
def test_what_cannot_be_drawn_is_said_with_what_to_type(figure, tmp_path, words, said):
    told = figure(*words, code=2)
    for text in said:
        assert text in told
    assert not list(tmp_path.glob("*.pdf"))


def test_an_unknown_kind_lists_the_kinds(figure):
    told = figure("bars", code=2)
    assert all(kind in told for kind in KINDS)


def test_features_of_a_run_are_what_its_last_layer_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = [f"--set=protocol.subset.{split}_per_class=8" for split in ("train", "test")]
    with pytest.raises(SystemExit) as ended:
        main(["run", "--methods", "trades", "--seeds", "0", "--epochs", "1", *tiny, "--device", "cpu"])
    assert ended.value.code == 0
    figure = call_in(tmp_path, capsys)
    told = figure("features", "--classes", "3,8", "--device", "cpu", "-o", "f.svg")
    assert "of 16 test images of 3 and 8" in told
    with (tmp_path / "f.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == (["3"] * 8 + ["8"] * 8) * 2

    from fairbench.records.results_folder import scan

    (record,) = scan(tmp_path / "results")[0]
    epoch = record.epochs_evaluated[-1]
    for adversarial, attack in (("False", "clean"), ("True", "pgd-20-digits")):
        own = [row for row in rows if row["adversarial"] == adversarial]
        outcomes = record.outcomes(attack, epoch)[[int(row["image"]) for row in own]]
        assert [int(row["predicted"]) for row in own] == outcomes["prediction"].tolist()
        assert [int(row["class"]) for row in own] == outcomes["label"].tolist()
    first = np.array([[float(row["x"]), float(row["y"])] for row in rows])
    assert np.allclose(first.mean(0), 0, atol=1e-6)
    figure("features", "--classes", "3,8", "--device", "cpu", "-o", "g.svg")
    assert (tmp_path / "g.csv").read_bytes() == (tmp_path / "f.csv").read_bytes()
