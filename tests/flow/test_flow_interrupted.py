"""Whatever stops a run, the same command continues it; whoever else works on it is left alone."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flow_files import HOOK

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
SIGNALLED = (  # in the middle of the third epoch; what stops it is no part of the method's identity
    "if ctx.epoch == 3 and ctx.step == 1 and (stop := os.environ.get('TEST_SIGNAL')):\n"
    "            os.kill(os.getpid(), int(stop))\n        "
)
PAUSED = (
    "if ctx.epoch == 2 and ctx.step == 1 and os.environ.get('TEST_PAUSE'):\n"
    "            print('paused', file=sys.stderr, flush=True)\n"
    "            sys.stdin.readline()\n        "
)


@pytest.fixture
def mine(write_plugin: Callable[..., Path]) -> tuple[str, ...]:
    """Options that select a method which obeys TEST_SIGNAL and TEST_PAUSE, and the baseline."""
    text = write_plugin().read_text().replace("from dataclasses", "import os\nimport sys\nfrom dataclasses")
    plugin = write_plugin(text.replace(HOOK, SIGNALLED + PAUSED + HOOK))
    return ("--registry", str(plugin), "--methods", "mine,trades", "--epochs", "3", "--device", "cpu")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signal handlers as they were."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob(pattern)}
    assert found
    return found


def assert_tidy(results: Path) -> None:
    """No claims and no temporary files are left."""
    left = [path for path in results.rglob("*") if path.name.startswith(".") or path.name == "claim"]
    assert left == []


def test_a_killed_run_continues_to_weights_bitwise_equal_to_an_uninterrupted_one(bench, mine, monkeypatch):
    monkeypatch.setenv("TEST_SIGNAL", str(int(signal.SIGKILL)))
    process = bench.start(*bench.arguments("run", *mine))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    killed = bench.folder_of("mine")
    # The first epoch was written before the second was handed over; the second may be on its way.
    assert 1 <= len((killed / "epochs.jsonl").read_text().splitlines()) <= 2
    assert not (killed / "record.json").exists()
    monkeypatch.delenv("TEST_SIGNAL")
    assert bench.states(*mine)["mine.0"] == "partial"
    _, error = bench.run(*mine)
    assert "1 missing, 1 partial" in error
    assert_tidy(bench.results)

    whole = replace(bench, results=bench.folder / "uninterrupted")
    whole.run(*mine)
    for pattern in ("epoch-*.safetensors", "*.npy"):
        assert files(killed, pattern) == files(whole.folder_of("mine"), pattern)
    curves = [
        [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
        for folder in (killed, whole.folder_of("mine"))
    ]
    for row in (*curves[0], *curves[1]):
        row.pop("seconds")
    assert curves[0] == curves[1]
    evaluations = [
        [(item["attack"], item["digest"]) for item in side.record("mine")["evaluations"]]
        for side in (bench, whole)
    ]
    assert evaluations[0] == evaluations[1]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGHUP, 75)],
)
def test_a_stopped_run_says_goodbye_and_continues(bench, mine, monkeypatch, number, code):
    monkeypatch.setenv("TEST_SIGNAL", str(int(number)))
    # A shell makes what it runs in the background ignore the first of them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    _, error = bench.run(*mine, code=code)
    signal.signal(signal.SIGINT, before)
    assert_tidy(bench.results)
    assert "run the same command again to continue" in error
    log = (bench.folder_of("mine") / "worker.log").read_text()
    assert "epoch 2 of 3" in log
    assert "epoch 3 of 3" not in log
    assert bench.states(*mine) == {"mine.0": "partial", "trades.0": "missing"}
    monkeypatch.delenv("TEST_SIGNAL")
    bench.run(*mine)
    assert bench.states(*mine) == {"mine.0": "done", "trades.0": "done"}
    assert "resuming after epoch 2 and 2 steps" in (bench.folder_of("mine") / "worker.log").read_text()


def test_a_cell_of_another_process_is_left_alone_and_nothing_is_done_twice(bench, mine, monkeypatch):
    monkeypatch.setenv("TEST_PAUSE", "1")
    first = bench.start(*bench.arguments("run", *mine))
    assert first.stderr is not None
    assert any(line == "paused\n" for line in first.stderr), "the first run ended early"
    monkeypatch.delenv("TEST_PAUSE")
    try:
        assert bench.states(*mine) == {"mine.0": "running", "trades.0": "missing"}
        _, error = bench.run(*mine)
        assert "1 cell running in another process" in error
        _, error = bench.call("cell", *mine[:2], str(bench.folder_of("mine")), code=1)
        assert "is working on it" in error
        assert bench.states(*mine) == {"mine.0": "running", "trades.0": "done"}
    finally:
        out, error = first.communicate("\n")
    assert first.returncode == 0, error
    assert "trades" in out
    assert bench.states(*mine) == {"mine.0": "done", "trades.0": "done"}
    for method in ("mine", "trades"):
        provenance = json.loads((bench.folder_of(method) / "provenance.json").read_text())
        assert provenance["earlier"] == []  # worked on once
    assert_tidy(bench.results)


@pytest.mark.slow  # two more processes that import torch; the test above has the same overlap, controlled
def test_two_runs_started_at_once_share_the_cells(bench):
    processes = [bench.start(*bench.arguments("run", "--seeds", "0..1")) for _ in range(2)]
    for process in processes:
        _, error = process.communicate()
        assert process.returncode == 0, error
        assert "Traceback" not in error
    assert set(bench.states("--seeds", "0..1").values()) == {"done"}
    for folder in (bench.results / "runs").iterdir():
        assert json.loads((folder / "provenance.json").read_text())["earlier"] == []
        for outcomes in folder.rglob("*.npy"):
            assert len(np.load(outcomes)) == 50
    assert_tidy(bench.results)


@pytest.mark.slow  # three processes that import torch
def test_of_three_workers_one_is_killed_and_the_others_do_every_cell_once(bench, mine, monkeypatch):
    """The dead one's cell is taken over and continued; nothing is done twice, nothing forgotten."""
    chosen = (*mine, "--seeds", "0..3", "--wait")
    monkeypatch.setenv("TEST_SIGNAL", str(int(signal.SIGKILL)))
    killed = bench.start(*bench.arguments("run", *chosen, "--methods", "mine"))
    monkeypatch.delenv("TEST_SIGNAL")
    while not list(bench.results.glob("runs/*/claim")):
        assert killed.poll() is None
        time.sleep(0.05)
    others = [bench.start(*bench.arguments("run", *chosen)) for _ in range(2)]
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    for process in others:
        _, error = process.communicate()
        assert process.returncode == 0, error
    states = bench.states(*chosen[:-1])
    assert len(states) == 8
    assert set(states.values()) == {"done"}
    attempts = [
        1 + len(json.loads(path.read_text())["earlier"])
        for path in bench.results.glob("runs/*/provenance.json")
    ]
    assert sorted(attempts) == [1, 1, 1, 1, 1, 1, 1, 2]
    assert_tidy(bench.results)
