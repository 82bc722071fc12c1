"""Every option has an effect: toy training with other values of its type gives other numbers."""

import copy
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fairbench.attacks.budget import Budget
from fairbench.registry.options import Option
from fairbench.testing import toys
from fairbench.testing.law import BrokenLawError, NotApplicable, Subject, accepted
from fairbench.testing.training import EPOCHS, UNBALANCED, Training

STEPS = 1
MOST_CONTEXTS = 12
"""Most settings with several changes that are tried for an option without effect."""
WITHOUT_CLASS_2 = (0, 1, 1, 1, 1, 1, 3, 3)
IN_ONE_BATCH = "a class absent from a batch"
ABSENT = "a class absent from the second epoch on"
SITUATIONS = ("awkward statistics", "measured statistics", ABSENT, "a long attack", IN_ONE_BATCH)
LONG = Budget(toys.BUDGET.eps, toys.BUDGET.eps, 10)  # steps so large that the loss does not rise at each

Trace = dict[str, Tensor]


def every_option_acts(subject: Subject) -> str:
    """Another value of any option changes the losses, the weights, the state or what the method needs."""
    if subject.twin_of is not None:
        raise NotApplicable(f"its options are those of {subject.twin_of}")
    settings = subject.settings()
    if not settings:
        return "no options"
    search = OptionSearch(subject, settings)
    idle = [text for name in settings for text in search.idle(name)]
    if idle:
        raise BrokenLawError(
            f"{'; '.join(idle)}.",
            hint="remove the option, or correct the code that should use it.\n"
            "If it has an effect only together with another option, write beside Config: "
            'option_context = {"this": {"other": value}}\n'
            'If another value has an effect: option_values = {"this": (value,)}\n'
            "Toy training has three epochs; options named _epochs scale with them.",
        )
    shown = [
        f"{name} seen with {context}" if context else f"{name} not tried: free text"
        for name, context in search.together.items()
    ]
    return "; ".join(shown)


