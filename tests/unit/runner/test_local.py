"""Processes on this machine: each device its share, failures alone, and an end with the parent.

The cells are worked on by a program of the test's, which does at each attempt what the test says.
"""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from outcome_files import write_outcomes

from fairbench.core import processes
from fairbench.core.errors import ConfigError, EnvironmentFault
from fairbench.core.files import write_sealed
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.planning.status import statuses
from fairbench.registry import load_registry
from fairbench.runner import device
from fairbench.runner.executors import local, process
from fairbench.runner.executors.executor import Job
from fairbench.runner.executors.local import execute, places_of

REGISTRY = load_registry()

PROGRAM = """#!{python} -S
import hashlib, json, os, pathlib, signal, subprocess, sys, time
sys.stdin = open(0)
folder = pathlib.Path(sys.argv[4])
here = folder.parent.parent
method = folder.name.split(".")[0]
log = here / "attempts.txt"
with log.open("a") as file:
    file.write(f"{{method}} {{os.environ.get('CUDA_VISIBLE_DEVICES')}} {{os.environ['OMP_NUM_THREADS']}}\\n")
attempt = log.read_text().split().count(method)
todo = json.loads((here / "todo.json").read_text()).get(method, [])
what = todo[min(attempt, len(todo)) - 1] if todo else "done"
(here / f"{{method}}.at-work").write_text("")
beside = len(list(here.glob("*.at-work")))
with (here / "beside.txt").open("a") as file:
    file.write(f"{{beside}}\\n")
def end(state="done", code=0, **more):
    cell = json.loads((folder / "cell.json").read_text())
    record = dict(schema=1, id=cell["id"], entry=cell["entry"], state=state, evaluations=[], **more)
    if state == "done":
        record.update(num_classes=10, epochs_evaluated=[1])
        record["evaluations"] = [
            dict(attack=e["name"], id=e["id"], epoch=1, file="rows.npy")
            for e in (dict(name="clean", id="clean"), *cell["evaluation"])
        ]
        (folder / "rows.npy").write_bytes((here / "rows.npy").read_bytes())
    text = json.dumps({{**record, "digest": "0" * 64}}, indent=1) + "\\n"
    aside = folder / f".{{os.getpid()}}"
    aside.write_text(text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest()))
    os.replace(aside, folder / "record.json")
    leave(code)
def leave(code):
    (here / f"{{method}}.at-work").unlink()
    sys.exit(code)
time.sleep(0.05)
if what == "done": end()
if what == "fails": end("failed", 1, reason="no luck")
if what == "memory": end("failed", 1, reason="out of memory", fault="memory")
if what == "claimed": print("LeaseHeldError: process 7 works on it"); leave(1)
if what == "dies": print("segmentation fault"); leave(139)
if what == "stopped": leave(75)
if what == "killed": (here / f"{{method}}.at-work").unlink(); os.kill(os.getpid(), signal.SIGKILL)
if what == "forks":
    child = subprocess.Popen(["sleep", "60"])
    (here / "child").write_text(str(child.pid))
    end()
if what == "hangs":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True: time.sleep(1)
if what == "waits":
    def goodbye(*_): leave(75)
    signal.signal(signal.SIGTERM, goodbye)
    (here / "waiting").write_text(str(os.getpid()))
    os.read(0, 1)  # until the parent is gone
    leave(75)
"""


