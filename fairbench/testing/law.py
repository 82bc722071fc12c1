"""A law of the contract, the method under test, and the outcome."""

import dataclasses
import linecache
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from fairbench.core.errors import ConfigError, FairbenchError
from fairbench.objectives.contract import AdversarialObjective, build_config
from fairbench.testing import toys
from fairbench.training.networks import first_line

NUM_CLASSES = 4
KIT = f"{Path(__file__).parent}{os.sep}"
PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
WATCHING = {f"{KIT}{name}.py" for name in ("law", "attack_laws", "class_laws", "device_laws", "shown_laws")}
TOYS = f"{KIT}toys.py"
TORCH = f"{Path(torch.__file__).parent}{os.sep}"


class BrokenLawError(FairbenchError):
    """The method breaks a law. `message`: what happened; `hint`: what its author can change."""

    exit_code = 1


class NotApplicable(Exception):
    """The law does not apply to this method, for the reason in the text."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A method under test: its class and its settings.

    `config` has the settings that differ from the defaults of the class, with epochs of toy training.
    `option_context` has settings under which an option has an effect, `option_values` other values to try for
    it. `path` is the file of the method, if it has one of its own. `twin_of` is the entry with the same code,
    whose options are tested there.
    """

    name: str
    cls: type[AdversarialObjective]
    config: Mapping[str, Any] = field(default_factory=dict)
    option_context: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    option_values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    twin_of: str | None = None
    path: Path | None = None

    def build(
        self,
        num_classes: int = NUM_CLASSES,
        device: torch.device = toys.CPU,
        permutation: torch.Tensor | None = None,
        **options: Any,
    ) -> AdversarialObjective:
        """A new objective with the settings, of which `options` replaces some.

        `permutation` (C,) renames the classes.
        """
        config = build_config(self.cls, {**self.config, **options})
        return self.cls(config, toys.info(num_classes, permutation), device)

    def settings(self) -> dict[str, Any]:
        """Every option with its value."""
        return dataclasses.asdict(build_config(self.cls, self.config))


@dataclass(frozen=True)
class Law:
    """One requirement of the contract, with the test of it.

    `function` raises BrokenLawError or NotApplicable, and may return a remark, or a remark and a number. It
    is not called when a law in `requires` is broken, because it would only report the same fault again.
    """

    name: str
    sentence: str
    function: Callable[[Subject], str | tuple[str, float] | None]
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of a law for a method."""

    law: Law
    state: Literal["ok", "FAILED", "skipped"]
    remark: str = ""  # what was noticed, or why it failed or was skipped
    hint: str = ""  # what to do after a failure
    number: float | None = None  # a measured value, such as the relative cost
    seconds: float = 0.0
    error: BaseException | None = None


class Trial:
    """Tests a method against `laws`, each at most once."""

    def __init__(self, subject: Subject, laws: Mapping[str, Law]) -> None:
        self.subject, self.laws = subject, laws
        self._outcomes: dict[str, Outcome] = {}

    def outcome(self, name: str) -> Outcome:
        """The outcome of the law `name`."""
        if name not in self._outcomes:
            self._outcomes[name] = self._test(self.laws[name])
        return self._outcomes[name]

    def _test(self, law: Law) -> Outcome:
        for earlier in law.requires:
            if self.outcome(earlier).state == "FAILED":
                return Outcome(law, "skipped", f"not tested, because '{earlier}' is broken")
        for earlier in law.requires:  # itself not tested because of a third one
            if self.outcome(earlier).remark.startswith("not tested, because"):
                return Outcome(law, "skipped", self.outcome(earlier).remark)
        began = time.perf_counter()
        with torch.random.fork_rng(devices=[]):  # a method may draw from the global generator
            torch.manual_seed(0)
            outcome = self._verdict(law)
        return replace(outcome, seconds=time.perf_counter() - began)

    def _verdict(self, law: Law) -> Outcome:
        try:
            result = law.function(self.subject)
        except NotApplicable as reason:
            return Outcome(law, "skipped", str(reason))
        except FairbenchError as error:
            return Outcome(law, "FAILED", error.message, error.hint, error=error)
        except (Exception, SystemExit) as error:  # a method may raise anything
            return Outcome(law, "FAILED", *described(error), error=error)
        remark, number = result if isinstance(result, tuple) else (result or "", None)
        return Outcome(law, "ok", remark, number=number)


def described(error: BaseException) -> tuple[str, str]:
    """An error that is not fairbench's as one line, and the line of the method that raised it."""
    line = authors_line(error)
    return first_line(error), f"raised at {line}" if line else ""


def authors_line(error: BaseException | None = None) -> str:
    """The line of the method's code that raised `error`, or that led to this call, as "file:line: code".

    It is the innermost line outside of torch and fairbench; if there is none, because the method inherits the
    code, that of fairbench; "" in the toy images. The toy network counts for the line that calls it.
    """
    frames = (
        traceback.walk_stack(sys._getframe())
        if error is None
        else reversed(list(traceback.walk_tb(error.__traceback__)))
    )
    place = None
    watching = True
    for frame, number in frames:  # the innermost first
        file = frame.f_code.co_filename
        watching = watching and (file in WATCHING or file.startswith(TORCH))
        if watching or (file == TOYS and frame.f_code.co_name == "forward"):
            continue
        if file.startswith(KIT):
            if file == TOYS:
                place = None
            break
        if file.startswith(PACKAGE):
            place = place or (file, number)
        elif not file.startswith((TORCH, "<")):
            place = (file, number)
            break
    if place is None:
        return ""
    return f"{Path(place[0]).name}:{place[1]}: {linecache.getline(*place).strip()}"


def require(condition: Any, message: str, hint: str = "") -> None:
    """Raise BrokenLawError unless `condition` holds."""
    if not condition:
        raise BrokenLawError(message, hint=hint)


def accepted(subject: Subject, **options: Any) -> bool:
    """Whether the method's Config takes these options."""
    try:
        build_config(subject.cls, {**subject.config, **options})
    except ConfigError:
        return False
    return True
