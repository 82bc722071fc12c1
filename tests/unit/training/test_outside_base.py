"""A term per sample that weight perturbation leaves out, as in CSR; exact in every way of training."""

from dataclasses import dataclass, replace

import pytest
import torch
import toys
from exact import EVERY_COMPONENT, Base, assert_exact, broken_laws

from fairbench.api import LossTerms, Needs, attacks, losses, method, per_class_pair
from fairbench.core.errors import ContractError
from fairbench.training.mixed_labels import loss_terms
from fairbench.training.step import training_step
from fairbench.training.weight_perturbation import ascent_direction


@method("spectral")
class Spectral(Base):
    """CSR (arXiv 2501.13273): weighs the loss under attack by the main singular vectors of the confusion."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0
        share: float = 0.3

    @dataclass
    class State:
        gradient: torch.Tensor = per_class_pair(1.0)  # row: predicted, column: true class

    needs = Needs(validation="start", validation_on="training", validation_stats={"robust_confusion"})

    def perturb(self, model, batch, ctx):
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        logits, logits_adv = model(batch.x), model(x_adv)
        robust = losses.cross_entropy(logits_adv, batch.y)
        scale = self.state.gradient[logits_adv.argmax(1), batch.y].to(robust.dtype)
        return LossTerms(
            clean=losses.cross_entropy(logits, batch.y),
            robust=self.config.beta * losses.kl(logits, logits_adv),
            spectral=self.config.share * scale * robust,
            weight={"clean": torch.full_like(robust, 1 - self.config.share)},
            outside_base=("spectral",),
            logits=logits,
            logits_adv=logits_adv,
        )

    def on_validation(self, stats, ctx):
        errors = stats.robust_confusion.T.clone()
        errors.diagonal().zero_()
        left, _, right = torch.linalg.svd(errors)
        product = (left[:, :1] @ right[:1]).abs()
        low, high = product.amin(), product.amax()
        scaled = 2 * (product - low) / (high - low).clamp(min=1e-12) + 0.01
        self.state.gradient = torch.where(errors.sum() > 0, scaled, torch.ones_like(scaled))


@EVERY_COMPONENT
def test_a_term_outside_of_the_base_survives_resumes_and_captured_steps(tmp_path, components):
    objective = assert_exact(tmp_path, Spectral, components).objective
    assert float(objective.state.gradient.amin()) == pytest.approx(0.01)
    assert float(objective.state.gradient.amax()) == pytest.approx(2.01)


def test_the_method_keeps_the_laws():
    assert broken_laws(Spectral) == {}


def prepared(given, **options):
    objective, model = toys.configured(Spectral, **options), toys.network().double()
    objective.state.gradient = torch.arange(16.0).double().reshape(4, 4)
    x_adv = (given.x + 0.05).clamp(0, 1)
    return model, objective, given, x_adv, toys.context()


@pytest.mark.parametrize("share", [None, 0.7])
def test_weight_perturbation_raises_the_other_terms_only(share):
    given = toys.batch() if share is None else toys.mixed(share)
    given = replace(given, x=given.x.double())
    with_term, without = (ascent_direction(*prepared(given, share=part), "base")[0] for part in (0.3, 0.0))
    toys.assert_same(with_term, without)
    full = ascent_direction(*prepared(given, share=0.3), "full")[0]
    assert not torch.equal(full["fc.weight"], with_term["fc.weight"])


def test_the_term_of_mixed_images_has_the_weight_of_each_label():
    given = toys.mixed(torch.linspace(0.5, 1, 12))
    given = replace(given, x=given.x.double())
    model, objective, given, x_adv, ctx = prepared(given)
    terms = loss_terms(objective, model, given, x_adv, ctx)
    logits = model(x_adv)
    scale = objective.state.gradient[logits.argmax(1)]
    each = [scale.gather(1, y[:, None])[:, 0] * losses.cross_entropy(logits, y) for y in (given.y, given.y2)]
    torch.testing.assert_close(
        terms.terms["spectral"], 0.3 * (given.lam * each[0] + (1 - given.lam) * each[1])
    )
    assert terms.outside_base == ("spectral",)


def test_a_name_that_is_no_term_is_an_error():
    class Misspelt(Spectral):
        def loss(self, model, batch, x_adv, ctx):
            terms = super().loss(model, batch, x_adv, ctx)
            terms.outside_base = ("spectrum",)
            return terms

    objective = toys.configured(Misspelt)
    model, given = toys.network(), toys.batch()
    with pytest.raises(ContractError, match="names 'spectrum', which is no term") as error:
        training_step(
            model, objective, toys.sgd(model), given, toys.context(), toys.totals(objective), check=True
        )
    assert error.value.hint == "terms: clean, robust, spectral"


def test_a_loss_of_which_nothing_is_left_has_no_base():
    terms = LossTerms(only=torch.ones(3), outside_base=("only",))
    assert float(terms.total()) == 1
    with pytest.raises(ContractError, match="no per-sample term"):
        terms.base()
