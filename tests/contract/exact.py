"""A method trained in one go, stopped and resumed, and with captured steps: the same, bit for bit."""

import pytest
import toys
from toy_training import Asks, Repeats, listening, rows, trainer, weights

from fairbench.api import AdversarialObjective, DataInfo, LossTerms, attacks, losses
from fairbench.core import stopping
from fairbench.models.checkpoints import read_tensors
from fairbench.registry.components import Augment, WeightPerturbation
from fairbench.testing.law import Subject, Trial
from fairbench.testing.laws import LAWS
from fairbench.training import cuda_graphs
from fairbench.training.cuda_graphs import GraphedSteps
from fairbench.training.step import training_step

EPOCHS = 4
COMPONENTS = {
    "plain": {},
    "awp": {"awp": WeightPerturbation(gamma=0.5, start_epoch=2)},
    "mixup": {"augment": Augment(kind="mixup")},
}
EVERY_COMPONENT = pytest.mark.parametrize("components", COMPONENTS.values(), ids=COMPONENTS)


def trained(folder, cls, *, graphs=None, **given):
    """A finished training of a method; with `graphs`, its steps are captured."""
    images = toys.images(64)  # seven steps, of which the last is smaller; four with half of them held out
    info = DataInfo(4, tuple(images.labels.bincount().tolist()), images.image_shape)
    found = trainer(folder, method=cls(cls.Config(), info, toys.CPU), images=images, **given)
    if graphs is not None:
        found.steps.graphed = GraphedSteps(graphs, found.protocol.batch_size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_graphs, "WORTH_CAPTURING", 1)
        found.run()
    return found


def left(folder):
    """All that a training leaves behind: weights, the full state and the records of its epochs."""
    state = read_tensors(folder / "checkpoints" / "resume.safetensors")[0]
    return {**state, **{f"epoch 3 {name}": value for name, value in weights(folder, 3).items()}}, rows(folder)


def assert_exact(tmp_path, cls, components, *, captured=True):
    """Stopped in the middle of epochs, or captured, a method trains as in one go; the objective."""
    whole = trained(tmp_path / "whole", cls, components=components)
    graphs = Repeats()
    found = trained(tmp_path / "graphs", cls, components=components, graphs=graphs)
    assert (found.steps.fallback_reasons == []) is captured
    assert bool(graphs.replayed) is captured
    with listening():
        for place in ((1, 2), (2, 4)):
            with pytest.raises(stopping.Stopped):
                trained(tmp_path / "cut", cls, components=components, listener=Asks(*place), graphs=Repeats())
    trained(tmp_path / "cut", cls, components=components, graphs=Repeats())
    (tensors, records), *others = (left(tmp_path / name) for name in ("whole", "graphs", "cut"))
    for other, other_records in others:
        toys.assert_same(tensors, other)
        assert records == other_records
    return whole


def broken_laws(cls):
    """What `fairbench check` finds wrong with a method, by law."""
    trial = Trial(Subject(cls.name, cls), LAWS)
    outcomes = {name: trial.outcome(name) for name in LAWS}
    return {name: outcome.remark for name, outcome in outcomes.items() if outcome.state == "FAILED"}


class Base(AdversarialObjective):
    """PGD-AT."""

    def perturb(self, model, batch, ctx):
        return attacks.pgd(
            model,
            batch.x,
            lambda logits: losses.cross_entropy(logits, batch.y),
            budget=ctx.budget,
            start="uniform",
            rng=ctx.rng("attack"),
        )

    def loss(self, model, batch, x_adv, ctx):
        logits_adv = model(x_adv)
        return LossTerms(robust=losses.cross_entropy(logits_adv, batch.y), logits_adv=logits_adv)


def step(cls, given=None, *, awp=None, check=True):
    """The objective, its totals and the network after one step."""
    objective, model = toys.configured(cls), toys.network()
    totals = toys.totals(objective)
    given = toys.batch() if given is None else given
    training_step(model, objective, toys.sgd(model), given, toys.context(), totals, check=check, awp=awp)
    return objective, totals, model
