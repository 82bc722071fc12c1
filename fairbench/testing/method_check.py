"""Test a method against every law of the contract: the work of `fairbench check`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fairbench.registry import Registry, load_registry
from fairbench.testing.law import Outcome, Trial
from fairbench.testing.laws import LAWS
from fairbench.testing.subjects import registered, subject


@dataclass(frozen=True)
class MethodCheck:
    """The outcomes of all laws for one method."""

    name: str
    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the laws that the method breaks."""
        return tuple(outcome.law.name for outcome in self.outcomes if outcome.state == "FAILED")

    def to_json(self) -> dict[str, Any]:
        """What `check --json` prints of the method."""
        return {
            "ok": not self.broken,
            "laws": {
                outcome.law.name: {
                    "sentence": outcome.law.sentence,
                    "state": outcome.state.lower(),
                    "remark": outcome.remark,
                    "hint": outcome.hint,
                    "seconds": round(outcome.seconds, 3),
                }
                for outcome in self.outcomes
            },
            "relative_cost": next(o.number for o in self.outcomes if o.law.name == "cost"),
            "seconds": round(self.seconds, 3),
        }


def check_method(
    registry: Registry, name: str, report: Callable[[Outcome], None] = lambda outcome: None
) -> MethodCheck:
    """Hold a registered method against the laws, on toy images and the CPU.

    `report` is called with each outcome as soon as it is known. Sets torch to one thread: the networks are
    too small for more. Raises PluginError for a method that cannot be loaded.
    """
    torch.set_num_threads(1)
    began, outcomes = time.perf_counter(), []
    trial = Trial(subject(registry, name), LAWS)
    for law in LAWS:
        outcomes.append(trial.outcome(law))
        report(outcomes[-1])
    return MethodCheck(name, tuple(outcomes), time.perf_counter() - began)


def methods_to_check(method: str, registry_files: Sequence[Path] = ()) -> tuple[Registry, list[str]]:
    """The registry and the names that `method` means: a name, a .py file, or "all".

    Raises UnknownNameError for an unknown name, PluginError for a file that cannot be used.
    """
    if method == "all":
        registry = load_registry(registry_files)
        return registry, registry.names("method")
    registry, name = registered(method, registry_files)
    registry.get("method", name, asked_by=f"check {method}")
    return registry, [name]
