"""Toy trainings that several laws use, run once per method."""

import copy
import functools
from dataclasses import dataclass

from torch import Tensor, nn

from fairbench.objectives.contract import AdversarialObjective
from fairbench.testing.device_laws import Operations
from fairbench.testing.law import Subject
from fairbench.testing.training import UNBALANCED, Training


@dataclass(frozen=True)
class ToyRun:
    """A finished training. Laws must not change it."""

    training: Training
    left: dict[str, Tensor]  # all tensors at its end
    drawn: frozenset[str]  # random operations that the method called

    def ends(self) -> tuple[AdversarialObjective, nn.Module]:
        """Copies of the method and the model at the end."""
        method, model = copy.deepcopy((self.training.method, self.training.model))
        return method, model.train()


@functools.lru_cache(maxsize=4)
def trained(subject: Subject, *, awkward: bool = False) -> ToyRun:
    """The training with measured class statistics, or with awkward ones."""
    with Operations() as seen:
        training = Training(subject.build(), labels=UNBALANCED, awkward=awkward).run()
    return ToyRun(training, left_behind(training), frozenset(seen.drawn))


def left_behind(training: Training) -> dict[str, Tensor]:
    """All tensors at the end of a training, and its last loss."""
    return {**training.tensors(), "last loss": training.losses[-1]}
