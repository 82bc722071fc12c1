"""Teachers and starts: trained first, taken from files, and missed where they are missing."""

import importlib.util
import json
import shutil

import pytest
import torch

from fairbench.models.checkpoints import read_tensors


def checkpoints(folder):
    return {path.name: path.read_bytes() for path in (folder / "checkpoints").glob("epoch-*.safetensors")}


def as_torch_file(folder, path, prefix="module."):
    """The weights of a run's last epoch as another program saves them."""
    weights, _ = read_tensors(folder / "checkpoints" / "epoch-0002.safetensors")
    torch.save({"state_dict": {f"{prefix}{name}": value for name, value in weights.items()}}, path)
    return path


def test_a_teacher_is_trained_first_and_its_student_is_a_row(bench):
    out, error = bench.run("--methods", "rslad", "--set", "methods.rslad.teacher=pgd-at")
    assert "rslad learns from pgd-at, which is trained first" in error
    rows = [line.split()[0] for line in out.splitlines() if line.startswith(("trades", "rslad", "pgd"))]
    assert set(rows) == {"rslad", "trades"}
    assert bench.record("pgd-at")["state"] == "done"
    assert not list((bench.folder_of("pgd-at") / "outcomes").rglob("pgd-2*.npy"))


def test_a_teacher_from_a_file_gives_the_numbers_of_the_cell_that_made_it(bench):
    bench.run("--methods", "rslad")
    trained, teacher = bench.folder_of("rslad"), bench.folder_of("trades")
    path = as_torch_file(teacher, bench.folder / "teacher.pt")
    kept = bench.folder / "kept"
    shutil.move(trained, kept)
    _, error = bench.run("--methods", "rslad", "--set", f"methods.rslad.teacher.weights={path}")
    assert "learns from" not in error
    given = bench.folder_of("rslad")
    assert given.name != trained.name
    assert checkpoints(given) == checkpoints(kept)
    assert (
        f"teacher: {len(read_tensors(teacher / 'checkpoints' / 'epoch-0002.safetensors')[0])} tensors"
        in (given / "worker.log").read_text()
    )


def test_fine_tuning_starts_from_a_file(bench):
    change = ("--set", "methods.faal.fine_tune.epochs=1")
    bench.run("--methods", "faal", *change)
    tuned = bench.folder_of("faal")
    path = as_torch_file(bench.folder_of("trades"), bench.folder / "start.pt", prefix="")
    kept = bench.folder / "kept"
    shutil.move(tuned, kept)
    bench.run("--methods", "faal", *change, "--set", f"methods.faal.fine_tune.weights={path}")
    assert checkpoints(bench.folder_of("faal")) == checkpoints(kept)


def test_weights_that_changed_or_are_gone_or_of_another_network_end_the_cell_with_the_reason(bench):
    bench.run("--methods", "trades")
    path = as_torch_file(bench.folder_of("trades"), bench.folder / "teacher.pt")
    change = ("--methods", "rslad", "--set", f"methods.rslad.teacher.weights={path}")
    bench.run(*change)
    folder = bench.folder_of("rslad")
    for part in ("checkpoints", "outcomes"):
        shutil.rmtree(folder / part)
    (folder / "record.json").unlink()
    content = path.read_bytes()
    for what, reason in ((content + b"x", "changed since this cell was planned"), (None, "there is no file")):
        path.unlink() if what is None else path.write_bytes(what)
        bench.call("cell", str(folder), "--device", "cpu", code=1)
        record = json.loads((folder / "record.json").read_text())
        assert (record["state"], reason in record["reason"]) == ("failed", True), record["reason"]
        assert "methods.rslad.teacher.weights=FILE" in record["reason"]
    torch.save({"other.weight": torch.zeros(1)}, path)
    _, error = bench.run(*change, code=1)
    assert "checkpoint of another architecture" in error


def test_a_student_whose_teacher_is_missing_trains_it(bench):
    bench.run("--methods", "rslad", "--set", "methods.rslad.teacher=pgd-at")
    folder = bench.folder_of("rslad")
    before = checkpoints(folder)
    shutil.rmtree(bench.folder_of("pgd-at"))
    for part in ("checkpoints", "outcomes"):
        shutil.rmtree(folder / part)
    (folder / "record.json").unlink()
    bench.call("cell", str(folder), "--device", "cpu")
    assert checkpoints(folder) == before
    assert bench.record("pgd-at")["state"] == "done"


def test_the_pace_of_a_student_is_measured_with_a_teacher(bench):
    out, error = bench.call(*bench.arguments("plan", "--methods", "rslad", "--measure"))
    assert "measured rslad digits cnn-small" in error
    assert "rslad" in out


def test_a_normalisation_in_a_file_is_applied_to_a_teacher_and_refused_as_a_start(bench):
    bench.run("--methods", "trades")
    path = as_torch_file(bench.folder_of("trades"), bench.folder / "other.pt", prefix="1.")
    content = torch.load(path)
    content["state_dict"] |= {"0.mean": torch.full((1, 1, 1), 0.3), "0.std": torch.full((1, 1, 1), 0.15)}
    torch.save(content, path)
    bench.run("--methods", "rslad", "--set", f"methods.rslad.teacher.weights={path}")
    log = (bench.folder_of("rslad") / "worker.log").read_text()
    assert "teacher: weights: state_dict.1 of other.pt" in log
    assert "teacher: images are normalised by the mean (0.3,) and deviation (0.15,) in the file" in log
    change = ("--set", f"methods.faal.fine_tune.weights={path}", "--set", "methods.faal.fine_tune.epochs=1")
    _, error = bench.run("--methods", "faal", *change, code=1)
    assert "was trained behind a normalisation, which cnn-small does not have" in error


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="the extra timm is not installed")
def test_a_network_of_timm_is_trained_verified_exported_and_evaluated(bench):
    bench.run("--methods", "trades", "--models", "timm:test_byobnet")
    assert bench.record("trades")["state"] == "done"
    run = bench.folder_of("trades")
    assert "timm:test_byobnet" in run.name
    bench.call("verify", str(run), "--results", str(bench.results), "--device", "cpu")
    out = bench.folder / "out"
    places = ("--registry", str(bench.registry), "--results", str(bench.results), "-o", str(out))
    bench.call("export", str(run), "--to", "safetensors", *places)
    options = ("--dataset", "digits", "--attacks", "pgd-2", "--per-class", "2", "--device", "cpu", "--json")
    answers = []
    for model in ("timm:test_byobnet", f"{out / 'model.py'}:build"):
        given = ("evaluate", str(out / "model.safetensors"), "--model", model, *options)
        answers.append(json.loads(bench.call(*bench.arguments(*given))[0])["attacks"]["pgd-2"]["classes"])
    assert answers[0] == answers[1]
