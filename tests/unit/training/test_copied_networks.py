"""A deep copy of the network that a method makes runs the weights of the copy, not those of the network."""

import copy

import pytest
import torch
import toys
from exact import Base

from fairbench.api import LossTerms, losses, method
from fairbench.training.networks import Networks, Speedups
from fairbench.training.statistics import EpochTotals
from fairbench.training.step import StepRunner


def emptied(model):
    """A copy of the network that gives every class the same logit."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.fc.weight.zero_()
        other.fc.bias.zero_()
    return other


@method("copies")
class Copies(Base):
    """Asks a copy with other weights in both calls, as methods with a weight average of their own do."""

    def perturb(self, model, batch, ctx):
        self.check(model, batch)
        return super().perturb(model, batch, ctx)

    def loss(self, model, batch, x_adv, ctx):
        logits = model(x_adv)
        self.check(model, batch)
        return LossTerms(robust=losses.cross_entropy(logits, batch.y), logits_adv=logits)

    def check(self, model, batch):
        with torch.no_grad():
            logits = emptied(model)(batch.x)
            assert logits.dtype == torch.float32
            assert not logits.any()
            assert not copy.deepcopy(emptied(model))(batch.x).any()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("folded", [False, True])
def test_a_copy_runs_its_own_weights(folded, precision, mixed):
    objective, model = toys.configured(Copies), toys.network()
    given = toys.mixed(0.7) if mixed else toys.batch()
    speedups = Speedups() if folded else Speedups.none()
    networks = Networks(model, given.x, precision, speedups)
    steps = StepRunner(networks, objective, toys.sgd(model))
    totals: EpochTotals = toys.totals(objective)
    steps.begin(1, totals, 1)
    with steps.computing():
        steps(given, toys.context(), True)
    assert float(totals.sums["count"].sum()) > 0


def test_a_copy_of_the_outputs_in_use_computes_by_itself():
    model, given = toys.network().eval(), toys.batch()
    networks = Networks(model, given.x, "fp32", Speedups.none())
    with networks.trained():
        inside = copy.deepcopy(model)
        assert torch.equal(inside(given.x), model(given.x))
    with torch.no_grad():
        model.fc.weight.zero_()
    assert not torch.equal(inside(given.x), model(given.x))
