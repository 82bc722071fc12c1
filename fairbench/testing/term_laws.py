"""The law of loss terms: values of samples stay apart, and do not depend on the size of the batch."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from fairbench.data.batch import Batch
from fairbench.objectives.contract import AdversarialObjective, Adversary, Context
from fairbench.objectives.loss_terms import LossTerms
from fairbench.testing import toys
from fairbench.testing.attack_laws import attack
from fairbench.testing.law import Subject, require
from fairbench.testing.runs import trained
from fairbench.testing.training import EPOCHS
from fairbench.training.contract_checks import by_name

SIZE = 24
SPLITS = (tuple(range(7)), tuple(range(0, SIZE, 3)), (0, 4, 8, 12, 1, 5, 9, 2, 6))
"""One part of each of three splits of a batch; the classes are not equally frequent in it."""
CLOSE = 1e-4  # relative


def keeps_samples_apart(subject: Subject) -> str:
    """No scalar term is a mean or sum over samples, and no term shrinks or grows with the batch."""
    weights: dict[str, list[Tensor]] = {}
    for method, epoch in ((subject.build(), 1), (trained(subject).ends()[0], EPOCHS)):
        model, given = toys.capable(), toys.batch(SIZE, seed=7)
        adversary, ctx = attack(method, model, given, toys.context(epoch))
        loss = Loss(method, model.eval(), given, adversary, ctx)
        whole = loss.of(range(SIZE))
        if whole.skipped:
            continue
        for name, value in whole.terms.items():
            if value.dim() == 0 or same_for_all(value):
                check_scalar(name, float(value.detach().mean()), list(loss.splits(name)))
        check_doubled(whole, loss.of([*range(SIZE), *range(SIZE)]))
        for name, weight in whole.weight.items():
            weights.setdefault(name, []).append(weight.double())
    return "; ".join(described(name, torch.cat(values)) for name, values in weights.items())


class Loss:
    """The loss of parts of a batch on a network in eval mode, where the images do not affect each other."""

    def __init__(
        self,
        method: AdversarialObjective,
        model: nn.Module,
        given: Batch,
        adversary: Adversary,
        ctx: Context,
    ) -> None:
        self.method, self.model, self.given, self.ctx = method, model, given, ctx
        self.adversary = adversary

    def of(self, part: range | list[int] | tuple[int, ...]) -> LossTerms:
        """The loss terms of the images with these numbers."""
        chosen = torch.tensor(list(part))
        given = Batch(self.given.x[chosen], self.given.y[chosen], self.given.index[chosen])
        adversary = self._part(chosen)
        budget = self.ctx.budget
        eps, step = (
            value[chosen] if isinstance(value, Tensor) and value.dim() > 0 else value
            for value in (budget.eps, budget.step_size)
        )
        ctx = replace(self.ctx, budget=replace(budget, eps=eps, step_size=step))
        return self.method.loss(self.model, given, adversary, ctx)

    def splits(self, name: str) -> Iterator[tuple[int, float, int, float]]:
        """Sizes and values of the term `name` for both parts of each split."""
        for part in SPLITS:
            rest = [number for number in range(SIZE) if number not in part]
            first, second = (self.of(each).terms.get(name) for each in (part, rest))
            if first is not None and second is not None:
                yield len(part), float(first.detach().mean()), len(rest), float(second.detach().mean())

    def _part(self, chosen: Tensor) -> Adversary:
        if isinstance(self.adversary, Tensor):
            return self.adversary[chosen]
        values: Mapping[str, Tensor] = by_name(self.adversary)
        return {
            name: value[chosen] if value.dim() > 0 and len(value) == SIZE else value
            for name, value in values.items()
        }


def same_for_all(value: Tensor) -> bool:
    """Whether a term per sample is one number, repeated."""
    return bool((value == value[0]).all())


def check_scalar(name: str, whole: float, splits: list[tuple[int, float, int, float]]) -> None:
    """Raise BrokenLawError when a scalar term is the mean, or the sum, of values of samples."""
    size = max([abs(whole), *(abs(value) for _, one, _, two in splits for value in (one, two))])
    differs = any(abs(one - whole) > 10 * CLOSE * size for _, one, _, _ in splits)
    if not splits or not differs:
        return
    means = [(n * one + m * two) / (n + m) for n, one, m, two in splits]
    sums = [one + two for _, one, _, two in splits]
    for kind, values, instead in (("mean", means, ".mean()"), ("sum", sums, ".sum()")):
        require(
            any(abs(value - whole) > CLOSE * size for value in values),
            f"loss() returns the term {name!r} as one number, the {kind} over the samples.",
            f"return the values of the samples (B,), without {instead}, and class weights in "
            f"LossTerms(weight={{{name!r}: w}}): Mixup mixes the terms of two labels, and weight "
            "perturbation uses them without weights. If it has to leave this term out: "
            f"LossTerms(outside_base=({name!r},)). Only a regulariser is a scalar",
        )


def check_doubled(whole: LossTerms, doubled: LossTerms) -> None:
    """Raise BrokenLawError when a term or a weight shrinks or grows with the size of the batch."""
    for what, once, twice in (("term", whole.terms, doubled.terms), ("weight", whole.weight, doubled.weight)):
        for name, value in once.items():
            if name not in twice or (what == "weight" and name in whole.divide_by_weight):
                continue
            again = twice[name].detach()
            before, after = value.detach().double(), (again if again.dim() == 0 else again[:SIZE]).double()
            size = float(before.abs().max())
            for factor, verb in ((0.5, "halves"), (2.0, "doubles")):
                require(
                    size == 0 or float((after - factor * before).abs().max()) > CLOSE * size * factor,
                    f"loss() {verb} the {what} of {name!r} when each image is in the batch twice.",
                    "the trainer takes the mean over the batch: do not divide by a sum over the batch, "
                    f"or name the term in LossTerms(..., divide_by_weight=({name!r},))",
                )


def described(name: str, weight: Tensor) -> str:
    """The mean and the range of the weights of a term."""
    low, high = float(weight.min()), float(weight.max())
    return f"weight of {name} {low:.2f} to {high:.2f}, mean {float(weight.mean()):.2f}"
