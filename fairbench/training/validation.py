"""Measure a network on held-out images, class by class."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from fairbench.attacks.frozen import frozen
from fairbench.core.errors import ContractError
from fairbench.data.batch import Batch
from fairbench.objectives.classes import class_indicator
from fairbench.objectives.contract import Context, ValidationStats
from fairbench.objectives.loss_terms import LossTerms
from fairbench.objectives.teachers import once

Validate = Callable[[nn.Module, Batch, Context], LossTerms]
"""Returns terms and logits of a batch, as `AdversarialObjective.validate` does."""


def measure(
    model: nn.Module,
    validate: Validate,
    batches: Iterable[tuple[Batch, Context]],
    *,
    num_classes: int,
    batch_size: int,
) -> ValidationStats:
    """The class means, in float64, of what `validate` returns for all `batches`.

    The model is frozen and in eval mode: parameters, BatchNorm statistics and gradients stay as they are.
    """
    sums: dict[str, Tensor] = {}
    with frozen(model), torch.no_grad():
        for batch, ctx in batches:
            terms = validate(model, batch, replace(ctx, teacher=once(ctx.teacher, batch.x)))
            if terms.skipped:
                raise ContractError(
                    "validate() returned LossTerms.skip(), but held-out images are all measured.",
                    hint="define validate() to return the terms of every batch",
                )
            indicator = class_indicator(batch.y, num_classes, torch.float64)  # (B, C)
            values = {f"term.{name}": value for name, value in terms.terms.items() if value.dim() > 0}
            for kind, logits in (("clean", terms.logits), ("robust", terms.logits_adv)):
                if logits is not None:
                    values[kind] = logits.argmax(1) == batch.y
            for name, value in {"count": torch.ones_like(batch.y), **values}.items():
                added = value.double() @ indicator
                sums[name] = sums[name] + added if name in sums else added
    count = sums.pop("count")
    means = {name: value / count for name, value in sums.items()}
    unknown = torch.full_like(count, torch.nan)
    return ValidationStats(
        count=count,
        clean_accuracy=means.pop("clean", unknown),
        robust_accuracy=means.pop("robust", unknown),
        terms={name.removeprefix("term."): value for name, value in means.items()},
        batch_size=batch_size,
    )
