"""What a law is, the method it is held against, and what came out."""

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

NUM_CLASSES = 4
KIT = f"{Path(__file__).parent}{os.sep}"
HOUSE = f"{Path(__file__).parents[1]}{os.sep}"
WATCHING = {f"{KIT}law.py", f"{KIT}device_laws.py"}
TORCH = f"{Path(torch.__file__).parent}{os.sep}"


class BrokenLawError(FairbenchError):
    """The method breaks a law: what happened (`message`) and what its author can do about it (`hint`)."""

    exit_code = 1


class NotApplicable(Exception):
    """The law says nothing about this method; the text says why."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A method under test: its class and its settings.

    `config` are the settings on top of the class's own defaults; epochs in them are those of toy training.
    `option_context` are settings under which an option acts, `option_values` other values to try for it.
    `twin_of` names the entry with the same code, whose options are tested there.
    """

    name: str
    cls: type[AdversarialObjective]
    config: Mapping[str, Any] = field(default_factory=dict)
    option_context: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    option_values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    twin_of: str | None = None

    def build(
        self, num_classes: int = NUM_CLASSES, device: torch.device = toys.CPU, **options: Any
    ) -> AdversarialObjective:
        """A fresh objective with the settings and `options` on top."""
        config = build_config(self.cls, {**self.config, **options})
        return self.cls(config, toys.info(num_classes), device)

    def settings(self) -> dict[str, Any]:
        """Every option with its value."""
        return dataclasses.asdict(build_config(self.cls, self.config))


@dataclass(frozen=True)
class Law:
    """One thing that the contract promises of every method.

    `function` raises BrokenLawError or NotApplicable and may return a remark, or one with a number. It is
    not asked when a law in `requires` is broken, because its answer would only repeat that.
    """

    name: str
    sentence: str
    function: Callable[[Subject], str | tuple[str, float] | None]
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a law said about a method."""

    law: Law
    state: Literal["ok", "FAILED", "skipped"]
    remark: str = ""  # what was found, or why it failed or was skipped
    hint: str = ""  # what to do about a failure
    number: float | None = None  # what a law measured, such as the relative cost
    seconds: float = 0.0
    error: BaseException | None = None


class Trial:
    """A method on its way through the laws; each is asked once."""

    def __init__(self, subject: Subject, laws: Mapping[str, Law]) -> None:
        self.subject, self.laws = subject, laws
        self._known: dict[str, Outcome] = {}

    def outcome(self, name: str) -> Outcome:
        """What the law `name` says."""
        if name not in self._known:
            self._known[name] = self._ask(self.laws[name])
        return self._known[name]

    def _ask(self, law: Law) -> Outcome:
        for earlier in law.requires:
            if self.outcome(earlier).state == "FAILED":
                return Outcome(law, "skipped", f"says nothing while '{earlier}' is broken")
        for earlier in law.requires:  # skipped itself because of a third one
            if self.outcome(earlier).remark.startswith("says nothing while"):
                return Outcome(law, "skipped", self.outcome(earlier).remark)
        began = time.perf_counter()
        with torch.random.fork_rng(
            devices=[]
        ):  # whoever draws from the global generator disturbs nobody else
            torch.manual_seed(0)
            found = self._verdict(law)
        return replace(found, seconds=time.perf_counter() - began)

    def _verdict(self, law: Law) -> Outcome:
        try:
            found = law.function(self.subject)
        except NotApplicable as reason:
            return Outcome(law, "skipped", str(reason))
        except FairbenchError as error:
            return Outcome(law, "FAILED", error.message, error.hint, error=error)
        except (Exception, SystemExit) as error:  # a method may raise anything
            return Outcome(law, "FAILED", *described(error), error=error)
        remark, number = found if isinstance(found, tuple) else (found or "", None)
        return Outcome(law, "ok", remark, number=number)


def described(error: BaseException) -> tuple[str, str]:
    """An error that is not ours as one line, and the line of the method that raised it."""
    text = str(error).splitlines()[0] if str(error) else ""
    line = authors_line(error)
    return f"{type(error).__name__}: {text}", f"raised at {line}" if line else ""


def authors_line(error: BaseException | None = None) -> str:
    """Where in the method's code `error` was raised, or this function called: file:line: code.

    The innermost line that is neither torch's nor ours; ours, where it was inherited; "" in the toys.
    """
    walked = (
        traceback.walk_stack(sys._getframe())
        if error is None
        else reversed(list(traceback.walk_tb(error.__traceback__)))
    )
    house = None
    watching = True
    for frame, number in walked:  # the innermost first
        file = frame.f_code.co_filename
        watching = watching and (file in WATCHING or file.startswith(TORCH))
        if watching:
            continue
        if file.startswith(KIT):
            if file == f"{KIT}toys.py":
                house = None
            break
        if file.startswith(HOUSE):
            house = house or (file, number)
        elif not file.startswith((TORCH, "<")):
            house = (file, number)
            break
    if house is None:
        return ""
    return f"{Path(house[0]).name}:{house[1]}: {linecache.getline(*house).strip()}"


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
