"""Mixed images (Mixup, CutMix): what the house does so that a method needs to know one label only.

With an image of two labels y and y2 and the share lam of y, every value phi(x, y) of a method becomes
lam phi(x, y) + (1 - lam) phi(x, y2), its class weights, radii and steps included. What knows no label stays
as it is. Targets, statistics and whatever else needs one label take y, the dominant one.
"""

from collections.abc import Callable, Iterator
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

ADVICE = "keep the forwards of loss() independent of the labels, or declare Needs(one_label=True)"


def budget_of(objective: AdversarialObjective, batch: Batch, ctx: Context) -> Budget:
    """The budget of each sample; of a mixed image that of both labels by their shares."""
    first = objective.budget(batch.y, ctx)
    if batch.y2 is None or batch.lam is None:
        return first
    return first.mixed(objective.budget(batch.y2, ctx), batch.lam)


def as_attacked(batch: Batch) -> Batch:
    """The batch for `perturb`: its labels are those of both images, which a cross-entropy mixes."""
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
    """The loss of the batch; of mixed images that of both labels by their shares, from the same outputs.

    `loss` is asked once for each label. The second time the network is not run: it gives back the outputs of
    the first, so that BatchNorm sees every image once. With `check` the images have to be the same.
    """
    if batch.y2 is None or batch.lam is None:
        return objective.loss(model, batch, adversary, ctx)
    outputs = Outputs(model, objective.name, check)
    with outputs.kept():
        first = objective.loss(model, Batch(batch.x, batch.y, batch.index), adversary, ctx)
    with outputs.given_back():
        second = objective.loss(model, Batch(batch.x, batch.y2, batch.index), adversary, ctx)
    return first.mixed(second, batch.lam)


class Outputs:
    """The outputs of a network in the order of its forwards, to be given back in the same order."""

    def __init__(self, model: nn.Module, name: str, check: bool) -> None:
        self.model, self.name, self.check = model, name, check
        self.seen: list[tuple[Any, Any]] = []  # what went in, what came out

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Forwards are run and kept."""
        run = self.model.forward

        def forward(*inputs: Any, **options: Any) -> Any:
            output = run(*inputs, **options)
            self.seen.append((inputs, output))
            return output

        with self._instead(forward):
            yield

    @contextmanager
    def given_back(self) -> Iterator[None]:
        """Forwards give what they gave before. Raises ContractError when they are not those."""
        left = iter(self.seen)

        def forward(*inputs: Any, **options: Any) -> Any:
            expected, output = next(left, (None, None))
            if expected is None or not self._same(expected, inputs):
                raise self._fault()
            return output

        with self._instead(forward):
            yield
        if next(left, None) is not None:
            raise self._fault()

    @contextmanager
    def _instead(self, forward: Callable[..., Any]) -> Iterator[None]:
        own = vars(self.model).get("forward")
        setattr(self.model, "forward", forward)  # noqa: B010 (mypy: a method cannot be assigned)
        try:
            yield
        finally:
            if own is None:
                del self.model.forward
            else:
                setattr(self.model, "forward", own)  # noqa: B010

    def _same(self, expected: Any, inputs: Any) -> bool:
        """Whether these are the images of the first time; their values are compared where that is asked."""
        for before, now in zip(expected, inputs, strict=False):
            if isinstance(before, Tensor) and before is not now:
                if not isinstance(now, Tensor) or before.shape != now.shape:
                    return False
                if self.check and not torch.equal(before, now):
                    return False
        return len(expected) == len(inputs)

    def _fault(self) -> ContractError:
        return ContractError(
            f"method {self.name!r}: loss() shows the network other images for other labels, "
            "so that mixed images have no single output.",
            hint=ADVICE,
        )
