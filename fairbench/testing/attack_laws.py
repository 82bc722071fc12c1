"""Laws of single calls: what `budget`, `perturb`, `loss` and `validate` return, and must not change."""

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairbench.attacks.frozen import frozen
from fairbench.data.batch import Batch
from fairbench.objectives.contract import AdversarialObjective, Adversary, Context
from fairbench.objectives.loss_terms import LossTerms
from fairbench.testing import toys
from fairbench.testing.law import BrokenLawError, Subject, require
from fairbench.testing.runs import trained
from fairbench.training import step
from fairbench.training.contract_checks import by_name, check_adversary, check_terms

SEEDS = (0, 1, 2)
IN_STATE = (
    "change the state in the on_... hooks only; pass values from perturb() to loss() in the adversary dict"
)


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
        for seed in SEEDS:
            given = toys.batch(seed=seed)
            adversary, ctx = attack(method, model, given, toys.context(epoch, seed=seed))
            check_adversary(method, given, adversary, ctx.budget)
            radius = torch.as_tensor(ctx.budget.eps, dtype=torch.float64)
            require(
                radius.shape in ((), given.y.shape) and torch.isfinite(radius).all(),
                f"budget() returned a radius of shape {tuple(radius.shape)}, or one that is not finite.",
                "return ctx.budget, or ctx.budget.scale(weight[y]) with one factor per sample",
            )
            reaches |= set() if ctx.budget.reach is None else {ctx.budget.reach}
            widest += [float(radius.min() / toys.BUDGET.eps), float(radius.max() / toys.BUDGET.eps)]
    low, high = min(widest), max(widest)
    remarks = [] if low == high == 1 else [f"radius {low:.2f} to {high:.2f} times the protocol's"]
    if reaches:
        remarks.append(f"not projected: images up to {max(reaches):g} radii away, as declared")
    return "; ".join(remarks)


def pure(subject: Subject) -> None:
    """`budget`, `perturb`, `loss` and `validate` change neither state nor batch nor model."""
    for method, model, epoch in stages(subject):
        check_purity(method, model, epoch)


def check_purity(method: AdversarialObjective, model: nn.Module, epoch: int) -> None:
    """Raise BrokenLawError when a call changes something."""
    given, ctx = toys.batch(), toys.context(epoch)
    untouched(method, model, given, "budget", lambda: method.budget(given.y, ctx))
    inside = replace(ctx, budget=method.budget(given.y, ctx))
    with frozen(model, method.resolved_needs().attack_bn):
        result = untouched(method, model, given, "perturb", lambda: method.perturb(model, given, inside))
    adversary = step.detached(result)
    untouched(
        method, model, given, "loss", lambda: method.loss(model.train(), given, adversary, inside), adversary
    )
    if method.resolved_needs().validation is not None:
        with frozen(model), torch.no_grad():
            untouched(method, model, given, "validate", lambda: method.validate(model, given, ctx))


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
    adversary, ctx = attack(method, model, given, toys.context(epoch))
    changed = toys.differences(before, buffers(model))
    require(
        declared == "train" or not changed,
        f"perturb() changed BatchNorm's statistics: {', '.join(changed)}.",
        'do not change the mode of the model, or declare needs = Needs(attack_bn="train")',
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


def untouched(
    method: AdversarialObjective,
    model: nn.Module,
    given: Batch,
    part: str,
    call: Callable[[], Any],
    adversary: Adversary | None = None,
) -> Any:
    """What `call` returns; it is called twice. Raises BrokenLawError when it changes something."""
    state, config = toys.copied(method.state_dict()), copy.copy(method.config)
    attributes = dict(vars(method))
    weights = toys.copied(dict(model.named_parameters()))
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}

    def handed() -> dict[str, Tensor]:
        images = {} if adversary is None else by_name(adversary)
        return {"batch.x": given.x, "batch.y": given.y, **images}

    images = toys.copied(handed())
    with global_draws(part):
        first, second = call(), call()
    changed = toys.differences(state, method.state_dict())
    require(not changed, f"{part}() changed the state: {', '.join(changed)}.", IN_STATE)
    kept = [name for name, value in vars(method).items() if attributes.get(name, method) is not value]
    require(not kept, f"{part}() stored self.{', self.'.join(kept)}.", IN_STATE)
    require(config == method.config, f"{part}() changed the configuration.", "read self.config only")
    overwritten = toys.differences(images, handed())
    require(
        not overwritten,
        f"{part}() changed {', '.join(overwritten)} in place.",
        "write x = x + d instead of x += d: these images are used again",
    )
    moved = toys.differences(weights, dict(model.named_parameters()))
    require(
        not moved,
        f"{part}() changed the weights {', '.join(moved)}.",
        "only the optimiser may change weights",
    )
    stained = [name for name, parameter in model.named_parameters() if parameter.grad is not gradients[name]]
    require(
        not stained,
        f"{part}() left gradients on {', '.join(stained)}.",
        "take torch.autograd.grad(loss, x) instead of loss.backward()",
    )
    differ = toys.differences(values(first), values(second))
    require(
        not differ,
        f"{part}() returns something else when it is called again: {', '.join(differ)}.",
        "its result may depend on its arguments, on self.state and on ctx.rng(purpose) only",
    )
    return first


@contextmanager
def global_draws(part: str) -> Iterator[None]:
    """A block that raises BrokenLawError when a global random generator is used in it."""

    def now() -> dict[str, bytes]:
        return {
            "torch": bytes(torch.get_rng_state().numpy()),
            "random": repr(random.getstate()).encode(),
            "numpy.random": repr(np.random.get_state()).encode(),
        }

    before = now()
    yield
    used = [name for name, state in now().items() if state != before[name]]
    if used:
        raise BrokenLawError(
            f"{part}() draws from the global generator of {', '.join(used)}.",
            hint='draw from ctx.rng("a purpose"): .normal, .uniform, .other_class or .choice',
        )


def values(result: Any) -> dict[str, Tensor]:
    """The tensors in what a method returned."""
    if isinstance(result, LossTerms):
        logits = {"logits": result.logits, "logits_adv": result.logits_adv}
        return {**result.terms, **{name: value for name, value in logits.items() if value is not None}}
    if isinstance(result, Tensor | dict):
        return by_name(result)
    numbers = {name: value for name, value in vars(result).items() if not isinstance(value, str | None)}
    return {name: torch.as_tensor(value) for name, value in numbers.items()}
