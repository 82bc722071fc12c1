"""The statistics of BatchNorm during the attack."""

import pytest
import torch
import toys
from exact import EVERY_COMPONENT, Base, assert_exact, broken_laws

from fairbench.api import Needs, method
from fairbench.attacks.frozen import frozen


@method("by-batch")
class ByBatch(Base):
    needs = Needs(attack_bn="batch")


@EVERY_COMPONENT
def test_batch_statistics_in_the_attack_survive_resumes_and_captured_steps(tmp_path, components):
    assert_exact(tmp_path, ByBatch, components)


@pytest.mark.parametrize("mode", ["eval", "train", "batch"])
def test_the_attack_sees_the_statistics_that_it_declares(mode):
    @method("modes")
    class Modes(Base):
        needs = Needs(attack_bn=mode)

        def perturb(self, model, batch, ctx):
            x_adv = super().perturb(model, batch, ctx)
            given.append((x_adv, toys.copied(dict(model.named_buffers()))))
            return x_adv

    given = []
    for shift in (0.0, 0.3):
        model = toys.network()
        model.bn1.running_mean += shift
        toys.one_step(toys.configured(Modes), model)
    (one, before), (other, _) = given
    assert torch.equal(one, other) is (mode != "eval")
    fresh = toys.copied(dict(toys.network().named_buffers()))
    assert (toys.differences(before, fresh) == []) is (mode != "train")
    assert all(module.track_running_stats for module in (model.bn1, model.bn2))
    assert model.training


def test_only_batch_norm_is_in_train_mode_for_batch_statistics():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Dropout()).eval()
    x = toys.batch().x
    with frozen(model, "batch"):
        assert model(x).mean().abs() < 1e-6  # normalised by the batch, nothing dropped
        assert torch.equal(model(x), model(x))
    assert not any(module.training for module in model.modules())
    assert model[0].num_batches_tracked == 0


def test_the_method_keeps_every_law():
    assert broken_laws(ByBatch) == {}
