"""A method that fine-tunes: its start is trained or reused, the table shows the method only."""

import json
import shutil


def test_the_start_is_trained_once_reused_and_no_row_of_a_table(bench):
    out, error = bench.run("--methods", "frl,frl-rw")
    assert "frl starts from trades, which is trained first" in error
    assert bench.states("--methods", "frl,frl-rw") == {
        "trades.0": "done",
        "frl.0": "done",
        "frl-rw.0": "done",
    }
    assert len(list((bench.results / "runs").glob("trades.*"))) == 2  # the start, and the baseline of rho
    table, _ = bench.call("table", "--results", str(bench.results))
    for text in (out, table):
        rows = [line.split()[0] for line in text.splitlines() if line.startswith(("trades ", "frl"))]
        assert sorted(rows) == ["frl", "frl-rw", "trades"]
    status, _ = bench.call("status", "--results", str(bench.results), "--json")
    runs = json.loads(status)["runs"]
    assert sorted((run["method"], run["epochs"]) for run in runs) == [
        ("frl", 1),
        ("frl-rw", 1),
        ("trades", 2),
        ("trades", 2),
    ]


def test_a_start_on_all_images_is_the_row_of_the_baseline(bench):
    change = ("--methods", "frl", "--set", "methods.frl.fine_tune.hold_out=false")
    bench.run(*change)
    (only,) = (bench.results / "runs").glob("trades.*")
    outcomes = sorted(path.name for path in (only / "outcomes").rglob("*.npy"))
    assert any(name.startswith("pgd-2") for name in outcomes)


def test_a_cell_whose_start_is_missing_trains_it(bench):
    bench.run("--methods", "frl")
    (folder,) = (bench.results / "runs").glob("frl.*")
    before = {path.name: path.read_bytes() for path in (folder / "checkpoints").glob("*.safetensors")}
    for other in (bench.results / "runs").glob("trades.*"):
        shutil.rmtree(other)
    for part in ("checkpoints", "outcomes"):
        shutil.rmtree(folder / part)
    (folder / "record.json").unlink()
    bench.call("cell", str(folder), "--device", "cpu")
    after = {path.name: path.read_bytes() for path in (folder / "checkpoints").glob("*.safetensors")}
    assert before == after


def test_a_start_whose_weights_were_cleared_away_is_trained_again(bench):
    bench.run("--methods", "frl")
    for weights in (bench.results / "runs").glob("trades.*/checkpoints/*"):
        weights.unlink()
    bench.run("--methods", "frl-rw")
    assert bench.states("--methods", "frl-rw")["frl-rw.0"] == "done"


def test_a_start_that_nobody_asked_for_is_no_row(bench):
    change = ("--set", "methods.frl.fine_tune.start=pgd-at", "--set", "methods.frl.fine_tune.hold_out=false")
    bench.run("--methods", "frl", *change)
    table, _ = bench.call("table", "--results", str(bench.results))
    assert not [line for line in table.splitlines() if line.startswith("pgd-at")]


def test_components_are_switched_on_from_the_command_line_for_every_method(bench):
    out, _ = bench.run("--methods", "dafa", "--averaging", "ema", "--awp", "0.01")
    assert "dafa (averaging=ema, awp=0.01)" in out
    folder = bench.folder_of("dafa")
    assert len(list((folder / "checkpoints").glob("*.raw.safetensors"))) == 1
    _, error = bench.run("--averaging", "emma", code=2)
    assert "expected 'ema', 'fawa' or 'swa'" in error


def test_images_are_augmented_from_the_command_line_and_the_table_says_so(bench):
    out, _ = bench.run("--methods", "dafa", "--augment", "mixup", "--set", "methods.dafa.augment.alpha=1")
    assert "dafa (augment=mixup, augment.alpha=1)" in out
    _, error = bench.run("--augment", "cutuot", code=2)
    assert "'mixup' or 'cutmix', got 'cutuot'" in error
