"""Training with a teacher: asked once a step, with every component, and never changed."""

from dataclasses import replace

import pytest
import torch
import toys
from toy_training import COMPONENTS, Asks, Repeats, listening, rows, toy_teachers, trainer, weights

from fairbench.api import LossTerms, Needs
from fairbench.core import stopping
from fairbench.training import cuda_graphs
from fairbench.training.cuda_graphs import GraphedSteps
from fairbench.training.networks import Speedups
from fairbench.training.step import training_step

Rslad = toys.plugin("rslad")


class Validating(Rslad):
    """Asks two teachers, also about adversarial images, and measures held-out images."""

    needs = Needs(teachers={"teacher", "natural_teacher"}, validation="end")

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        natural = ctx.teacher("natural_teacher")(x_adv).softmax(1)
        log_p = terms.logits_adv.log_softmax(1)
        terms.terms["natural"] = -(natural * model(batch.x).log_softmax(1)).sum(1) - 0 * log_p.sum(1)
        return terms


@pytest.mark.parametrize("chosen", [None, *COMPONENTS])
def test_the_teacher_is_asked_once_a_step_about_the_clean_images(tmp_path, chosen):
    found, asked = trainer(tmp_path, "rslad", components=COMPONENTS.get(chosen)), []
    networks = found.teachers()
    networks["teacher"].register_forward_hook(lambda *_: asked.append(1))
    found.teachers, found.speedups = lambda: networks, Speedups.none()  # a folded copy has no hook
    found.run()
    assert len(asked) == 4 * len(found.data.epoch(1))


@pytest.mark.parametrize("method", [Rslad, Validating])
@pytest.mark.parametrize("chosen", [None, "mixup, awp, ema"])
def test_a_run_stopped_inside_an_epoch_continues_with_the_same_result(tmp_path, method, chosen):
    def run(folder, listener=None):
        objective = toys.configured(method)
        return trainer(
            folder, listener=listener, method=objective, components=COMPONENTS.get(chosen), images=None
        )

    run(tmp_path / "whole").run()
    with listening(), pytest.raises(stopping.Stopped):
        run(tmp_path / "cut", Asks(2, 1)).run()
    run(tmp_path / "cut").run()
    toys.assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")


@pytest.mark.parametrize("method", [Rslad, Validating])
def test_captured_steps_ask_the_teacher_too(tmp_path, method, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "WORTH_CAPTURING", 3)
    for folder, graphs in (("plain", None), ("graphs", Repeats())):
        found = trainer(tmp_path / folder, method=toys.configured(method), images=toys.images(60))
        if graphs is not None:
            found.steps.graphed = GraphedSteps(graphs, found.protocol.batch_size)
        found.run()
    assert found.steps.graphed.graphs.replayed
    assert rows(tmp_path / "plain") == rows(tmp_path / "graphs")
    toys.assert_same(weights(tmp_path / "plain"), weights(tmp_path / "graphs"))


def test_training_leaves_the_teacher_as_it_was(tmp_path):
    found = trainer(tmp_path, "rslad")
    networks = found.teachers()
    found.teachers = lambda: networks
    before = toys.copied(networks["teacher"].state_dict())
    found.run()
    assert toys.differences(before, networks["teacher"].state_dict()) == []


def test_the_folded_copy_of_a_teacher_says_what_the_teacher_says(tmp_path):
    found = trainer(tmp_path, "rslad")
    found.load_teachers()
    x = toys.batch().x
    (network,) = toy_teachers(found.objective)().values()
    torch.testing.assert_close(found.contexts.teacher("teacher")(x), network.eval()(x))


def test_a_teacher_computes_in_the_precision_of_the_protocol(tmp_path):
    answers = {}
    for precision in ("fp32", "bf16"):
        found = trainer(tmp_path / precision, "rslad", precision=precision)
        found.load_teachers()
        answers[precision] = found.contexts.teacher("teacher")(toys.batch().x)
    assert answers["bf16"].dtype == torch.float32
    assert not torch.equal(*answers.values())
    torch.testing.assert_close(*answers.values(), rtol=0.1, atol=0.1)


def test_with_two_labels_the_answer_is_that_about_the_mixed_image():
    """Neither term of RSLAD has a label: a mixture weight changes nothing but the image."""
    found = []
    for labels in (toys.batch(), toys.mixed(0.7)):
        given = replace(toys.mixed(0.7), y2=labels.y2, lam=labels.lam)
        objective, model = toys.configured(Rslad), toys.network()
        loss = training_step(
            model, objective, toys.sgd(model), given, toys.context(), toys.totals(objective), check=True
        )
        found.append({"loss": loss, **toys.copied(model.state_dict())})
    assert torch.equal(found[0]["loss"], found[1]["loss"])
    torch.testing.assert_close(*found)


def test_a_term_without_the_student_is_refused_as_always():
    class Silent(Rslad):
        def loss(self, model, batch, x_adv, ctx):
            return LossTerms(robust=ctx.teacher("teacher")(x_adv).sum(1))

    with pytest.raises(Exception, match="no loss term carries a gradient"):
        toys.one_step(toys.configured(Silent), toys.network())
