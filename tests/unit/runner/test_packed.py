"""Several cells at a time: starts before who needs them, failures alone, and an end with the parent."""

import sys

import pytest

from fairbench.core.errors import ResultsError
from fairbench.plan.resolve import resolve
from fairbench.plan.selection import Selection
from fairbench.plan.status import statuses
from fairbench.registry import load_registry
from fairbench.runner import packed
from fairbench.runner.packed import execute_packed

REGISTRY = load_registry()


class Process:
    """Ends when it is looked at for the third time."""

    def __init__(self, lasting=3):
        self.left, self.returncode, self.stopped = lasting, None, False

    def poll(self):
        self.left -= 1
        if self.left <= 0:
            self.returncode = 0
        return self.returncode

    def terminate(self):
        self.stopped = True

    def wait(self, patience=None):
        assert self.stopped or self.returncode is not None
        return 0


class Fake(packed.Worker):
    """A worker without a process; notes who works beside whom."""

    running: list
    seen: list
    ends: dict
    stopped: list

    def __init__(self, cell, folder, device, num_threads):
        self.cell, self.folder, self.process = cell, folder, Process(3 + len(self.seen))
        self.running.append(cell)
        self.seen.append([each.method for each in self.running])

    def stop(self):
        self.stopped.append(self.cell.method)
        super().stop()

    def outcome(self):
        self.running.remove(self.cell)
        return self.ends.get(self.cell.method, ("done", ""))


@pytest.fixture
def fake(monkeypatch):
    Fake.running, Fake.seen, Fake.ends, Fake.stopped = [], [], {}, []
    monkeypatch.setattr(packed, "Worker", Fake)
    monkeypatch.setattr(packed, "PAUSE", 0.0)
    return Fake


def planned(tmp_path, *methods, seeds=(0,)):
    selection = Selection(suite="quickstart", methods=methods, seeds=seeds)
    cells, _ = resolve(selection, REGISTRY, tmp_path)
    return statuses(cells, tmp_path)


def run(planned, results, pack=2, ended=lambda *told: None):
    return execute_packed(planned, results, pack, device="cpu", started=lambda cell: None, ended=ended)


def test_as_many_as_asked_for_and_all_of_them(tmp_path, fake):
    items = planned(tmp_path, "trades", "dafa", "trix", seeds=(0, 1))
    states = run(items, tmp_path)
    assert states == {item.cell.id: "done" for item in items}
    assert max(map(len, fake.seen)) == 2
    assert len(fake.seen) == 6


def test_a_cell_waits_for_its_start_alone(tmp_path, fake):
    items = planned(tmp_path, "trades", "frl", "pgd-at")  # frl starts from weights of trades
    (frl,) = [item.cell for item in items if item.cell.method == "frl"]
    assert frl.start is not None
    order = [item for item in items if item.cell.method == "frl"] + [
        i for i in items if i.cell.method != "frl"
    ]
    finished = []
    states = run(order, tmp_path, 4, lambda cell, state, reason: finished.append(cell.id))
    assert set(states) == {item.cell.id for item in items}
    assert finished.index(frl.start.id) < finished.index(frl.id)
    assert not any("frl" in beside and len(beside) > 1 and beside[-1] != "frl" for beside in fake.seen)


def test_a_failed_cell_leaves_the_others_alone(tmp_path, fake):
    fake.ends["dafa"] = ("failed", "out of memory")
    items = planned(tmp_path, "trades", "dafa", "trix")
    told = {}
    states = run(
        items, tmp_path, 2, lambda cell, state, reason: told.setdefault(cell.method, (state, reason))
    )
    assert sorted(states.values()) == ["done", "done", "failed"]
    assert told["dafa"] == ("failed", "out of memory")


def test_a_folder_that_cannot_be_made_fails_its_cell(tmp_path, fake, monkeypatch):
    def broken(cell, results):
        if cell.method == "dafa":
            raise ResultsError("read-only file system.")
        return results

    monkeypatch.setattr(packed, "prepare_folder", broken)
    states = run(planned(tmp_path, "trades", "dafa"), tmp_path)
    assert sorted(states.values()) == ["done", "failed"]


def test_who_is_interrupted_stops_the_others(tmp_path, fake):
    def interrupt(cell, state, reason):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(planned(tmp_path, "trades", "dafa", "trix", seeds=(0, 1)), tmp_path, 3, interrupt)
    assert fake.stopped  # those that had not ended yet


def test_threads_are_shared(monkeypatch):
    monkeypatch.setattr(packed, "cores", lambda: 16)
    assert [packed.threads(count) for count in (1, 3, 16, 40)] == [16, 5, 1, 1]


@pytest.mark.parametrize(
    ("says", "state"),
    [("no memory for you", "failed"), ("ClaimedError: process 7 works on it", "running")],
)
def test_a_process_that_ends_without_a_record_leaves_its_last_words(tmp_path, monkeypatch, says, state):
    (item,) = [i for i in planned(tmp_path, "trades") if i.cell.method == "trades"]
    monkeypatch.setattr(packed.sys, "executable", str(broken_python(tmp_path, says)))
    told = []
    states = run([item], tmp_path, 2, lambda cell, state, reason: told.append(reason))
    assert states == {item.cell.id: state}
    assert told == [f"{says} (exit code 7; see worker.log)"]


def broken_python(tmp_path, says):
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nprint({says!r})\nraise SystemExit(7)\n")
    script.chmod(0o755)
    return script
