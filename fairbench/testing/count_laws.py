"""The law of the number of classes: a method reads it from the data, and does not assume ten."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fairbench.core.errors import EmptyClassError
from fairbench.objectives.contract import AdversarialObjective
from fairbench.testing import toys
from fairbench.testing.attack_laws import attack
from fairbench.testing.given_statistics import GivenTraining
from fairbench.testing.law import Subject, accepted, require
from fairbench.testing.training import EPOCHS

TEN, MORE = 10, 16
LEVELS = (0.3, 0.6)
EQUAL = 1e-6  # largest difference of equal values
APART = 1e-3  # smallest difference of different ones
HINT = (
    "the number of classes is self.info.num_classes, a mean over classes .mean(), and the largest entropy "
    "math.log(self.info.num_classes); if a 10 is no number of classes, make it an option in Config"
)

Values = dict[str, Tensor]
"""By name, values of each class (C,), or of all classes (), that follow from class statistics."""


def reads_the_number_of_classes(subject: Subject) -> str:
    """What is exact for ten classes is exact for sixteen."""
    tens = {name: type(value)(7) for name, value in subject.settings().items() if is_number(value, TEN)}
    if not accepted(subject, **tens):
        return f"not tested, because {' and '.join(tens)} can only be 10"
    subject = replace(subject, config={**subject.config, **tens})  # what remains of 10 is not an option
    numbers = {value for value in subject.settings().values() if is_number(value)}
    with suppress(EmptyClassError):  # where the method draws the classes itself, one may be missing
        ten, more = (
            [after(subject, count, partial(equal, level)) for level in LEVELS] for count in (TEN, MORE)
        )
        check_levels(ten, more)
        one, other = (after(subject, count, varied) for count in (TEN, MORE))
        check_sums(one, other, values_of(subject.build(TEN)))
    first, second = (uniform_terms(subject.build(count)) for count in (TEN, MORE))
    check_uniform(first, second, numbers)
    return ""


def is_number(value: Any, wanted: float | None = None) -> bool:
    """Whether an option is a number, and is `wanted`."""
    return type(value) in (int, float) and wanted in (None, value)


def equal(level: float, count: int, epoch: int) -> Tensor:
    """The same accuracy for every class (C,)."""
    return torch.full((count,), level, dtype=torch.float64)


def varied(count: int, epoch: int) -> Tensor:
    """Another accuracy for every class (C,), and other ones in each epoch."""
    return torch.linspace(0.2, 0.6, count, dtype=torch.float64).roll(epoch)


def after(subject: Subject, count: int, accuracy: Callable[[int, int], Tensor]) -> Values:
    """The values of the method after toy training with these accuracies."""
    method = subject.build(count)
    GivenTraining(method, partial(accuracy, count), labels=range(count), steps=1).run()
    return values_of(method)


def values_of(method: AdversarialObjective) -> Values:
    """The state, and the radius and class weights for one image of each class."""
    count = method.info.num_classes
    given, model = toys.batch(count, count), toys.network(count)
    adversary, ctx = attack(method, model, given, toys.context(EPOCHS, teacher=toys.teachers(count)))
    terms = method.loss(model.train(), given, adversary, ctx)
    radius = torch.as_tensor(ctx.budget.eps, dtype=torch.float64) / toys.BUDGET.eps
    state = {f"State.{name}": value for name, value in method.state_dict().items()}
    weights = {f"the weight of {name!r}": value for name, value in terms.weight.items()}
    every = {**state, "the radius": radius, **weights}
    return {name: value.detach().double() for name, value in every.items()}


def check_levels(ten: list[Values], more: list[Values]) -> None:
    """Raise BrokenLawError when a value depends on the common accuracy of all classes, but not for ten."""
    for name in ten[0]:
        if name not in more[0]:
            continue
        same, other = (float((low[name] - high[name]).abs().max()) for low, high in (ten, more))
        require(
            not (same < EQUAL and other > APART),
            f"if all classes are equal, {name} does not depend on their accuracy with {TEN} classes, but it "
            f"does with {MORE}: ten classes are assumed.",
            HINT,
        )


def check_sums(ten: Values, more: Values, fresh: Values) -> None:
    """Raise BrokenLawError when a value has the mean or sum 1 over classes, but only for ten of them."""
    for name, value in ten.items():
        if value.dim() == 0 or name not in more or torch.equal(value, fresh.get(name, value)):
            continue
        for what, reduced in (("mean", Tensor.mean), ("sum", Tensor.sum)):
            one, other = (float((reduced(each[name]) - 1).abs()) for each in (ten, more))
            require(
                not (one < EQUAL and other > APART),
                f"the {what} of {name} over the classes is 1 with {TEN} classes, "
                f"but {float(reduced(more[name])):.3g} with {MORE}: ten classes are assumed.",
                HINT,
            )


def uniform_terms(method: AdversarialObjective) -> dict[str, float]:
    """The mean of each loss term on a network that gives every class the same probability."""
    count = method.info.num_classes
    given, model = toys.batch(2 * count, count), toys.network(count)
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.bias.zero_()
    adversary, ctx = attack(method, model, given, toys.context(teacher=toys.teachers(count)))
    terms = method.loss(model.train(), given, adversary, ctx)
    return {name: float(value.detach().double().mean()) for name, value in terms.terms.items()}


def check_uniform(ten: Mapping[str, float], more: Mapping[str, float], numbers: set[float]) -> None:
    """Raise BrokenLawError when a term is exact for uniform predictions, but only for ten classes.

    Exact is 0, 1 or the entropy, times one of `numbers`, the options of the method.
    """
    factors = {1.0, *(abs(float(number)) for number in numbers if number)}
    exact = [(factor * math.log(TEN), factor * math.log(MORE)) for factor in factors]
    exact += [(1.0, 1.0)] if 1 / TEN in numbers else [(0.0, 0.0), (1.0, 1.0)]
    for name, value in ten.items():
        for wanted, other in exact if name in more else ():
            require(
                not (abs(value - wanted) < EQUAL and abs(more[name] - other) > APART),
                f"for equal predictions of all classes, the term {name!r} is {value:.4g} with {TEN} classes "
                f"and {more[name]:.4g} with {MORE}, not {other:.4g}: ten classes are assumed.",
                HINT,
            )
