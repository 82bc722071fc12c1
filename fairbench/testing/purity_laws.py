"""The law of purity: calls change nothing, and depend on nothing that is hidden."""

import copy
import random
from collections.abc import Callable, Iterator, Mapping
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
from fairbench.testing.attack_laws import stages
from fairbench.testing.law import BrokenLawError, Subject, require
from fairbench.testing.snapshots import changed_names, kept_values
from fairbench.testing.training import UNBALANCED, Training
from fairbench.training import step
from fairbench.training.contract_checks import by_name

HOOKS = ("on_epoch_start", "on_step_end", "on_epoch_end", "on_validation")
IN_STATE = (
    "change the state in the on_... hooks only; pass values from perturb() to loss() in the adversary dict"
)


def pure(subject: Subject) -> None:
    """`class_share`, `budget`, `perturb`, `loss` and `validate` change neither state nor batch nor model."""
    for method, model, epoch in stages(subject):
        check_purity(method, model, epoch)
    method = subject.build()
    for name in HOOKS:
        setattr(method, name, keeping(name, getattr(method, name)))
    Training(method, labels=UNBALANCED, epochs=2).run()


def keeping(name: str, hook: Callable[..., None]) -> Callable[..., None]:
    """The hook, which raises BrokenLawError when it changes a batch, terms or statistics that it is given."""

    def run(*arguments: Any) -> None:
        before = toys.copied(given_to(arguments))
        hook(*arguments)
        changed = toys.differences(before, given_to(arguments))
        require(
            not changed,
            f"{name}() changed {', '.join(changed)} in place.",
            "write a = a - b instead of a -= b: images and statistics are used again, and recorded",
        )

    return run


def given_to(arguments: tuple[Any, ...]) -> dict[str, Tensor]:
    """The tensors that a hook is given, by name."""
    tensors: dict[str, Tensor] = {}
    for argument in arguments:
        kind = type(argument)
        if kind is not Context:
            owner = {Batch: "batch", LossTerms: "terms"}.get(kind, "stats")
            tensors |= {f"{owner}.{name}": value for name, value in flat(vars(argument)).items()}
    return tensors


def flat(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors in a mapping, and in mappings in it, by name."""
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    for name, value in values.items():
        if isinstance(value, Mapping):
            tensors |= {f"{name}[{key!r}]": each for key, each in flat(value).items()}
    return tensors


def check_purity(method: AdversarialObjective, model: nn.Module, epoch: int) -> None:
    """Raise BrokenLawError when a call changes something."""
    given, ctx = toys.batch(), toys.context(epoch)
    if method.resolved_needs().sampling:
        untouched(method, model, given, "class_share", lambda: {"share": method.class_share(ctx)})
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


def untouched(
    method: AdversarialObjective,
    model: nn.Module,
    given: Batch,
    part: str,
    call: Callable[[], Any],
    adversary: Adversary | None = None,
) -> Any:
    """What `call` returns; it is called twice. Raises BrokenLawError when it changes something."""

    def handed() -> dict[str, Tensor]:
        images = {} if adversary is None else by_name(adversary)
        return {"batch.x": given.x, "batch.y": given.y, **images}

    images = toys.copied(handed())
    with network_unchanged(model, part), method_unchanged(method, part), global_draws(part):
        first, second = call(), call()
    overwritten = toys.differences(images, handed())
    require(
        not overwritten,
        f"{part}() changed {', '.join(overwritten)} in place.",
        "write x = x + d instead of x += d: these images are used again",
    )
    differ = toys.differences(values(first), values(second))
    require(
        not differ,
        f"{part}() returns something else when it is called again: {', '.join(differ)}.",
        "its result may depend on its arguments, on self.state and on ctx.rng(purpose) only",
    )
    return first


@contextmanager
def method_unchanged(method: AdversarialObjective, part: str) -> Iterator[None]:
    """A block that raises BrokenLawError when the state, the options or values on the method change in it."""
    state, config, kept = toys.copied(method.state_dict()), copy.copy(method.config), kept_values(method)
    yield
    changed = toys.differences(state, method.state_dict())
    require(not changed, f"{part}() changed the state: {', '.join(changed)}.", IN_STATE)
    for name in changed_names(kept, kept_values(method)):
        raise BrokenLawError(f"{part}() {'changed' if name in kept else 'stored'} {name}.", hint=IN_STATE)
    require(config == method.config, f"{part}() changed the configuration.", "read self.config only")


@contextmanager
def network_unchanged(model: nn.Module, part: str) -> Iterator[None]:
    """A block that raises BrokenLawError when weights, gradients or layers of the network change in it."""
    weights, settings = toys.copied(dict(model.named_parameters())), layer_settings(model)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    yield
    moved = toys.differences(weights, dict(model.named_parameters()))
    require(
        not moved,
        f"{part}() changed the weights {', '.join(moved)}.",
        "only the optimiser may change weights",
    )
    changed_layers = changed_names(settings, layer_settings(model))
    require(
        not changed_layers,
        f"{part}() changed the network: {', '.join(changed_layers)}.",
        "do not change its layers: on a GPU it is a copy, and such a change is lost",
    )
    stained = [name for name, parameter in model.named_parameters() if parameter.grad is not gradients[name]]
    require(
        not stained,
        f"{part}() left gradients on {', '.join(stained)}.",
        "take torch.autograd.grad(loss, x) instead of loss.backward()",
    )


def layer_settings(model: nn.Module) -> dict[str, Any]:
    """By name, what is set in the layers beside their mode: momentum, eps, whether weights take gradients."""
    settings = {
        f"{layer or 'the network'}.{name}": value
        for layer, module in model.named_modules()
        for name, value in vars(module).items()
        if name != "training" and isinstance(value, bool | int | float | str | tuple)
    }
    return settings | {f"{name}.requires_grad": each.requires_grad for name, each in model.named_parameters()}


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
