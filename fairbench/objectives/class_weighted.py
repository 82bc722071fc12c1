"""Base class of DAFA and its variants: one weight per class, set once after a warm-up."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fairbench.attacks.budget import Budget
from fairbench.data.batch import Batch
from fairbench.objectives import classes
from fairbench.objectives.contract import AdversarialObjective, Context, EpochStats
from fairbench.objectives.loss_terms import LossTerms
from fairbench.objectives.needs import Needs
from fairbench.objectives.state import per_class
from fairbench.objectives.trades import trades_terms


class ClassWeighted(AdversarialObjective):
    """TRADES, or the `loss` of a subclass, with class weights w that scale radius, step size and loss terms.

    w is 1 until the end of epoch `warmup_epochs`. Then it is computed once, from the adversarial predictions
    of that epoch (`distance_aware_weights`). A subclass defines `perturb` and a `Config` with: strength,
    warmup_epochs, scale_margin, scale_step, scale_loss, scale_kl, weight_rule, ties, min_weight, max_weight,
    and for the loss of TRADES beta, bn_order.
    """

    @dataclass
    class State:
        weight: Tensor = per_class(1.0)  # (C,)

    needs = Needs(epoch_stats=frozenset({"robust_probability"}))

    def budget(self, y: Tensor, ctx: Context) -> Budget:
        """The budget with radius and step size times w, according to `scale_margin` and `scale_step`."""
        if not self.config.scale_margin:
            return ctx.budget
        return ctx.budget.scale(classes.of_class(self.state.weight, y), step=self.config.scale_step)

    def loss(self, model: nn.Module, batch: Batch, adversary: Any, ctx: Context) -> LossTerms:
        return trades_terms(
            model,
            batch,
            adversary,
            beta=self.config.beta,
            bn_order=self.config.bn_order,
            weight=self.sample_weights(batch, clean=self.config.scale_loss, robust=self.config.scale_kl),
        )

    def sample_weights(self, batch: Batch, **scaled: bool) -> dict[str, Tensor]:
        """By loss term, the class weight of each sample (B,), for the terms whose `scaled` flag is true."""
        return {term: self.state.weight[batch.y] for term, on in scaled.items() if on}

    def on_epoch_end(self, stats: EpochStats, ctx: Context) -> None:
        config = self.config
        if ctx.epoch == config.warmup_epochs:
            similarity = stats.of_every_class("robust_probability")
            weight = classes.distance_aware_weights(
                similarity, config.strength, rule=config.weight_rule, ties=config.ties
            )
            if config.min_weight is not None or config.max_weight is not None:
                clamped = weight.clamp(config.min_weight, config.max_weight)
                if not clamped.equal(weight):
                    ctx.warn("class weights outside min_weight..max_weight were clamped")
                weight = clamped
            self.state.weight = weight
        ctx.log("weight", self.state.weight)
