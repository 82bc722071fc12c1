"""The executor that options ask for: refusals come before anything is written."""

from pathlib import Path

import pytest

from fairbench.core.errors import ConfigError, EnvironmentFault
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import parse_selection
from fairbench.planning.status import CellStatus, statuses
from fairbench.records.results_folder import ResultsFolder
from fairbench.records.status import Status
from fairbench.registry import load_registry
from fairbench.runner.executors import choose
from fairbench.runner.executors.choose import parse_gpus, prepare_job

REGISTRY = load_registry(())


def planned_cell(data: Path, attacks: str | None = None):
    """The cell of trades with these attacks."""
    selection = parse_selection(REGISTRY, methods="trades", seeds="0", attacks=attacks)
    (cell,), _ = resolve(selection, REGISTRY, data)
    return cell


@pytest.fixture
def prepare(tmp_path: Path):
    """Prepare a job of one cell in an empty folder."""
    cells, results = (planned_cell(tmp_path),), tmp_path / "results"

    def call(device="cpu", cells=cells, **options):
        try:
            return prepare_job(statuses(cells, results), results, REGISTRY, device, **options)
        finally:
            assert not results.exists()

    return call


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "inline"),
        ({"pack": 2}, "local"),
        ({"time_limit": 60.0}, "local"),
        ({"executor": "local"}, "local"),
    ],
)
def test_processes_are_used_where_options_need_them(prepare, options, name):
    job = prepare(**options)
    assert (job.name, len(job.job.planned)) == (name, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"executor": "foo"}, "no executor called 'foo'"),
        ({"executor": "inline", "pack": 2}, "--pack cannot be used with the executor inline"),
        ({"executor": "local", "detach": True}, "--detach cannot be used with the executor local"),
        ({"gpus": "0"}, "--gpus with --device cpu"),
        ({"gpus": "a"}, "does not name GPUs"),
    ],
)
def test_what_an_executor_cannot_do_is_refused(prepare, options, said):
    with pytest.raises(ConfigError, match=said):
        prepare(**options)


def test_a_cluster_that_is_not_there_is_refused(prepare, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentFault, match="this machine has no Slurm"):
        prepare(executor="slurm")


def test_a_plan_without_work_needs_no_cluster(prepare, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert prepare(executor="slurm", cells=()).run(None) == {}


@pytest.mark.parametrize("state", ["missing", "done"])
def test_attacks_that_a_queued_job_waits_to_run_are_not_dropped(monkeypatch, tmp_path, state):
    attacked, other = (planned_cell(tmp_path, attacks) for attacks in ("pgd-20", "pgd-20-l2"))
    results = ResultsFolder(tmp_path / "results")

    def listed():
        results.prepare(attacked)
        job = prepare_job([], results.path, REGISTRY, "cpu")
        if state == "done":
            job.update_attacks([CellStatus(other, results.run(other).path, Status("done"))])
        else:
            job.job.prepare(other)
        return [attack.name for attack in results.run(other).read_cell().evaluation]

    assert listed() == ["pgd-20-l2"]
    monkeypatch.setattr(choose, "queue_of", lambda results: {other.folder_name: "slurm 1_0: pending"})
    assert sorted(listed()) == ["pgd-20", "pgd-20-l2"]


def test_gpus_are_different_numbers():
    assert parse_gpus("0, 2") == ("0", "2")
    with pytest.raises(ConfigError, match="--gpus 0,1"):
        parse_gpus("1,1")
