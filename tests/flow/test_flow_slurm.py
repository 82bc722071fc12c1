"""A real Slurm that the test starts: arrays, GPUs, cancelling, and going on behind the time limit."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flow_files import HOOK

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("slurmctld") is None or os.getuid() != 0,
        reason="needs slurmctld, slurmd, slurm-client and munge (Debian), and root to start them",
    ),
]
PACED = (  # a step takes as long as the test says, which is no part of the method's identity
    "time.sleep(float(os.environ.get('TEST_PACE', 0)))\n        "
)
PROFILE = """
slurm:
  partition: debug
  gpus: 1
  time: "1"
  warn_seconds: 40
  at_a_time: {at_a_time}
  cells_per_task: {per_task}
  setup: 'echo "task $SLURM_ARRAY_TASK_ID has GPU $CUDA_VISIBLE_DEVICES on $SLURMD_NODENAME"'
  options: {{comment: a test of fairbench}}
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Slurm with two pretend nodes of two pretend GPUs each."""
    folder = tmp_path_factory.mktemp("slurm")
    up = subprocess.run([Path(__file__).with_name("slurm-up"), folder], capture_output=True, text=True)
    assert up.returncode == 0, up.stderr
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield
    subprocess.run(["scancel", "--state=PENDING"], check=False)
    subprocess.run(["scontrol", "shutdown"], check=False)
    del os.environ["SLURM_CONF"]


@pytest.fixture
def cluster(bench, write_plugin: Callable[..., Path], slurm: None, monkeypatch):
    """Arguments of `run` on the cluster with a profile."""
    text = write_plugin().read_text().replace("from dataclasses", "import os\nimport time\nfrom dataclasses")
    plugin = write_plugin(text.replace(HOOK, PACED + HOOK))
    profile = bench.folder / "cluster.yaml"

    def arguments(*extra: str, at_a_time: int = 4, per_task: int = 1) -> list[str]:
        profile.write_text(PROFILE.format(at_a_time=at_a_time, per_task=per_task))
        chosen = ("--registry", str(plugin), "--methods", "mine", "--epochs", "3", "--device", "cpu")
        return [*chosen, "--executor", "slurm", "--profile", str(profile), *extra]

    return arguments


def queue() -> list[str]:
    """The tasks that are pending or running."""
    return subprocess.run(["squeue", "-h", "-r"], capture_output=True, text=True).stdout.splitlines()


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.2)


def outcomes(folder: Path) -> dict[str, bytes]:
    found = [*folder.rglob("epoch-*.safetensors"), *folder.rglob("*.npy")]
    assert found
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_an_array_goes_on_behind_its_time_limit_to_the_very_same_weights(bench, cluster, monkeypatch):
    monkeypatch.setenv("TEST_PACE", "4")  # twelve steps: with the start, more than is left before the warning
    _, error = bench.run(*cluster("--seeds", "0..1"))
    assert "4 cells" in error  # with the baseline's
    (job,) = (bench.results / "slurm").iterdir()
    cells = (job / "cells.txt").read_text().splitlines()
    for task, cell in enumerate(cells):
        log = (job / f"task-{task}.log").read_text()
        mine = Path(cell).name.startswith("mine")
        starts = log.count(f"task {task} has GPU")
        assert starts >= 2 if mine else starts == 1, log  # the warning is not punctual: it may come early
        assert "has GPU 0 on node" in log or "has GPU 1 on node" in log
        assert ("interrupted; run the same command again to continue" in log) == mine
    script = (job / "job.sh").read_text()
    assert "#SBATCH --array=0-3%4" in script
    assert "#SBATCH --comment='a test of fairbench'" in script
    for seed in (0, 1):
        assert "resuming after epoch" in (bench.folder_of("mine", seed) / "worker.log").read_text()
    monkeypatch.delenv("TEST_PACE")
    slurm_results, bench.results = bench.results, bench.folder / "at-once"
    bench.run(*cluster()[:8], "--seeds", "0..1")  # without the executor
    for seed in (0, 1):
        (alone,) = (bench.results / "runs").glob(f"mine.*.seed{seed}.*")
        assert outcomes(alone) == outcomes(slurm_results / "runs" / alone.name)


def test_what_is_queued_is_shown_and_not_submitted_twice_and_short_cells_share_a_task(
    bench, cluster, monkeypatch
):
    monkeypatch.setenv("TEST_PACE", "0.2")
    chosen = cluster("--seeds", "0..1", "--detach", at_a_time=1, per_task=2)
    _, error = bench.run(*chosen)
    assert "4 cells in the queue" in error
    _, error = bench.run(*chosen)
    assert error.count("is in the queue already") >= 3
    shown = json.loads(bench.call("status", "--results", str(bench.results), "--json")[0])["runs"]
    states = [run["state"] for run in shown]
    assert states.count("queued") >= 2
    assert any("pending" in run["reason"] for run in shown if run["state"] == "queued")
    bench.call("status", "--results", str(bench.results), "--watch")  # ends when all is over
    until(lambda: not queue())
    assert set(bench.states(*cluster()[:6], "--seeds", "0..1").values()) == {"done"}
    (job,) = (bench.results / "slurm").iterdir()
    assert sorted(path.name for path in job.glob("task-*")) == ["task-0.log", "task-1.log"]


def test_ctrl_c_cancels_the_job_and_keeps_what_was_saved(bench, cluster, monkeypatch):
    monkeypatch.setenv("TEST_PACE", "1")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = bench.start(*bench.arguments("run", *cluster("--seeds", "0")))
    signal.signal(signal.SIGINT, before)
    logs = bench.results / "runs"
    until(lambda: any("epoch 1 of 3" in path.read_text() for path in logs.glob("mine*/worker.log")))
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130, error
    assert "is cancelled; the same command continues what it left" in error
    until(lambda: not queue())
    assert bench.states(*cluster()[:6])["mine.0"] == "partial"
    monkeypatch.delenv("TEST_PACE")
    bench.run(*cluster()[:8])
    assert "resuming after epoch 1" in (bench.folder_of("mine") / "worker.log").read_text()


def test_a_job_that_slurm_refuses_is_an_error(bench, cluster):
    arguments = cluster("--seeds", "0")
    profile = Path(arguments[arguments.index("--profile") + 1])
    profile.write_text("slurm: {partition: nowhere}\n")
    _, error = bench.run(*arguments, code=3)
    assert "sbatch refuses the job" in error
    profile.write_text("slurm: {partion: debug, setup: 3}\n")
    _, error = bench.run(*arguments, code=2)
    assert "Did you mean 'partition'?" in error
    assert "cluster.yaml:1" in error
