"""CFOL: a bandit draws the classes of the training images, those with more robust errors more often.

Idea       Classes are the arms of Exp3, and the robust error of the training step is their reward. Half of
           the images are drawn from all classes alike, half by the learned distribution. Loss and attack are
           those of PGD-AT. The loss can be weighted instead (`form="reweight"`).
Objective  mean_b CE(f(x_adv_b), y_b), class c drawn with p_c = gamma u_c + (1 - gamma) softmax(w)_c. After
           each step w_c <- w_c + sum over b of class c of (eta e_b + bonus) / p_c, with e_b = 1 if x_adv_b is
           misclassified. Weighted: all images alike, mean_b C p_{y_b} CE_b, and C in place of 1 / p_c
Source     Pethick, Chrysos, Cevher, TMLR 2023, arXiv 2302.08872; official program
           LIONS-EPFL/class-focused-online-learning-code@98abd59.
Deviates   eta is multiplied by 40000 / N, for N training images: 40000 are those of the program on CIFAR-10
           (`eta_images=0`: eta as it is). Classes are drawn with the w of the last step; the program's loader
           draws about ten batches ahead. The attack returns its last iterate; the program's returns the one
           after the largest mean loss of the batch (`keep_best=True`), nearly always the same. Not offered:
           colour jitter and rotation, a reset of w with the learning rate, the choice of the epoch by 20 % of
           the images.
Cost       K forward and backward passes for the attack, one for training.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fairbench.api import AdversarialObjective, LossTerms, Needs, attacks, classes, losses, method, per_class


@method("cfol", tags=("sampling",))
class Cfol(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        form: Literal["sampling", "reweight"] = "sampling"  # draw the classes, or weight the loss
        gamma: float = 0.5  # share of the base distribution u, 0..1; 1: always u
        eta: float = 5e-6  # step size of the bandit, >= 0; 0: always u
        eta_images: int = 40000  # training images that eta is for; 0: eta is not scaled
        base: Literal["uniform", "empirical"] = "uniform"  # u: all classes alike, or as often as in the data
        bonus: float = 0.0  # added to eta e_b of each drawn image, >= 0
        keep_best: bool = False  # the iterate after that of the largest mean loss, in place of the last one

        def __post_init__(self):
            if not 0 <= self.gamma <= 1:
                raise ValueError(f"gamma is {self.gamma}, expected 0 to 1")
            for name in ("eta", "eta_images", "bonus"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")

    @dataclass
    class State:
        log_weight: Tensor = per_class(0.0)  # w (C,)

    @staticmethod
    def needs(config):
        if config.form == "sampling":
            return Needs(sampling="classes")
        return Needs()

    def class_share(self, ctx):
        """p (C,), with sum 1, between gamma u_c and gamma u_c + 1 - gamma."""
        learned = torch.softmax(self.state.log_weight, 0)
        count = torch.ones_like(learned)
        if self.config.base == "empirical":
            count = learned.new_tensor(self.info.class_count)
        return self.config.gamma * count / count.sum() + (1 - self.config.gamma) * learned

    def eta(self):
        """The step size for so many training images."""
        scale = self.config.eta_images / self.info.num_images if self.config.eta_images else 1
        return self.config.eta * scale

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the cross-entropy."""
        kept = AfterLargestLoss(batch.y) if self.config.keep_best else None
        last = attacks.pgd(
            model,
            batch.x,
            lambda logits: losses.cross_entropy(logits, batch.y),
            budget=ctx.budget,
            start="uniform",
            rng=ctx.rng("attack"),
            observe=kept,
        )
        return last if kept is None else kept.image(last)

    def loss(self, model, batch, x_adv, ctx):
        logits_adv, weight = model(x_adv), {}
        if self.config.form == "reweight":
            weight = {"robust": self.info.num_classes * self.class_share(ctx)[batch.y]}
        robust = losses.cross_entropy(logits_adv, batch.y)
        return LossTerms(robust=robust, weight=weight, logits_adv=logits_adv)

    def on_step_end(self, batch, terms, ctx):
        error = (terms.logits_adv.argmax(1) != batch.y).double()
        of_class = classes.class_indicator(batch.y, self.info.num_classes, torch.float64)  # (B, C)
        share = self.class_share(ctx) if self.config.form == "sampling" else 1 / self.info.num_classes
        self.state.log_weight.add_((self.eta() * error + self.config.bonus) @ of_class / share)

    def on_epoch_end(self, stats, ctx):
        ctx.log("class_share", self.class_share(ctx))


class AfterLargestLoss:
    """Watches an attack and keeps the iterate after the one with the largest mean loss of the batch."""

    def __init__(self, label):
        self.label = label

    def __call__(self, k, x, logits):
        value = losses.cross_entropy(logits, self.label).mean()
        if k == 0:
            self.kept, self.largest = x, value
            self.rises = torch.ones_like(value, dtype=torch.bool)
        else:
            self.kept = self.image(x)
            self.rises = value > self.largest
            self.largest = torch.maximum(self.largest, value)

    def image(self, following):
        """The kept iterate, where `following` is the one after the last that was seen."""
        return torch.where(self.rises, following, self.kept)