class Told:
    """What was told, for looking at afterwards."""

    def __init__(self):
        self.starts, self.ends, self.notes = [], {}, []

    def started(self, cell):
        self.starts.append(cell.method)

    def ended(self, cell, state, reason):
        self.ends[cell.method] = (state, reason)

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Say what is to happen at each attempt at a method; then `job(...)`."""
    path = tmp_path / "python"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setattr(process.sys, "executable", str(path))
    monkeypatch.setattr(local, "PAUSE", 0.01)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def job(todo, *methods, seeds=(0,), **how):
        (tmp_path / "todo.json").write_text(json.dumps(todo))
        write_outcomes(tmp_path / "rows.npy", range(10), range(10), [True] * 10)
        selection = Selection(suite="quickstart", methods=methods, seeds=seeds)
        cells, _ = resolve(selection, REGISTRY, tmp_path)
        return Job(
            planned=statuses(cells, tmp_path), results=tmp_path, registry=REGISTRY, **{"device": "cpu", **how}
        )

    return job


def attempts(tmp_path):
    return [line.split() for line in (tmp_path / "attempts.txt").read_text().splitlines()]


def test_as_many_as_asked_for_and_all_of_them(tmp_path, program):
    given, told = program({}, "trades", "dafa", "trix", "pgd-at", pack=2), Told()
    assert execute(given, told) == {item.cell.id: "done" for item in given.planned}
    assert sorted(told.starts) == ["dafa", "pgd-at", "trades", "trix"]
    assert max(map(int, (tmp_path / "beside.txt").read_text().split())) == 2
    assert (tmp_path / "runs").is_dir()


def test_a_failed_cell_leaves_the_others_alone_and_is_not_tried_again(tmp_path, program):
    given, told = program({"dafa": ["fails"]}, "trades", "dafa", "trix", pack=2), Told()
    execute(given, told)
    assert told.ends == {"trades": ("done", ""), "dafa": ("failed", "no luck"), "trix": ("done", "")}
    assert len(attempts(tmp_path)) == 3


def test_a_cell_waits_for_its_start_alone(program):
    given, told = program({}, "frl", "trades", "pgd-at", pack=4), Told()
    ends = []
    told.ended = lambda cell, state, reason: ends.append(cell.id)
    execute(given, told)
    (frl,) = [item.cell for item in given.planned if item.cell.method == "frl"]
    assert ends.index(frl.start.id) < ends.index(frl.id)


@pytest.mark.parametrize("first", ["memory", "killed"])
def test_where_memory_runs_out_a_device_takes_fewer_and_the_cell_comes_again(tmp_path, program, first):
    given, told = program({"dafa": [first, "done"]}, "trades", "dafa", "trix", "pgd-at", pack=3), Told()
    execute(given, told)
    assert {state for state, _ in told.ends.values()} == {"done"}
    (note,) = [text for text in told.notes if "memory ran out" in text]
    assert "the CPU takes" in note
    assert len([line for line in attempts(tmp_path) if line[0] == "dafa"]) == 2


def test_memory_that_never_suffices_is_a_failure_of_that_cell(tmp_path, program):
    given, told = program({"dafa": ["memory"]}, "trades", "dafa", pack=2), Told()
    execute(given, told)
    assert told.ends == {"trades": ("done", ""), "dafa": ("failed", "out of memory")}
    assert 2 <= len([line for line in attempts(tmp_path) if line[0] == "dafa"]) <= 3


@pytest.mark.parametrize(("retries", "state", "tries"), [(1, "done", 2), (0, "failed", 1)])
@pytest.mark.parametrize("first", ["dies", "stopped"])
def test_a_process_that_dies_is_started_again(tmp_path, program, first, retries, state, tries):
    given, told = program({"dafa": [first, "done"]}, "dafa", pack=1, retries=retries), Told()
    execute(given, told)
    assert told.ends["dafa"][0] == state
    assert len([line for line in attempts(tmp_path) if line[0] == "dafa"]) == tries
    if first == "dies" and not retries:
        assert told.ends["dafa"][1] == "segmentation fault (exit code 139; see worker.log)"


def test_a_cell_of_somebody_else_is_left_to_them(program):
    given, told = program({"dafa": ["claimed"]}, "trades", "dafa", pack=2), Told()
    states = execute(given, told)
    assert sorted(states.values()) == ["done", "running"]


def test_a_cell_of_somebody_else_is_taken_when_they_are_gone_or_done(tmp_path, program):
    given, told = program({"dafa": ["claimed", "done"]}, "dafa", pack=1, wait=True), Told()
    states = execute(given, told)
    assert set(states.values()) == {"done"}
    assert "Waiting." in told.notes[0]


@pytest.mark.parametrize("obeys", [True, False])
def test_who_is_out_of_time_is_stopped(tmp_path, program, monkeypatch, obeys):
    monkeypatch.setattr(process, "PATIENCE", 0.2)
    what = "waits" if obeys else "hangs"
    given, told = program({"dafa": [what]}, "trades", "dafa", pack=2, time_limit=1.0), Told()
    execute(given, told)
    assert told.ends["trades"] == ("done", "")
    assert told.ends["dafa"][0] == "failed"
    assert "not done after 1 s, its time limit" in told.ends["dafa"][1]


def test_what_a_method_leaves_running_is_ended(tmp_path, program):
    execute(program({"dafa": ["forks"]}, "dafa", time_limit=60.0), Told())
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not processes.exists(child) or " Z " in Path(f"/proc/{child}/stat").read_text():
            return
        time.sleep(0.05)
    pytest.fail("the child lives")


def test_who_is_interrupted_stops_the_others(tmp_path, program):
    class Interrupts(Told):
        def ended(self, cell, state, reason):
            while not (tmp_path / "waiting").exists():
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(program({"dafa": ["waits"]}, "trades", "dafa", pack=2), Interrupts())
    pid = int((tmp_path / "waiting").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_devices_and_threads_are_shared_out(tmp_path, program, monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 16)
    monkeypatch.setattr(device, "visible_gpus", lambda: ("1", "3", "5"))
    given = program({}, "trades", "dafa", "trix", "pgd-at", device="cuda", gpus=("3", "5"), pack=2)
    places = places_of(given)
    assert [(place.name, place.device, place.capacity) for place in places] == [
        ("GPU 3", "cuda", 2),
        ("GPU 5", "cuda", 2),
    ]
    execute(given, Told())
    assert sorted(line[1:] for line in attempts(tmp_path)) == [["3", "4"], ["3", "4"], ["5", "4"], ["5", "4"]]


@pytest.mark.parametrize("visible", [(), ("0",), ("2", "7"), ("GPU-1a2b", "GPU-3c4d")])
@pytest.mark.parametrize(
    "asked", [{"device": "cuda"}, {"device": "cuda:1"}, {"gpus": ("7",)}, {"gpus": ("0", "1")}]
)
def test_gpus_are_used_if_they_are_there_and_refused_otherwise(program, monkeypatch, visible, asked):
    monkeypatch.setattr(device, "visible_gpus", lambda: visible)
    job = program({}, "trades", **{"device": "auto", **asked})
    if asked.get("device") == "cuda":
        expected = visible
    elif asked.get("device") == "cuda:1":
        expected = visible[1:2]
    else:
        expected = asked["gpus"] if set(asked["gpus"]) <= set(visible) else ()
    if not expected:
        with pytest.raises(EnvironmentFault, match=r"no GPU|no CUDA device"):
            places_of(job)
        return
    places = places_of(job)
    assert [place.env["CUDA_VISIBLE_DEVICES"] for place in places] == list(expected)
    assert {place.device for place in places} == {"cuda"}  # so that a worker cannot fall back on the CPU


def test_devices_that_contradict_each_other_or_are_not_there(program, monkeypatch):
    monkeypatch.setattr(device, "visible_gpus", lambda: ())
    for name in ("cpu", "cuda:0"):
        with pytest.raises(ConfigError, match=f"--gpus with --device {name}"):
            places_of(program({}, "trades", device=name, gpus=("0",)))
    (place,) = places_of(program({}, "trades", device="auto"))
    assert (place.name, place.device) == ("the CPU", "cpu")


def test_a_record_of_before_is_not_taken_for_a_new_one(tmp_path, program):
    given = program({"dafa": ["dies"]}, "dafa", retries=0)
    (item,) = [each for each in given.planned if each.cell.method == "dafa"]
    item.folder.mkdir(parents=True)
    write_sealed(item.folder / "record.json", {"state": "failed", "reason": "long ago"})
    told = Told()
    execute(given, told)
    assert told.ends["dafa"] == ("failed", "segmentation fault (exit code 139; see worker.log)")