class OptionSearch:
    """Searches for settings under which an option has an effect."""

    def __init__(self, subject: Subject, settings: Mapping[str, Any]) -> None:
        self.subject, self.settings = subject, settings
        self.together: dict[str, str] = {}  # the other settings that an option needs
        self._traces: dict[str, Trace] = {}
        self._errors: dict[tuple[str, Any], Exception] = {}

    def idle(self, name: str) -> Iterator[str]:
        """Messages about values without effect: all numbers of an option, or a word."""
        option = option_of(self.subject, name)
        tried = self.subject.option_values.get(name) or alternatives(option, self.settings[name])
        if not tried and option.annotation == "str":
            self.together[name] = ""  # free text: no other value can be derived
            return
        if not tried:
            yield f"{name}: no other value can be derived from {option.annotation}"
            return
        tried = tuple(value for value in tried if accepted(self.subject, **{name: value}))
        if not tried:
            yield f"{name}: Config refuses every other value that was tried"
            return
        declared = dict(self.subject.option_context.get(name, {}))
        numbers = tuple(
            value for value in tried if isinstance(value, int | float) and not isinstance(value, bool)
        )
        words = () if numbers else tried
        for value in words:  # each word has to have an effect, but only one number
            if not self._acts(name, (value,), declared):
                yield f"{name}={value!r} gives the same as {self.settings[name]!r}{self._failed(name, words)}"
        if numbers and not self._acts(name, tried, declared):
            shown = f"{', '.join(map(repr, tried))} instead of {self.settings[name]!r}"
            yield f"{name} has no effect ({shown}){self._failed(name, tried)}"

    def _acts(self, name: str, values: tuple[Any, ...], declared: Mapping[str, Any]) -> bool:
        for context in self._contexts(name, declared):
            if any(self._differs(name, value, context) for value in values):
                if context:
                    self.together[name] = ", ".join(f"{key}={value!r}" for key, value in context.items())
                return True
        return False

    def _contexts(self, name: str, declared: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Settings in which the option may have an effect: as they are, or with another option changed."""
        yield dict(declared)
        if declared:
            return
        for other, value in self.settings.items():
            if other != name:
                for choice in alternatives(option_of(self.subject, other), value):
                    number = isinstance(choice, int | float) and not isinstance(choice, bool)
                    if not number and accepted(self.subject, **{other: choice}):
                        yield {other: choice}
        yield from self._pairs(name)

    def _pairs(self, name: str) -> Iterator[dict[str, Any]]:
        """Settings in which two other flags or words are changed, or one other number."""
        words: list[tuple[str, Any]] = []
        numbers: list[tuple[str, Any]] = []
        for other, value in self.settings.items():
            choices = alternatives(option_of(self.subject, other), value) if other != name else ()
            for choice in choices:
                number = isinstance(choice, int | float) and not isinstance(choice, bool)
                (numbers if number else words).append((other, choice))
        changes = [dict(pair) for pair in itertools.combinations(words, 2) if pair[0][0] != pair[1][0]]
        for change in [*({other: choice} for other, choice in numbers), *changes][:MOST_CONTEXTS]:
            if accepted(self.subject, **change):
                yield change

    def _differs(self, name: str, value: Any, context: Mapping[str, Any]) -> bool:
        if not accepted(self.subject, **{**context, name: value}):
            return False
        for situation in SITUATIONS:
            before = self._trace(situation, context)
            after = self._trace(situation, {**context, name: value})
            if not before or not after:
                continue
            if diverged(before) and diverged(after):  # NaN equals NaN, whatever the option
                self._errors.setdefault((name, value), ArithmeticError("the loss is not finite"))
            elif toys.differences(before, after):
                return True
        return False

    def _trace(self, situation: str, options: Mapping[str, Any]) -> Trace:
        """All numbers of a short training; empty when it fails with these options."""
        key = f"{situation} {sorted(options.items())}"
        if key not in self._traces:
            try:
                self._traces[key] = trace(self.subject, situation, options)
            except Exception as error:  # a value that Config accepts may still be impossible
                self._traces[key] = {}
                if situation != ABSENT:  # which a method may refuse, whatever its options
                    self._errors.update(dict.fromkeys(options.items(), error))
        return self._traces[key]

    def _failed(self, name: str, values: tuple[Any, ...]) -> str:
        """The error of training with one of `values`, if there was one."""
        for value in values:
            if (error := self._errors.get((name, value))) is not None:
                return f"; training with {name}={value!r} fails: {type(error).__name__}: {error}"
        return ""


def diverged(values: Trace) -> bool:
    """Whether a loss is not finite."""
    return not bool(torch.isfinite(values["losses"]).all())


def trace(subject: Subject, situation: str, options: Mapping[str, Any]) -> Trace:
    """Losses, the needs of the method, and weights, BatchNorm statistics and state after each epoch."""
    method, awkward = subject.build(**options), situation in ("awkward statistics", ABSENT)
    # Where the method draws the classes itself, so many images that each class is drawn.
    repeats = 8 if method.resolved_needs().sampling else 1
    training = Training(
        method,
        labels=UNBALANCED * repeats,
        steps=2 if situation == IN_ONE_BATCH else STEPS,
        awkward=awkward,
        held_out=(1,) if awkward else (6, 1),  # enough for accuracies that vary; the last batch is smaller
        model=copy.deepcopy(settled()),
        budget=LONG if situation == "a long attack" else toys.BUDGET,
    )
    if situation == IN_ONE_BATCH:
        training.missing = 3
    if situation == ABSENT:
        training.later_labels = torch.tensor(WITHOUT_CLASS_2 * repeats)
    values: Trace = {}
    for need, value in dataclasses.asdict(method.resolved_needs()).items():
        text = sorted(value) if isinstance(value, set | frozenset) else value
        values[f"needs {need} {text}"] = torch.ones(())
    for epoch in range(1, EPOCHS + 1):
        kept = training.run(until=(epoch + 1, "start")).tensors()
        values |= {f"{epoch} {name}": value for name, value in kept.items() if not name.startswith("sums.")}
    return {**values, "losses": torch.stack(training.losses)}


@functools.cache
def settled() -> toys.ToyNetwork:
    """A network whose predictions, and so its class statistics, vary."""
    return toys.settled()


def option_of(subject: Subject, name: str) -> Option:
    """The option as the registry describes it."""
    (config_field,) = (each for each in dataclasses.fields(subject.cls.Config) if each.name == name)
    kind = config_field.type
    annotation = kind if isinstance(kind, str) else _written(kind)
    return Option(name, annotation, subject.settings()[name])


def _written(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def alternatives(option: Option, value: Any) -> tuple[Any, ...]:
    """Other values of the option's type: other words, the other flag, numbers around, None or a number."""
    allowed = option.allowed
    if allowed is None:
        return ()
    values: list[Any] = [choice for choice in allowed.choices if choice is not None]
    if "bool" in allowed.types:
        values.append(not value)
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if "float" in allowed.types:
        middle = 1.0 if number is None else float(number)
        values += [middle / 2, middle * 2, middle + 0.1, middle - 0.1, 0.0, 1.0, 0.5, -middle]
    elif "int" in allowed.types:
        whole = 1 if number is None else int(number)
        values += [whole + 1, whole - 1, whole // 2, whole * 2, 0, 1, 2, 3]
    if None in allowed.choices:
        values.insert(0, None)
    different: list[Any] = []
    for each in values:
        if not any(each == other and type(each) is type(other) for other in (value, *different)):
            different.append(each)
    return tuple(different)
