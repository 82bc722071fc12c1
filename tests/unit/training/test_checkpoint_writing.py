"""Checkpoints beside training: in order, never lost, and with the values of their own epoch."""

import threading

import pytest
import torch
import toys
from toy_training import Silent, rows, trainer, weights

from fairbench.core.errors import DivergedError
from fairbench.training import checkpointing
from fairbench.training.checkpointing import Writer, snapshot


class Disk:
    """A piece of writing that waits until it may go on."""

    def __init__(self):
        self.began, self.may_end, self.done = threading.Event(), threading.Event(), False

    def __call__(self):
        self.began.set()
        assert self.may_end.wait(20)
        self.done = True


def test_training_goes_on_while_the_disk_is_slow():
    disk = Disk()
    with Writer() as writer:
        writer.write(disk)
        assert disk.began.wait(20)
        assert not disk.done  # and we are here
        disk.may_end.set()
    assert disk.done


def test_at_most_one_waits():
    first, second = Disk(), Disk()
    with Writer() as writer:
        writer.write(first)
        threading.Timer(0.2, first.may_end.set).start()
        writer.write(second)  # not before the first is done
        assert first.done
        second.may_end.set()


def fails():
    raise OSError("No space left on device")


def test_an_error_is_raised_by_the_next_write():
    with Writer() as writer:
        writer.write(fails)
        with pytest.raises(OSError, match="No space left"):
            writer.write(lambda: None)


def test_or_at_the_end():
    with pytest.raises(OSError, match="No space left"), Writer() as writer:
        writer.write(fails)


def interrupted(work, error):
    with Writer() as writer:
        writer.write(work)
        raise error


def test_an_error_of_training_comes_first_and_the_other_is_told(caplog):
    with pytest.raises(DivergedError):
        interrupted(fails, DivergedError(3))
    assert "No space left" in caplog.text


def test_what_was_handed_over_is_written_when_training_stops():
    done = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(lambda: done.append(1), KeyboardInterrupt())
    assert done == [1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoints")]


def test_a_snapshot_keeps_its_values():
    value = torch.zeros(3)
    kept = snapshot({"a": value})
    value.add_(1)
    assert kept()["a"].tolist() == [0, 0, 0]


@pytest.mark.gpu
def test_a_snapshot_keeps_its_values_on_cuda():
    with torch.cuda.stream(torch.cuda.Stream()):
        value = torch.zeros(1 << 24, device="cuda")
        for _ in range(50):
            value.add_(1)
        kept = snapshot({"a": value})
        for _ in range(50):
            value.add_(1)
        found = []
        thread = threading.Thread(target=lambda: found.append(kept()["a"]))
        thread.start()
        thread.join()
    assert found[0].device.type == "cpu"
    assert torch.equal(found[0], torch.full((1 << 24,), 50.0))


def test_each_epoch_is_saved_as_it_was_though_the_next_has_begun(tmp_path, monkeypatch):
    """The writer is held back until training is an epoch ahead."""
    told = threading.Semaphore(0)

    class Ahead(Silent):
        def step(self, epoch, num_epochs, step, num_steps, loss):
            if epoch > 1 and step == num_steps:
                told.release()  # the epoch before may be written

        def epoch(self, row):
            if row["epoch"] == 4:
                told.release()

    write = checkpointing.write_tensors
    held = []

    def slow(path, tensors, about):
        if about["epoch"] not in held:
            held.append(about["epoch"])
            assert told.acquire(timeout=20)
        write(path, tensors, about)

    trainer(tmp_path / "quick", selection={"last": 4}).run()
    monkeypatch.setattr(checkpointing, "write_tensors", slow)
    trainer(tmp_path / "slow", selection={"last": 4}, listener=Ahead()).run()
    for epoch in range(1, 5):
        toys.assert_same(weights(tmp_path / "quick", epoch), weights(tmp_path / "slow", epoch))
    assert rows(tmp_path / "quick") == rows(tmp_path / "slow")
