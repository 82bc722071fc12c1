"""TRIX: a targeted attack for strong classes, the stronger untargeted attack for weak classes.

Idea       In every batch, weights from clean predictions determine which classes are strong. Their images
           are attacked towards a random wrong class, the others as in TRADES. After a warm-up, class weights
           as in DAFA scale the cross-entropy, the radius and the step size. TRIX-Basic: no weights;
           TRIX-Uniform: weights on radius and step size only.
Objective  mean_b w[y_b] CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b)), |x_adv_b - x_b| <= w[y_b] eps
Source     Medi, Jung, Keuper, arXiv 2507.07768, Eq. 5-10; official program Fairness-a11y/TRIX@cdeb435.
Deviates   Clamping of class weights below 0 and ties as in `dafa`. The 1e-10 that the program adds to
           probabilities is left out. The threshold is the mean weight over the samples of the batch, as in
           the program; `threshold="classes"`, the mean over classes, is another reading of the paper. Not in
           the program: class weights from untargeted attacks, as in DAFA (`w_stats="untargeted"`).
Cost       TRADES plus one C x C matrix per batch; `w_stats="untargeted"`: two attacks in epoch
           `warmup_epochs`.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from fairbench.api import ClassWeighted, attacks, classes, losses, method

ROUNDING = 1e-12  # closer weights count as equal: the mean of equal numbers may differ from them by rounding
RIDGE = 1e-8  # added to the diagonal of the batch's similarity matrix (Eq. 6, official program)


@method("trix", tags=("trades", "targeted", "reweighting", "margin"))
class Trix(ClassWeighted):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term, >= 0
        strength: float = 1.0  # lambda of the class weights, >= 0; 0: exactly TRIX-Basic
        warmup_epochs: int = 70  # the last epoch with class weights 1
        mix_start_epoch: int = 1  # the first epoch with targeted attacks
        w_stats: Literal["mixed", "untargeted"] = "mixed"  # attack whose predictions give the class weights
        threshold: Literal["samples", "classes"] = "samples"  # mean weight that separates strong from weak
        scale_margin: bool = True  # w scales the radius
        scale_step: bool = True  # if w scales the radius, it scales the step size too
        scale_loss: bool = True  # w scales the cross-entropy
        scale_kl: bool = False  # w scales the KL term
        weight_rule: Literal["paper", "pre_2024_09"] = "paper"
        ties: Literal["skip", "subtract"] = "skip"  # classes of equal confidence
        min_weight: float | None = 0.0  # smallest class weight
        max_weight: float | None = None  # largest class weight
        bn_order: Literal["adv-clean", "clean-adv-clean"] = "adv-clean"  # order of train-mode forward passes

        def __post_init__(self):
            for name in ("beta", "strength"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """Targeted attack where the class is strong (Eq. 8), else untargeted attack on the KL (Eq. 4)."""
        with torch.no_grad():
            clean = model(batch.x)
        targeted = self.targeted(clean, batch.y, ctx)
        target = ctx.rng("target").other_class(batch.y, self.info.num_classes)

        def untargeted(logits):
            return losses.kl(clean, logits)

        def mixed(logits):
            return torch.where(targeted, -losses.cross_entropy(logits, target), untargeted(logits))

        def attack(aim):
            rng = ctx.rng("attack")  # the same noise for both attacks
            return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=rng)

        if self.config.w_stats == "untargeted" and ctx.epoch == self.config.warmup_epochs:
            return {"mixed": attack(mixed), "untargeted": attack(untargeted)}
        return attack(mixed)

    def loss(self, model, batch, adversary, ctx):
        if isinstance(adversary, torch.Tensor):
            return super().loss(model, batch, adversary, ctx)
        terms = super().loss(model, batch, adversary["mixed"], ctx)
        # In train mode like the mixed images, but with copies of BatchNorm's running statistics.
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with torch.no_grad():
            terms.logits_adv = torch.func.functional_call(model, buffers, (adversary["untargeted"],))
        return terms

    def targeted(self, clean_logits, y, ctx):
        """Which samples (B,) get the targeted attack: those of classes that are strong in this batch."""
        if ctx.epoch < self.config.mix_start_epoch:
            return torch.zeros_like(y, dtype=torch.bool)
        probability = losses.log_probabilities(clean_logits.double()).exp()
        similarity = classes.class_means(probability, y, self.info.num_classes)  # Eq. 5
        similarity = similarity + RIDGE * torch.eye(len(similarity), dtype=similarity.dtype, device=y.device)
        weight = classes.distance_aware_weights(
            similarity, 1.0, ties="subtract"
        )  # any strength > 0: same mask
        mine = weight[y]
        threshold = mine.mean() if self.config.threshold == "samples" else weight.mean()
        return mine < threshold - ROUNDING
