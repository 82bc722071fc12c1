"""Laws of single calls: what `budget`, `perturb` and `loss` return, and what they do to BatchNorm."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fairbench.attacks.budget import Budget
from fairbench.attacks.frozen import frozen
from fairbench.data.batch import Batch
from fairbench.objectives.contract import AdversarialObjective, Adversary, Context
from fairbench.testing import toys
from fairbench.testing.law import Subject, authors_line, require
from fairbench.testing.runs import trained
from fairbench.training import step
from fairbench.training.contract_checks import check_adversary, check_terms

SEEDS = (0, 1, 2)
TRAINING = 5
"""Position of the parameter `training` of both functions for BatchNorm."""
SMALL = Budget(eps=0.002, step_size=0.0005, num_steps=10)
"""So small that a radius of the method's own leaves it, and that no image is misclassified early."""


def well_formed(subject: Subject) -> None:
    """`perturb` and `loss` run, and the loss has well-formed terms and finite gradients."""
    method, model, given = subject.build(), toys.network(), toys.batch()
    adversary, ctx = attack(method, model, given)
    model.train()
    terms = method.loss(model, given, adversary, ctx)
    check_terms(method, given, terms)
    gradients = torch.autograd.grad(
        terms.total(), list(model.parameters()), allow_unused=True, materialize_grads=True
    )
    require(
        torch.isfinite(terms.total()) and all(torch.isfinite(each).all() for each in gradients),
        "the loss of an ordinary batch, or its gradient, is not finite.",
        "look for log(0), 0/0 and sqrt(0); losses.cross_entropy and losses.kl avoid them",
    )


def within_budget(subject: Subject) -> str:
    """Every adversarial image is in [0, 1] and in the ball that the method declares for its sample."""
    widest: list[float] = []
    reaches: set[float] = set()
    for method, model, epoch in stages(subject):
        for seed, budget in (*((seed, toys.BUDGET) for seed in SEEDS), (0, SMALL)):
            given = toys.batch(seed=seed)
            adversary, ctx = attack(method, model, given, toys.context(epoch, seed=seed, budget=budget))
            check_adversary(method, given, adversary, ctx.budget)
            radius = torch.as_tensor(ctx.budget.eps, dtype=torch.float64)
            require(
                radius.shape in ((), given.y.shape) and torch.isfinite(radius).all(),
                f"budget() returned a radius of shape {tuple(radius.shape)}, or one that is not finite.",
                "return ctx.budget, or ctx.budget.scale(weight[y]) with one factor per sample",
            )
            reaches |= set() if ctx.budget.reach is None else {ctx.budget.reach}
            widest += [float(radius.min() / budget.eps), float(radius.max() / budget.eps)]
    low, high = min(widest), max(widest)
    remarks = [] if low == high == 1 else [f"radius {low:.2f} to {high:.2f} times the protocol's"]
    if reaches:
        remarks.append(f"not projected: images up to {max(reaches):g} radii away, as declared")
    return "; ".join(remarks)


class BatchStatistics(TorchFunctionMode):
    """Notes the lines that normalise with the statistics of the batch, in any network."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        batch_norm = function in (torch.batch_norm, torch.nn.functional.batch_norm)
        if batch_norm and options.get("training", args[TRAINING : TRAINING + 1] == (True,)):
            self.lines.append(authors_line())
        return function(*args, **options)


def batch_norm_as_declared(subject: Subject) -> str:
    """BatchNorm's statistics change during the attack if and only if `needs` declares it."""
    for method, model, epoch in stages(subject):
        check_batch_norm(method, model, epoch)
    declared = subject.build().resolved_needs().attack_bn
    return "" if declared == "eval" else f"attack_bn={declared!r} during the attack, as declared"


def check_batch_norm(method: AdversarialObjective, model: nn.Module, epoch: int) -> None:
    """Raise BrokenLawError when statistics or modes are not treated as declared."""
    given, declared = toys.batch(), method.resolved_needs().attack_bn
    before = buffers(model)
    with BatchStatistics() as seen:
        adversary, ctx = attack(method, model, given, toys.context(epoch))
    changed = toys.differences(before, buffers(model))
    require(
        declared == "train" or not changed,
        f"perturb() changed BatchNorm's statistics: {', '.join(changed)}.",
        'do not change the mode of the model, or declare needs = Needs(attack_bn="train")',
    )
    require(
        declared != "eval" or not seen.lines,
        f"perturb() runs a network in train mode: {', '.join(dict.fromkeys(seen.lines))}.",
        "attack the network that perturb() gets, in the mode that it has, and no copy in train mode",
    )
    require(
        declared != "train" or changed,
        'needs declares attack_bn="train", but perturb() did not change BatchNorm\'s statistics.',
        "call the model in perturb() without changing its mode, or remove attack_bn from needs",
    )
    model.train()
    method.loss(model, given, adversary, ctx)
    require(
        model.training,
        "loss() left the model in eval mode.",
        "do not change the mode of the model: it is in train mode when loss() is called",
    )
    if method.resolved_needs().validation is not None:
        before = buffers(model)
        with frozen(model), torch.no_grad():
            method.validate(model, given, toys.context(epoch))
        changed = toys.differences(before, buffers(model))
        require(
            not changed,
            f"validate() changed BatchNorm's statistics: {', '.join(changed)}.",
            "do not change the mode of the model: it is in eval mode for held-out images",
        )


def stages(subject: Subject) -> Iterator[tuple[AdversarialObjective, nn.Module, int]]:
    """Method, model and epoch: at the start, after training, and after training on extreme statistics."""
    yield subject.build(), toys.network(), 1
    for epoch, awkward in ((2, False), (3, True)):
        yield *trained(subject, awkward=awkward).ends(), epoch


def attack(
    method: AdversarialObjective, model: nn.Module, given: Batch, ctx: Context | None = None
) -> tuple[Adversary, Context]:
    """What `perturb` returns in training, and the context with the budget that it has to keep."""
    ctx = toys.context() if ctx is None else ctx
    ctx = replace(ctx, budget=method.budget(given.y, ctx))
    return step.attack(method, model, given, ctx), ctx


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return toys.copied(dict(model.named_buffers()))
