"""Mixed images (Mixup, CutMix): budget and loss for two labels per image, from methods written for one.

An image has the labels y and y2, with the share lam of y. Every value phi(x, y) of a method becomes
lam phi(x, y) + (1 - lam) phi(x, y2), including class weights, radii and step sizes. Values that do not
depend on the label stay as they are. Targets, statistics and everything that needs one label use y, the
dominant one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fairbench.attacks.budget import Budget
from fairbench.attacks.labels import labels
from fairbench.core.errors import ContractError
from fairbench.data.batch import Batch
from fairbench.objectives.contract import AdversarialObjective, Adversary, Context
from fairbench.objectives.loss_terms import LossTerms
from fairbench.training.networks import replaced_forward

ADVICE = "run the network on images that do not depend on batch.y, or declare Needs(one_label=True)"


def budget_of(objective: AdversarialObjective, batch: Batch, ctx: Context) -> Budget:
    """The budget of each sample; for a mixed image the mean over both labels by their shares."""
    first = objective.budget(batch.y, ctx)
    if batch.y2 is None or batch.lam is None:
        return first
    return first.mixed(objective.budget(batch.y2, ctx), batch.lam)


def as_attacked(batch: Batch) -> Batch:
    """The batch for `perturb`; labels of mixed images hold both labels, which a cross-entropy mixes."""
    if batch.y2 is None or batch.lam is None:
        return batch
    return replace(batch, y=labels(batch.y, batch.y2, batch.lam))


def loss_terms(
    objective: AdversarialObjective,
    model: nn.Module,
    batch: Batch,
    adversary: Adversary,
    ctx: Context,
    *,
    check: bool = False,
) -> LossTerms:
    """The loss of the batch; for mixed images the mean over both labels by their shares.

    `loss` is called once per label. In the second call the network returns the outputs of the first call
    without running, so that BatchNorm sees every image once. With `check` the inputs are compared.
    """
    if batch.y2 is None or batch.lam is None:
        return objective.loss(model, batch, adversary, ctx)
    outputs = Outputs(model, objective.name, check)
    with outputs.stored():
        first = objective.loss(model, Batch(batch.x, batch.y, batch.index), adversary, ctx)
    with outputs.replayed():
        second = objective.loss(model, Batch(batch.x, batch.y2, batch.index), adversary, ctx)
    return first.mixed(second, batch.lam)


class Outputs:
    """The outputs of a network in the order of its forward passes, to be returned again in that order."""

    def __init__(self, model: nn.Module, name: str, check: bool) -> None:
        self.model, self.name, self.check = model, name, check
        self.calls: list[tuple[Any, Any]] = []  # inputs and output of each

    @contextmanager
    def stored(self) -> Iterator[None]:
        """A block in which forward passes are run and their outputs stored."""
        run = self.model.forward

        def forward(*inputs: Any, **options: Any) -> Any:
            output = run(*inputs, **options)
            self.calls.append((inputs, output))
            return output

        with replaced_forward(self.model, forward):
            yield

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """A block in which forward passes return the stored outputs; ContractError for other inputs."""
        left = iter(self.calls)

        def forward(*inputs: Any, **options: Any) -> Any:
            expected, output = next(left, (None, None))
            if expected is None or not self._same(expected, inputs):
                raise self._fault()
            return output

        with replaced_forward(self.model, forward):
            yield
        if next(left, None) is not None:
            raise self._fault()

    def _same(self, expected: Any, inputs: Any) -> bool:
        """Whether these are the inputs of the first call; with `check` also their values are compared."""
        for before, now in zip(expected, inputs, strict=False):
            if isinstance(before, Tensor) and before is not now:
                if not isinstance(now, Tensor) or before.shape != now.shape:
                    return False
                if self.check and not torch.equal(before, now):
                    return False
        return len(expected) == len(inputs)

    def _fault(self) -> ContractError:
        return ContractError(
            f"method {self.name!r}: loss() runs the network on images that depend on the labels, "
            "so an image with two labels has no single output.",
            hint=ADVICE,
        )
