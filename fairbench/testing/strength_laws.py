"""The law of the attack: it raises the loss of a trained network, in the whole ball that is declared."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from fairbench.attacks.budget import Budget, lengths
from fairbench.attacks.pgd import pgd
from fairbench.data.batch import Batch
from fairbench.objectives.contract import AdversarialObjective
from fairbench.objectives.losses import cross_entropy
from fairbench.testing import toys
from fairbench.testing.attack_laws import SMALL, attack
from fairbench.testing.law import Subject, accepted, require
from fairbench.testing.option_laws import alternatives, option_of
from fairbench.testing.runs import trained
from fairbench.testing.shown_laws import forwards
from fairbench.testing.training import EPOCHS
from fairbench.training.contract_checks import images_of

LONG = Budget(eps=0.1, step_size=0.025, num_steps=10)
SIZE = 48  # images
WEAKEST = 0.12
"""Smallest rise of the loss relative to that of PGD. The weakest registered method (BAT) has 0.35."""
ROUNDING = 1e-5
"""Size of a gradient relative to later ones below which only rounding errors are left of it."""
LEAST_RADIUS = 0.98
"""Smallest part of the radius that an attack has to use."""
SHARE = 0.75
"""Smallest share of the images that use it, of those that move and were classified correctly."""
FEW = replace(SMALL, num_steps=4)
SEVERAL = 3
"""An attack with at least so many gradients is one of several steps."""


@dataclass(frozen=True)
class Strength:
    """The mean cross-entropy of clean images, of the method's images and of those of PGD in the same ball."""

    clean: float
    method: float
    pgd: float
    radius: float  # the part of its radius that a SHARE of the images uses
    distance: float  # the largest distance of an image, in pixel units

    @property
    def relative(self) -> float:
        """The rise of the loss relative to that of PGD."""
        return (self.method - self.clean) / (self.pgd - self.clean)


def raises_the_loss(subject: Subject) -> str:
    """The attack raises the cross-entropy, and uses the radius that the method declares."""
    strong = list(strengths(subject, LONG))
    if not strong:
        return "every radius is 0"
    best = max(strong, key=lambda strength: strength.relative)
    distance = max(strength.distance for strength in strong)
    require(
        distance > 0,
        "perturb() returns the clean images: no pixel moves.",
        "maximise a loss of the logits. At the clean image the KL to the clean prediction has gradient 0, "
        'so that its attack needs start="gaussian"',
    )
    direction = "rises" if best.method > best.clean else "falls"
    loss = f"the loss {direction} from {best.clean:.2f} to {best.method:.2f}"
    require(
        best.relative >= WEAKEST,
        f"perturb() hardly attacks a trained network: {loss}; PGD in the same ball reaches {best.pgd:.2f}.",
        "attacks.pgd maximises its loss: pass the loss to raise, or minus the loss of a target; "
        "pass budget=ctx.budget",
    )
    small = list(strengths(subject, SMALL))
    used = min((strength.radius for strength in small), default=1.0)
    constant = abs(distance - max((strength.distance for strength in small), default=0.0)) < 0.1 * distance
    require(
        used >= LEAST_RADIUS,
        f"perturb() uses only {used:.2f} of the radius{', whatever ctx.budget is' if constant else ''}.",
        "pass budget=ctx.budget to the attack; for a smaller ball on purpose, override budget()",
    )
    follows_the_steps(subject)
    return f"{loss}, by PGD to {best.pgd:.2f}"


def follows_the_steps(subject: Subject) -> None:
    """Raise BrokenLawError when an attack of several steps ignores their number or size in ctx.budget.

    Unless an option of the method sets them.
    """
    wide = replace(LONG, eps=2 * LONG.eps, step_size=2 * LONG.step_size)
    (many, _), (few, _) = (steps(subject.build(), budget) for budget in (SMALL, FEW))
    require(
        many != few or many < SEVERAL or chosen(subject, lambda method: steps(method, SMALL)[0]),
        f"perturb() computes {many} gradients, whatever ctx.budget.num_steps is.",
        "pass budget=ctx.budget to the attack; make a number of steps of its own an option in Config",
    )
    require(
        many >= SMALL.num_steps or many < SEVERAL or chosen(subject, lambda method: steps(method, SMALL)[0]),
        f"perturb() computes only {many} gradients where ctx.budget.num_steps is {SMALL.num_steps}.",
        "pass budget=ctx.budget to the attack; make a number of steps of its own an option in Config",
    )
    sizes = [steps(subject.build(), budget)[1] for budget in (LONG, wide)]
    require(
        many < SEVERAL
        or not sizes[0]
        or abs(sizes[0] - sizes[1]) > 0.01 * sizes[0]
        or chosen(subject, lambda method: steps(method, LONG)[1]),
        f"perturb() moves images by {sizes[0]:.4f} in a step, whatever ctx.budget is.",
        "pass budget=ctx.budget to the attack; make a step size of its own an option in Config",
    )


