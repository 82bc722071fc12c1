"""Components that use trained weights: the start of a fine-tuning, and teachers.

The weights are those of another method's cell, which is trained first, or of a file.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from fairbench.core.teachers import TEACHERS as TEACHERS
from fairbench.registry.fields import Milestones, Model, Number, added_later, wrong

FINE_TUNE = "fine_tune"
ZOO = "robustbench:"
"""Begins the name of a network of the RobustBench zoo."""

_SOURCES = ("start", "weights")
"""Where weights come from: a method or a file. One replaces the other."""


class FineTune(Model):
    """Start from trained weights instead of random ones; fewer epochs and a small learning rate."""

    start: str | None = Field(
        default=None, description="method that trains the first weights, under the same protocol; trades"
    )
    weights: str | None = added_later(
        None, description="file with the first weights, for the cell's network, in place of a start"
    )
    epochs: int = Field(default=40, ge=1, description="epochs after those of the start")
    lr: Number = Field(default=0.001, gt=0)
    milestones: Milestones = Field(default={}, description="as in a protocol; none: a constant learning rate")
    nesterov: bool = False
    fixed: bool | None = Field(
        default=None, description="on: epochs and milestones do not scale with the length of the run"
    )
    hold_out: bool = Field(default=True, description="whether the start also leaves the held-out images out")

    @model_validator(mode="before")
    @classmethod
    def _starts_somewhere(cls, data: Any) -> Any:
        if isinstance(data, dict) and not any(data.get(source) for source in _SOURCES):
            return {**data, "start": "trades"}
        return data

    @model_validator(mode="after")
    def _one_source(self) -> "FineTune":
        _check_sources(self)
        return self


class Teacher(Model):
    """A trained network that does not change, for methods that learn from its outputs."""

    start: str | None = Field(default=None, description="method that trains it, under the same protocol")
    weights: str | None = Field(default=None, description="file with its weights, in place of a start")
    model: str | None = Field(
        default=None,
        description="its network, by default that of the method; for weights also robustbench:NAME",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Teacher":
        if self.start is None and self.weights is None:
            raise wrong("expected 'start', a method that trains it, or 'weights', a file")
        _check_sources(self)
        return self


def _check_sources(component: FineTune | Teacher) -> None:
    if component.start is not None and component.weights is not None:
        raise wrong("'start' and 'weights' are both given: choose one", "weights")


def combined(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` of a component with those of `own` in their place; a start also replaces weights."""
    kept = dict(settings)
    if any(own.get(source) for source in _SOURCES):
        for source in _SOURCES:
            kept.pop(source, None)
    return {**kept, **own}
