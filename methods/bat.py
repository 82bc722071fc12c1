"""BAT: train on images on both sides of the decision boundary.

Idea       Some classes are easier to attack than others, and misclassifications prefer some classes. Against
           the first, two images at the boundary are used: the last correctly classified iterate of an attack
           replaces the clean image, and the first misclassified iterate replaces the final adversarial image.
           Against the second, predictions on both are pulled towards the uniform distribution U.
Objective  mean_b CE(f(x_lc_b), y_b) + beta mean_b KL(p(x_b) || p(x_fa_b))
           + gamma mean_b [KL(p(x_lc_b) || U) + KL(p(x_fa_b) || U)], both images from KL attacks
Source     Sun, Xu, Yao, Liang, Wu, Liang, Liu, Liu, AAAI 2023, arXiv 2209.07534; official program
           silvercherry/Improving-Robust-Fairness-via-Balance-Adversarial-Training@9bcee67
Deviates   As in the program, `tau=1` takes the second misclassified iterate, not the first (`tau=0`), and the
           last iterate of samples that are not misclassified before it. The program's shuffle of the second
           set has no effect and is left out. Not in the program: `shared_trajectory`.
Cost       Two attacks; with `shared_trajectory` as TRADES.
"""

from dataclasses import dataclass

import torch

from fairbench.api import AdversarialObjective, LossTerms, attacks, losses, method


class Boundary:
    """Stores the iterates of each sample on both sides of the boundary, for `observe` of an attack."""

    def __init__(self, x, y, tau):
        self.y, self.tau = y, tau
        self.before = self.after = x
        self.num_wrong = torch.zeros_like(y)  # (B,) misclassified iterates so far

    def __call__(self, k, x, logits):
        wrong = logits.argmax(1) != self.y
        if k == 0:
            self.before = x  # stays for samples that are misclassified at once
        self.after = _where(wrong & (self.num_wrong == self.tau), x, self.after)
        self.num_wrong = self.num_wrong + wrong
        self.before = _where(self.num_wrong == 0, x, self.before)

    def last_clean(self, end):
        """The iterate before the first misclassified one; the last iterate `end` if there is none."""
        return _where(self.num_wrong == 0, end, self.before)

    def first_adversarial(self, end):
        """The (tau + 1)-th misclassified iterate before the last; the last iterate `end` if fewer."""
        return _where(self.num_wrong <= self.tau, end, self.after)


@method("bat", tags=("trades", "boundary"))
class Bat(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term, >= 0
        tau: int = 1  # misclassified iterates to skip, >= 0; 0 takes the first one
        gamma: float = 1.0  # weight of the uniform terms, >= 0; 0 turns them off
        shared_trajectory: bool = False  # both images from one attack: half the cost; not in the program

        def __post_init__(self):
            for name in ("beta", "tau", "gamma"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """Two images per sample from attacks on the KL; predictions are checked before each step."""
        aim = losses.kl_to_clean(model, batch.x)

        def attack(purpose):
            seen = Boundary(batch.x, batch.y, self.config.tau)
            end = attacks.pgd(
                model,
                batch.x,
                aim,
                budget=ctx.budget,
                start="gaussian-clipped",
                rng=ctx.rng(purpose),
                observe=seen,
            )
            return seen, end

        first = attack("attack")
        last = first if self.config.shared_trajectory else attack("attack-last-clean")
        return {
            "last_clean": last[0].last_clean(last[1]),
            "first_adversarial": first[0].first_adversarial(first[1]),
        }

    def loss(self, model, batch, adversary, ctx):
        # This order determines the BatchNorm statistics.
        last_clean, first_adversarial = model(adversary["last_clean"]), model(adversary["first_adversarial"])
        logits = model(batch.x)
        gamma = self.config.gamma
        return LossTerms(
            clean=losses.cross_entropy(last_clean, batch.y),
            robust=self.config.beta * losses.kl(logits, first_adversarial),
            uniform_last_clean=gamma * losses.kl_to_uniform(last_clean),
            uniform_first_adversarial=gamma * losses.kl_to_uniform(first_adversarial),
            logits=logits,
            logits_adv=first_adversarial,
        )


def _where(chosen, images, others):
    return torch.where(chosen.view(-1, 1, 1, 1), images, others)