def steps(method: AdversarialObjective, budget: Budget) -> tuple[int, float]:
    """The number of gradients that the attack computes, and the longest way of an image in one step."""
    given, model = toys.batch(), toys.capable()
    with gradients() as sizes, forwards(model) as seen:
        attack(method, model, given, toys.context(EPOCHS, budget=budget))
    shown = [forward.images for forward in seen if forward.attacks and forward.images.shape == given.x.shape]
    ways = [float((after - before).abs().max()) for before, after in itertools.pairwise(shown[:SEVERAL])]
    return len(sizes), max(ways, default=0.0)


def chosen(subject: Subject, measure: Callable[[AdversarialObjective], float]) -> bool:
    """Whether an option of the method changes what is measured of its attack."""
    before = measure(subject.build())
    for name, value in subject.settings().items():
        for other in alternatives(option_of(subject, name), value)[:3]:
            if accepted(subject, **{name: other}) and measure(subject.build(**{name: other})) != before:
                return True
    return False


def strengths(subject: Subject, budget: Budget) -> Iterator[Strength]:
    """The strength of a fresh method and of a trained one in the last epoch, unless every radius is 0."""
    for method in (subject.build(), trained(subject).ends()[0]):
        given, model = toys.batch(SIZE, seed=100), toys.capable()
        with gradients() as sizes:
            adversary, ctx = attack(method, model, given, toys.context(EPOCHS, budget=budget))
        require(
            not sizes or sizes[0] > ROUNDING * max(sizes),
            "the gradient at the start of the attack is 0: the first step follows rounding errors.",
            'the KL to the clean prediction has no gradient at the clean image: use start="gaussian"',
        )
        radius = torch.as_tensor(ctx.budget.eps, dtype=given.x.dtype).abs().expand(SIZE)
        if not bool((radius > 0).any()):
            continue
        reference = pgd(
            model.eval(),
            given.x,
            partial(cross_entropy, label=given.y),
            budget=replace(ctx.budget, step_size=radius / 4, num_steps=10),
            start="uniform",
            rng=ctx.rng("reference"),
        )
        yield measured(model, given, list(images_of(given, adversary).values()), reference, ctx.budget)


@contextmanager
def gradients() -> Iterator[list[float]]:
    """The largest entry of every gradient that is computed in the block."""
    sizes: list[float] = []
    run = torch.autograd.grad

    def noting(*arguments: Any, **options: Any) -> tuple[Tensor, ...]:
        computed = run(*arguments, **options)
        sizes.append(max(float(each.abs().max()) for each in computed if each is not None))
        return computed

    with mock.patch.object(torch.autograd, "grad", noting):
        yield sizes


def measured(
    model: nn.Module, given: Batch, images: list[Tensor], reference: Tensor, budget: Budget
) -> Strength:
    """The strength of the strongest of a method's `images`, and of the `reference`."""

    def loss(shown: Tensor) -> float:
        with torch.no_grad():
            return float(cross_entropy(model(shown), given.y).mean())

    radius = torch.as_tensor(budget.eps, dtype=given.x.dtype).abs().expand(len(given))
    distances = torch.stack([lengths(each - given.x, budget.norm).flatten() for each in images]).amax(0)
    with torch.no_grad():
        right = model(given.x).argmax(1) == given.y
    parts = (distances / radius)[right & (radius > 0) & (distances > 0)]
    return Strength(
        clean=loss(given.x),
        method=max(map(loss, images)),
        pgd=loss(reference),
        radius=float(torch.quantile(parts, 1 - SHARE)) if len(parts) else 1.0,
        distance=float(distances.max()),
    )
