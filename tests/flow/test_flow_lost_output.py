"""Output that cannot be written stops no run: a reader that has ended, a full disk, a closed stream."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
full_disk = pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")


def run(bench, **streams) -> int:
    """The exit code of a run of one cell whose streams are replaced."""
    command = [
        sys.executable,
        "-m",
        "fairbench",
        *bench.arguments("run", "--methods", "trades", "--seeds", "0"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, check=False, **streams).returncode


def ended_reader() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def test_a_reader_that_has_ended_stops_nothing(bench):
    pipe = ended_reader()
    try:
        assert run(bench, stdout=pipe, stderr=pipe) == 0
    finally:
        os.close(pipe)
    assert bench.record("trades")["state"] == "done"


@full_disk
def test_results_on_a_full_disk_are_an_error_of_their_own_and_the_cell_is_done(bench):
    with FULL.open("w") as full:
        assert run(bench, stdout=full, stderr=full) == 4
    assert bench.record("trades")["state"] == "done"


@full_disk
def test_progress_on_a_full_disk_is_dropped(bench):
    with FULL.open("w") as full:
        assert run(bench, stdout=subprocess.DEVNULL, stderr=full) == 0
    assert bench.record("trades")["state"] == "done"


@full_disk
@pytest.mark.parametrize("command", ["list", "list methods --json", "plan", "status", "doctor", "--help"])
def test_no_command_calls_a_full_disk_a_success(tmp_path, command):
    """Whether its text fails at once or when the buffer is written at the end."""
    with FULL.open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "fairbench", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    assert ended.returncode == 4
    assert "the output cannot be written: No space left on device." in ended.stderr
    assert "Traceback" not in ended.stderr


def test_closed_streams_are_no_error(tmp_path):
    command = f"{sys.executable} -m fairbench list methods >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False).returncode == 0


def test_a_hangup_that_is_ignored_stays_ignored():
    """`nohup` ignores it before it starts a program."""
    code = (
        "import signal; from fairbench.core import stopping; stopping.install_handlers();"
        "assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN"
    )
    shell = f"trap '' HUP; exec {sys.executable} -c '{code}'"
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0
