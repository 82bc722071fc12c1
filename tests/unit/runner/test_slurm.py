"""The number of a job is read from what sbatch prints, whatever a site prints around it."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.core.errors import ConfigError, EnvironmentFault
from fairbench.core.files import read_json, write_json
from fairbench.core.stopping import REQUEUE
from fairbench.registry import load_registry
from fairbench.runner.executors import slurm
from fairbench.runner.executors.executor import Job
from fairbench.runner.executors.profile import read_profile

BANNER = st.lists(
    st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=30).filter(
        lambda line: slurm.JOB_NUMBER.fullmatch(line.strip()) is None
    ),
    max_size=4,
)
SPELLINGS = ("{}", "{};cluster", "Submitted batch job {}", "Submitted batch job {} on cluster east", "  {}\r")


@given(BANNER, st.integers(1, 10**9), st.sampled_from(SPELLINGS), BANNER)
def test_a_banner_before_or_after_the_number_is_left_out(before, number, spelling, after):
    lines = [*before, spelling.format(number), *after]
    assert slurm.job_number("\n".join(lines)) == str(number)


@given(BANNER)
def test_an_answer_without_a_number_is_an_error(lines):
    assert slurm.job_number("\n".join(lines)) is None


def test_the_last_number_counts():
    assert slurm.job_number("maintenance in\n14\ndays\n4242\n") == "4242"


def test_a_job_is_stored_by_its_number_and_an_answer_without_one_is_shown(tmp_path):
    assert slurm.submitted(tmp_path, 2, "Welcome\n--> OK\n4242\n") == "4242"
    assert read_json(tmp_path / "job.json") == {"schema": 1, "job": "4242", "cells_per_task": 2}
    (tmp_path / "job.json").unlink()
    with pytest.raises(EnvironmentFault, match="Welcome") as error:
        slurm.submitted(tmp_path, 2, "Welcome\n")
    assert "squeue --me" in error.value.hint
    assert not (tmp_path / "job.json").exists()


def test_a_number_that_was_stored_with_a_banner_is_read(tmp_path: Path, monkeypatch):
    folder = tmp_path / "slurm" / "1"
    folder.mkdir(parents=True)
    write_json(folder / "job.json", {"schema": 1, "job": "Welcome\n4242", "cells_per_task": 1})
    (folder / "cells.txt").write_text("/somewhere/runs/trades.digits\n")
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    monkeypatch.setattr(slurm, "tasks_of", lambda number: {0: ("PENDING", number)})
    assert slurm.queue_of(tmp_path) == {"trades.digits": "slurm 4242_0: pending, 4242"}


def test_a_script_is_shell_and_runs_each_folder_of_its_task(tmp_path: Path):
    (tmp_path / "cells.txt").write_text("a b\nc\nd\n")
    settings = slurm.Slurm(cells_per_task=2, time="10", options={"comment": "a test"}, setup="true")
    text = slurm.script(tmp_path, 3, settings, "cpu", {"FAIRBENCH_REGISTRY": "it's mine.yaml"})
    assert "#SBATCH --array=0-1\n" in text
    assert "#SBATCH --comment='a test'\n" in text
    program = tmp_path / "program"
    program.write_text('#!/bin/bash\necho "$FAIRBENCH_REGISTRY"; printf "<%s>" "${@: -2}"\n')
    program.chmod(0o755)
    path = tmp_path / "job.sh"
    path.write_text(re.sub(r"command=\(\S+", f"command=({program}", text))
    env = {"PATH": os.environ["PATH"], "SLURM_ARRAY_TASK_ID": "0"}
    done = subprocess.run(["bash", path], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "it's mine.yaml\n<a b><c>"), done.stderr


@pytest.mark.parametrize(("restarts", "again"), [("0", True), ("3", False)])
def test_a_task_that_is_warned_goes_back_into_the_queue_so_often(tmp_path: Path, restarts, again):
    (tmp_path / "cells.txt").write_text("a\n")
    text = slurm.script(tmp_path, 1, slurm.Slurm(time="10", requeues=3), "cpu", {})
    programs = {
        "program": f"trap 'exit {REQUEUE}' USR1; touch '{tmp_path}/ready'; while true; do sleep 0.05; done",
        "scontrol": f"echo \"$@\" > '{tmp_path}/requeued'",
    }
    for name, content in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{content}\n")
        (tmp_path / name).chmod(0o755)
    path = tmp_path / "job.sh"
    path.write_text(re.sub(r"command=\(\S+", f"command=({tmp_path / 'program'}", text))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_RESTART_COUNT": restarts}
    env |= {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "7"}
    task = subprocess.Popen(["bash", path], env=env)
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    task.send_signal(signal.SIGUSR1)
    assert task.wait(30) == REQUEUE
    assert (tmp_path / "requeued").exists() == again
    assert not again or (tmp_path / "requeued").read_text() == "requeue 7_0\n"


@pytest.mark.parametrize(("device", "gpus"), [("cuda:1", 1), ("cuda", 0)])
def test_a_device_that_the_job_cannot_have_is_refused(tmp_path, device, gpus):
    profile = tmp_path / "cluster.yaml"
    profile.write_text(f"slurm: {{gpus: {gpus}}}\n")
    job = Job([], tmp_path, load_registry(), device, profile=read_profile(profile))
    with pytest.raises(ConfigError, match=f"--device {device}"):
        slurm.check(job)
