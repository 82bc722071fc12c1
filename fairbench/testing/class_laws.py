"""Laws of classes and draws: an absent class is not one at 0, and no random number is used twice."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fairbench.attacks.draws import Draws
from fairbench.core.errors import EmptyClassError
from fairbench.testing import toys
from fairbench.testing.given_statistics import GivenTraining
from fairbench.testing.law import Subject, authors_line, require
from fairbench.testing.training import Training

MANY = 12
LABELS = (*range(MANY - 1), *range(MANY - 1))  # the last class has no image
VALUES = (torch.nan, 0.0, 0.7)


def absent_is_not_zero(subject: Subject) -> str:
    """Training with twelve classes works, and the NaN of a class without images is not taken for 0."""
    states: list[dict[str, Tensor]] = []
    for value in VALUES:
        training = GivenTraining(
            subject.build(num_classes=MANY),
            partial(accuracies, last=value),
            absent=MANY - 1,
            labels=LABELS,
            steps=1,
        )
        try:
            training.run()
        except EmptyClassError:
            return "an epoch without a class is an error that names it"
        states.append(toys.copied(training.method.state_dict()))
    unknown, zero, other = states
    require(
        toys.differences(unknown, zero) or not toys.differences(zero, other),
        "a hook takes the NaN of a class without images for 0: "
        f"{', '.join(toys.differences(zero, other))} is as if a statistic of that class was 0.",
        "use stats.of_every_class(name), which raises for such a class, or keep its old value: "
        "torch.where(accuracy.isnan(), old, new)",
    )
    return ""


def accuracies(epoch: int, *, last: float) -> Tensor:
    """The accuracies (C,) of an epoch: different ones, and `last` for the class without images."""
    accuracy = torch.linspace(0.2, 0.6, MANY, dtype=torch.float64).roll(epoch)
    accuracy[-1] = last
    return accuracy


def draws_once(subject: Subject) -> str:
    """No two draws of a step have the same purpose, and classes are drawn among all classes."""
    method, numbers = subject.build(num_classes=MANY), Numbers()
    validate: Callable[..., Any] = method.validate

    def unnoted(*arguments: Any) -> Any:
        numbers.noted = False
        try:
            return validate(*arguments)
        finally:
            numbers.noted = True

    setattr(method, "validate", unnoted)  # noqa: B010 (mypy: a method cannot be assigned)
    with suppress(EmptyClassError):  # after an epoch in which the drawn classes were not all of them
        Training(method, steps=1, labels=range(MANY), draws=lambda seed: NotedDraws(seed, numbers)).run()
    for lines in numbers.lines.values():
        require(
            len(lines) < 2,
            f"two draws have the same purpose, so that their random numbers are the same: "
            f"{' and '.join(dict.fromkeys(lines.values()))}.",
            'give each its own: ctx.rng("attack"), ctx.rng("noise")',
        )
    return ""


class Numbers:
    """By seed, the lines that draw random numbers with it, one line per generator."""

    def __init__(self) -> None:
        self.noted = True
        self.lines: dict[int, dict[int, str]] = {}
        self.kept: list[Draws] = []  # so that no two generators have the same id


class NotedDraws(Draws):
    """Draws whose lines are noted."""

    def __init__(self, seed: int, numbers: Numbers) -> None:
        super().__init__(seed, toys.CPU)
        self.seed, self.numbers = seed, numbers
        numbers.kept.append(self)

    def normal(self, like: Tensor) -> Tensor:
        self._note()
        return super().normal(like)

    def uniform(self, like: Tensor) -> Tensor:
        self._note()
        return super().uniform(like)

    def other_class(self, label: Tensor, num_classes: int) -> Tensor:
        self._note()
        require(
            num_classes == MANY,
            f"a class is drawn among {num_classes} classes, but there are {MANY}: {authors_line()}.",
            "the number of classes is self.info.num_classes",
        )
        return super().other_class(label, num_classes)

    def choice(self, weight: Tensor) -> Tensor:
        self._note()
        return super().choice(weight)

    def _note(self) -> None:
        if self.numbers.noted:
            self.numbers.lines.setdefault(self.seed, {}).setdefault(id(self), authors_line())
