"""`fairbench new` and `fairbench check`: what they write, print and exit with."""

import json
from pathlib import Path

import pytest
from flow_files import PLUGIN

from fairbench.registry import load_registry
from fairbench.registry.skeletons import DEFAULT, SKELETONS
from fairbench.testing import LAWS, method_check

TOP = Path(__file__).resolve().parents[2]
BROKEN = PLUGIN.replace("budget=ctx.budget", "budget=ctx.budget.scale(batch.x.new_full((len(batch),), 2.0))")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def few_laws(monkeypatch):
    """Only the quickest laws; that each method keeps all of them is tested elsewhere."""
    few = ("terms", "training", "budget", "cost")
    monkeypatch.setattr(method_check, "LAWS", {name: LAWS[name] for name in few})
    return few


def files_in(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


# check


def test_check_prints_a_line_per_law_the_cost_and_the_time(bench):
    out, _ = bench.call("check", "trades")
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines[1:-1]] == [["ok", law] for law in LAWS]
    assert "x TRADES per step" in lines[-2]
    assert lines[-1].startswith("trades keeps the contract  (")


def test_check_of_a_broken_method_says_what_to_do_and_ends_with_1(bench, write_plugin, few_laws):
    out, _ = bench.call("check", str(write_plugin(BROKEN)), code=1)
    assert "  FAILED  budget " in out
    assert "perturb() left the budget: |x_adv - x| = 0.2000 > 0.1000 for 12 of 12 samples" in out
    assert "pass budget=ctx.budget to the attack" in out
    assert "mine breaks budget  (" in out


def test_check_in_json_has_every_law_the_cost_and_the_verdict(bench, write_plugin, few_laws):
    out, _ = bench.call("check", str(write_plugin()), "--json")
    found = json.loads(out)["mine"]
    assert found["ok"] is True
    assert tuple(found["laws"]) == few_laws
    assert all(law["state"] == "ok" and law["sentence"] for law in found["laws"].values())
    assert 0 < found["relative_cost"] < 20
    out, _ = bench.call("check", str(write_plugin(BROKEN)), "--json", code=1)
    found = json.loads(out)["mine"]
    assert found["ok"] is False
    assert found["laws"]["budget"]["state"] == "failed"
    assert found["laws"]["budget"]["hint"]


def test_a_method_that_does_not_run_is_told_once(bench, write_plugin):
    path = write_plugin(PLUGIN.replace("bn_order=", "bn_ordre="))
    out, _ = bench.call("check", str(path), code=1)
    assert "TypeError: trades_terms() got an unexpected keyword argument 'bn_ordre'" in out
    assert "raised at mine.py:" in out
    assert out.count("not tested, because 'terms' is broken") == len(LAWS) - 1


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("trads", "did you mean: trades"),
        ("nothing.py", "there is no file"),
        ("mine.py", "has no class with @method"),
    ],
)
def test_check_of_what_does_not_exist_is_a_usage_error(bench, folder, what, says):
    (folder / "mine.py").write_text("x = 1\n")
    _, error = bench.call("check", what, code=2)
    assert says in error


def test_check_all_includes_ones_own_and_counts_what_cannot_be_loaded(
    bench, write_plugin, monkeypatch, few_laws
):
    from fairbench.registry import Registry

    names = Registry.names
    few = {"method": ["trades", "mine"]}
    monkeypatch.setattr(Registry, "names", lambda self, kind: few.get(kind) or names(self, kind))
    out, _ = bench.call("check", "all", "--registry", str(write_plugin()))
    assert "trades keeps the contract" in out
    assert "mine keeps the contract" in out
    (write_plugin().parent / "bad.py").write_text("x = (\n")
    _, error = bench.call(
        "check",
        "all",
        *["--registry", str(write_plugin()), "--registry", str(bench.folder / "bad.py")],
        code=1,
    )
    assert "method 'bad' cannot be used" in error


# new


def test_a_new_method_passes_its_check_its_test_and_runs(bench, folder):
    out, _ = bench.call("new", "method", "my-idea")
    assert set(files_in(folder)) == {"my_idea.py", "registry.yaml", "test_my_idea.py"}
    assert out.startswith("wrote my_idea.py, registry.yaml, test_my_idea.py\n")
    commands = [line.split() for line in out.partition("next:\n")[2].splitlines()]
    assert commands[0] == ["fairbench", "check", "my_idea.py"]
    bench.call(*commands[0][1:])
    assert commands[1] == ["python", "-m", "pytest", "test_my_idea.py"]
    assert pytest.main(["-q", "--rootdir", str(folder), "-p", "no:cacheprovider", "test_my_idea.py"]) == 0
    assert f"{len(LAWS)} passed" in bench.capsys.readouterr().out
    assert commands[2][:2] == ["fairbench", "run"]
    tiny = ["--seeds", "0", "--epochs", "2", "--device", "cpu", "--results", "results"]
    tiny += ["--set", "protocol.subset.train_per_class=13", "--set", "protocol.subset.test_per_class=5"]
    out, _ = bench.call(*commands[2][1:], *tiny)
    assert "\nmy-idea " in out


