"""Watched values: class means of an epoch, exact in every way of training."""

from dataclasses import dataclass

import pytest
import torch
import toys
from exact import EVERY_COMPONENT, Base, assert_exact, broken_laws, step
from toy_training import rows

from fairbench.api import LossTerms, Needs, method, per_class
from fairbench.core.errors import ContractError


@method("watches")
class Watches(Base):
    """Watches whether an image was still classified correctly, and weighs classes by it."""

    needs = Needs(watched={"correct"})

    @dataclass
    class State:
        share: torch.Tensor = per_class(0.5)

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        correct = terms.logits_adv.argmax(1) == batch.y
        weight = {"robust": 1.5 - self.state.share[batch.y]}
        return LossTerms(
            **terms.terms, weight=weight, logits_adv=terms.logits_adv, watch={"correct": correct}
        )

    def on_epoch_end(self, stats, ctx):
        ctx.log("correct", stats.watched["correct"])
        self.state.share = stats.of_every_class("correct")


@EVERY_COMPONENT
def test_watched_values_survive_resumes_and_captured_steps(tmp_path, components):
    found = assert_exact(tmp_path, Watches, components)
    for row in rows(tmp_path / "whole"):
        assert row["logged"]["correct"] == row["train_robust_accuracy"]
    assert not torch.equal(found.objective.state.share, torch.full((4,), 0.5, dtype=torch.float64))


def test_watched_values_are_class_means_and_no_part_of_the_loss():
    @method("indexed")
    class Indexed(Base):
        needs = Needs(watched={"position"})

        def loss(self, model, batch, x_adv, ctx):
            terms = super().loss(model, batch, x_adv, ctx)
            return LossTerms(**terms.terms, watch={"position": batch.index})

    _, totals, model = step(Indexed)
    assert totals.stats().watched["position"].tolist() == [4, 5, 6, 7]  # of 0, 4, 8; 1, 5, 9; ...
    toys.assert_same(model.state_dict(), step(method("base")(Base))[2].state_dict())
    given = toys.batch(labels=torch.tensor([0, 0, 1, 3]))
    watched = step(Indexed, given)[1].stats().watched["position"]
    assert watched[2].isnan()
    assert watched[[0, 1, 3]].tolist() == [0.5, 2, 3]


def test_mixed_images_count_for_the_dominant_label_by_its_share():
    lam = torch.linspace(0.5, 1, 12)
    given = toys.mixed(lam)

    @method("labels")
    class ByLabel(Base):
        needs = Needs(watched={"label"})

        def loss(self, model, batch, x_adv, ctx):
            terms = super().loss(model, batch, x_adv, ctx)
            return LossTerms(**terms.terms, watch={"label": batch.index + 100 * batch.y})

    stats = step(ByLabel, given)[1].stats()
    for c in range(4):
        mine = given.y == c
        mean = (lam * given.index)[mine].sum() / lam[mine].sum()
        assert float(stats.watched["label"][c]) == pytest.approx(100 * c + float(mean), rel=1e-6)


@pytest.mark.parametrize(
    ("declared", "watch", "says"),
    [
        (set(), {"kappa": torch.ones(12)}, "watches 'kappa', which needs does not declare"),
        ({"kappa"}, {}, "needs the watched value 'kappa', but loss\\(\\) did not return it"),
        ({"kappa"}, {"kappa": torch.ones(12, 1)}, "watched value 'kappa' has shape \\(12, 1\\)"),
    ],
)
def test_watched_values_are_declared_and_one_per_image(declared, watch, says):
    @method("wrong")
    class Wrong(Base):
        needs = Needs(watched=declared)

        def loss(self, model, batch, x_adv, ctx):
            return LossTerms(**super().loss(model, batch, x_adv, ctx).terms, watch=watch)

    with pytest.raises(ContractError, match=says):
        step(Wrong)


def test_reading_an_undeclared_value_says_what_to_declare():
    stats = step(Watches)[1].stats().only({"robust_accuracy"})
    assert list(stats.watched) == ["correct"]
    with pytest.raises(ContractError, match="watched\\['kappa'\\] is read, but") as error:
        stats.watched["kappa"]
    assert 'Needs(watched={"kappa"})' in error.value.hint


def test_a_watched_value_is_not_called_like_a_statistic():
    with pytest.raises(ContractError, match="is the name of a class statistic"):
        Needs(watched={"robust_accuracy"})


def test_the_method_keeps_every_law():
    assert broken_laws(Watches) == {}
