"""Toy trainings that several laws look at, done once per subject."""

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
    """A training that is over; nobody changes it."""

    training: Training
    left: dict[str, Tensor]  # everything that it leaves behind
    drawn: frozenset[str]  # operations that drew random numbers for the method

    def ends(self) -> tuple[AdversarialObjective, nn.Module]:
        """Copies of the method and the model as they are now."""
        method, model = copy.deepcopy((self.training.method, self.training.model))
        return method, model.train()


@functools.lru_cache(maxsize=4)
def trained(subject: Subject, *, awkward: bool = False) -> ToyRun:
    """Training with its own class statistics, or with awkward ones."""
    with Operations() as seen:
        training = Training(subject.build(), labels=UNBALANCED, awkward=awkward).run()
    return ToyRun(training, left_behind(training), frozenset(seen.drawn))


def left_behind(training: Training) -> dict[str, Tensor]:
    """Everything that training leaves behind, and its last loss."""
    return {**training.tensors(), "last loss": training.losses[-1]}