@pytest.mark.parametrize("like", list(SKELETONS))
def test_a_method_of_each_shape_keeps_the_contract(bench, folder, like):
    bench.call("new", "method", f"like-{like}", "--like", like)
    written = (folder / f"like_{like}.py").read_text()
    assert 30 <= len(written.splitlines()) <= 60
    assert "# Change here: " in written
    out, _ = bench.call("check", f"like_{like}.py")
    assert f"like-{like} keeps the contract" in out


def test_a_method_with_a_teacher_runs_with_its_registry_file(bench, folder):
    out, _ = bench.call("new", "method", "pupil", "--like", "rslad")
    command = out.splitlines()[-1].split()
    assert command[:2] == ["fairbench", "run"]
    tiny = ["--seeds", "0", "--epochs", "2", "--device", "cpu", "--results", "results"]
    tiny += ["--set", "protocol.subset.train_per_class=13", "--set", "protocol.subset.test_per_class=5"]
    out, _ = bench.call(*command[1:], *tiny)
    assert "\npupil " in out


@pytest.mark.parametrize("like", [None, *SKELETONS])
def test_examples_in_a_new_registry_file_are_valid(bench, folder, like):
    bench.call("new", "method", "new-idea", *([] if like is None else ["--like", like]))
    path, skeleton = folder / "registry.yaml", DEFAULT if like is None else SKELETONS[like]
    path.write_text(
        path.read_text().replace("    # datasets", "    datasets").replace("# fine_tune", "fine_tune")
    )
    name, _, value = skeleton.option.partition(": ")
    registry = load_registry([path])
    assert registry.method_config("new-idea", "cifar100")[name] == float(value)
    assert (registry.get("method", "new-idea").fine_tune is not None) == (like == "faal")


def test_nothing_is_overwritten(bench, folder):
    (folder / "registry.yaml").write_text("mine")
    before = files_in(folder)
    _, error = bench.call("new", "method", "floor", code=2)
    assert "registry.yaml exists, and nothing is overwritten" in error
    assert "mkdir" in error
    assert files_in(folder) == before


def test_a_package_is_not_written_over_another(bench, folder):
    bench.call("new", "method", "floor", "--package", "floor")
    before = files_in(folder)
    _, error = bench.call("new", "method", "other", "--package", "floor", code=2)
    assert "pyproject.toml" in error
    assert files_in(folder) == before


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Floor", "cannot be the name of a method"),
        ("8ball", "cannot be the name of a method"),
        ("a.b", "cannot be the name of a method"),
        ("../floor", "cannot be the name of a method"),
        ("class", "cannot be the name of a method"),
        ("all", "cannot be the name of a method"),
        ("null", "cannot be the name of a method"),
        ("none", "cannot be the name of a method"),
        ("mine-", "cannot be the name of a method"),
        ("trades", "there is a method called 'trades' already"),
        ("json", "'json' is an installed module"),
        ("torch", "'torch' is an installed module"),
    ],
)
def test_names_that_would_not_work_are_refused(bench, folder, name, says):
    before = files_in(folder)
    _, error = bench.call("new", "method", name, code=2)
    assert says in error
    assert files_in(folder) == before


def test_a_package_may_not_be_called_like_fairbench_itself(bench, folder):
    _, error = bench.call("new", "method", "at", "--package", "at", code=2)
    assert "'fairbench-at' is installed already" in error
    _, error = bench.call("new", "method", "methods", "--package", "x", code=2)
    assert "'fairbench_methods' is an installed module" in error


def test_the_example_package_is_what_the_command_writes(bench, folder):
    bench.call("new", "method", "floor", "--package", "written")
    written, example = folder / "written", TOP / "examples" / "fairbench-floor"
    known = {name: (example / name).read_text() for name in files_in(written)}
    assert files_in(written) == known
    kept = {str(p.relative_to(example)) for p in example.rglob("*.*") if "egg-info" not in str(p)}
    assert {name for name in kept if not name.endswith(".pyc")} == set(known)


def test_the_guide_shows_what_the_command_writes(bench, folder):
    bench.call("new", "method", "floor")
    guide = (TOP / "docs" / "write-a-method.md").read_text()
    assert (folder / "floor.py").read_text() in guide
    assert (folder / "test_floor.py").read_text().partition("\n\n")[2] in guide
