"""Outcomes on disk are used again when they are the model's own, and made anew when they are not."""

import pytest
import torch
import toys
from interrupted import stop_after

from fairbench.records.outcomes import read_outcomes
from fairbench.records.run_folder import OutcomeFiles
from fairbench.registry.attacks import AutoAttack
from fairbench.runner.evaluating import evaluate_into

ATTACK = AutoAttack(name="toy", kind="autoattack", eps=0.004, attacks=("apgd-ce",), num_steps=3)


class Scaled(torch.nn.Module):
    """Its factor is code, not weights."""

    factor = 1.0

    def __init__(self):
        super().__init__()
        self.inner = toys.settled()

    def forward(self, x):
        return self.factor * self.inner(x)


def made(path, model, attack=ATTACK):
    """Whether the outcomes at `path` are written anew."""
    before = path.stat().st_mtime_ns if path.exists() else None
    evaluate_into(OutcomeFiles(path), model, toys.images(40), attack, progress=lambda progress: None)
    assert len(read_outcomes(path)) == 40
    assert not path.with_suffix(".partial").exists()
    return path.stat().st_mtime_ns != before


@pytest.mark.parametrize("attack", [None, ATTACK], ids=["clean", "ensemble"])
def test_outcomes_are_made_once_and_again_when_code_or_file_changed(tmp_path, attack):
    path, model = tmp_path / "o.npy", Scaled()
    assert made(path, model, attack)
    assert not made(path, model, attack)
    model.factor = -1.0
    assert made(path, model, attack)
    path.write_bytes(path.read_bytes()[:-1])
    assert made(path, model, attack)


def test_outcomes_from_before_anything_lay_beside_them_are_kept(tmp_path):
    path, model = tmp_path / "o.npy", Scaled()
    made(path, model)
    path.with_suffix(".json").unlink()
    assert not made(path, model)


def test_blocks_of_other_weights_are_not_believed(tmp_path, monkeypatch):
    written = stop_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "o.npy", Scaled())
    other = Scaled()
    with torch.no_grad():
        other.inner.fc.bias.add_(0.5)
    made(tmp_path / "o.npy", other)
    assert written[0] in written[1:]


def test_a_worker_that_lost_its_claim_writes_nothing_more(tmp_path):
    def lost():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate_into(
            OutcomeFiles(tmp_path / "o.npy"),
            Scaled(),
            toys.images(8),
            ATTACK,
            progress=lambda progress: None,
            check=lost,
        )
    assert list(tmp_path.iterdir()) == []
