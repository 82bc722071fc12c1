"""Training that is asked to stop, or whose state is damaged, goes on to the very same weights."""

import signal

import pytest
import torch
import toys
from toy_training import COMPONENTS, Asks, Silent, listening, rows, trainer, weights

from fairbench.core import stopping
from fairbench.models.checkpoints import read_tensors
from fairbench.records.run_folder import RunFolder
from fairbench.training import trainer as module
from fairbench.training.checkpointing import Checkpoints
from fairbench.training.epoch import EpochProgress

CPU = torch.device("cpu")
STATE, BEFORE = "resume.safetensors", "resume.before.safetensors"


@pytest.fixture(autouse=True)
def signals():
    with listening():
        yield


def stopped(folder, *arguments, at, number=signal.SIGTERM, **options):
    with pytest.raises(stopping.Stopped) as caught:
        trainer(folder, *arguments, listener=Asks(*at, number), **options).run()
    assert not stopping.stop_requested()
    return caught.value


def finished(folder, *arguments, **options):
    found = trainer(folder, *arguments, **options)
    found.run()
    return found


def assert_same_run(one, other):
    for epoch in (3, 4):
        toys.assert_same(weights(one, epoch), weights(other, epoch))
    toys.assert_same(*(read_tensors(folder / "checkpoints" / STATE)[0] for folder in (one, other)))
    assert rows(one) == rows(other)


@pytest.mark.parametrize("name", toys.METHODS)
def test_every_method_goes_on_in_the_middle_of_an_epoch(tmp_path, name):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(whole, name)
    for epoch, step in ((1, 1), (2, 1), (4, 1)):
        stopped(cut, name, at=(epoch, step))
        about = read_tensors(cut / "checkpoints" / STATE)[1]
        assert (about["epoch"], about["underway"]["step"]) == (epoch - 1, step)
    finished(cut, name)
    assert_same_run(whole, cut)


@pytest.mark.parametrize("components", COMPONENTS.values(), ids=COMPONENTS)
def test_every_component_goes_on_in_the_middle_of_an_epoch(tmp_path, components):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(whole, components=components)
    for at in ((2, 1), (3, 2)):
        stopped(cut, components=components, at=at)
    finished(cut, components=components)
    assert_same_run(whole, cut)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)]
)
@pytest.mark.parametrize("at", [(2, 3), (2, None)])  # behind an epoch's last step, and behind its record
def test_behind_an_epoch_its_record_is_written_first(tmp_path, at, number, code):
    error = stopped(tmp_path, at=at, number=number)
    assert error.exit_code == code
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2]
    assert "underway" not in read_tensors(tmp_path / "checkpoints" / STATE)[1]


def test_a_second_signal_stops_at_once(tmp_path):
    class Twice(Asks):
        def step(self, *place):
            super().step(*place)
            super().step(*place)

    with pytest.raises(stopping.Stopped):
        trainer(tmp_path, listener=Twice(1, 2)).run()
    assert not (tmp_path / "checkpoints" / STATE).exists()


def test_a_long_epoch_is_saved_from_time_to_time(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    seen = []

    class Looks(Silent):
        def step(self, epoch, num_epochs, step, num_steps, loss):
            path = tmp_path / "one" / "checkpoints" / STATE
            about = read_tensors(path)[1] if path.exists() else {}
            seen.append(about.get("underway", {}).get("step", 0))

    finished(tmp_path / "one", listener=Looks())
    assert any(seen)
    monkeypatch.undo()
    finished(tmp_path / "other")
    assert_same_run(tmp_path / "one", tmp_path / "other")


def flip(path, where=-5):
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [flip, cut_off, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("damaged", [(STATE,), (BEFORE,), (STATE, BEFORE)])
def test_a_damaged_state_is_told_and_the_one_before_it_is_used(tmp_path, caplog, damage, damaged):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(whole, "dafa")
    stopped(cut, "dafa", at=(3, 2))
    for name in damaged:
        damage(cut / "checkpoints" / name)
    found = finished(cut, "dafa")
    read = damaged if damaged[0] == STATE else ()
    assert found.about().get("lost", []) == [f"{name} was damaged" for name in read]
    assert ("damaged" in caplog.text) == bool(read)
    assert_same_run(whole, cut)


def test_a_state_behind_weights_that_are_gone_is_not_used(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(whole)
    stopped(cut, at=(4, 2))
    (cut / "checkpoints" / "epoch-0003.safetensors").unlink()
    finished(cut)
    assert_same_run(whole, cut)


def test_whatever_is_written_is_read_and_the_one_before_it_stays(tmp_path):
    checkpoints = Checkpoints(RunFolder(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    assert checkpoints.read_state(CPU) is None
    one, two = ({"model.w": torch.full((2,), value)} for value in (1.0, 2.0))
    checkpoints.write_state(one, 1, None)
    progress = EpochProgress(2, step=5, logged={"a": [1]})
    checkpoints.write_state({**two, "sums.loss": torch.tensor(3.0)}, 1, progress)
    found = checkpoints.read_state(CPU)
    assert (found.epoch, found.progress.step, found.progress.logged) == (1, 5, {"a": [1]})
    assert found.progress.sums["loss"] == 3
    toys.assert_same({"model.w": found.tensors["model.w"]}, two)
    checkpoints.newest.unlink()
    toys.assert_same(checkpoints.read_state(CPU).tensors, one)
    checkpoints.clear_states()
    assert list((tmp_path / "checkpoints").iterdir()) == []
