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
from fairbench.objectives.losses import log_probabilities
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
    tables: Iterable[str] = (),
) -> ValidationStats:
    """The class means, in float64, of what `validate` returns for all `batches`, and `tables` (C, C) by name.

    The model is frozen and in eval mode: parameters, BatchNorm statistics and gradients stay as they are.
    """
    sums: dict[str, Tensor] = {}
    with frozen(model), torch.no_grad():
        for batch, ctx in batches:
            terms = validate(model, batch, replace(ctx, teacher=once(ctx.teacher, batch.x)))
            for name, added in class_sums(terms, batch.y, num_classes, tables).items():
                sums[name] = sums[name] + added if name in sums else added
    count = sums.pop("count")
    class_tables = {name: sums.pop(name) for name in tables}
    if "robust_probability" in class_tables:
        class_tables["robust_probability"] = class_tables["robust_probability"] / count[:, None]
    means = {name: value / count for name, value in sums.items()}
    unknown = torch.full_like(count, torch.nan)
    return ValidationStats(
        count=count,
        clean_accuracy=means.pop("clean", unknown),
        robust_accuracy=means.pop("robust", unknown),
        terms={name.removeprefix("term."): value for name, value in means.items()},
        batch_size=batch_size,
        **class_tables,
    )


def class_sums(terms: LossTerms, y: Tensor, num_classes: int, tables: Iterable[str]) -> dict[str, Tensor]:
    """The sums over the images of each class (C,), in float64, of what `validate` returned, and of `tables`.

    "count" is the number of images. Raises ContractError when the terms lack something.
    """
    if terms.skipped:
        raise ContractError(
            "validate() returned LossTerms.skip(), but held-out images are all measured.",
            hint="define validate() to return the terms of every batch",
        )
    if tables and terms.logits_adv is None:
        raise ContractError(
            "the method needs robust tables of validation, but validate() returned no logits_adv.",
            hint="return LossTerms(..., logits_adv=logits_adv)",
        )
    values = {f"term.{name}": value for name, value in terms.terms.items() if value.dim() > 0}
    for kind, logits in (("clean", terms.logits), ("robust", terms.logits_adv)):
        if logits is not None:
            values[kind] = logits.argmax(1) == y
    indicator = class_indicator(y, num_classes, torch.float64)  # (B, C)
    sums = {name: indicator.T @ rows for name, rows in table_rows(terms, tables).items()}
    for name, value in {"count": torch.ones_like(y), **values}.items():
        sums[name] = value.double() @ indicator
    return sums


def table_rows(terms: LossTerms, tables: Iterable[str]) -> dict[str, Tensor]:
    """For each table the row (B, C), float64, of each image."""
    rows: dict[str, Tensor] = {}
    if terms.logits_adv is not None:
        for name in tables:
            if name == "robust_probability":
                rows[name] = log_probabilities(terms.logits_adv).exp().double()
            else:
                predicted = terms.logits_adv.argmax(1)
                rows[name] = class_indicator(predicted, terms.logits_adv.shape[1], torch.float64)
    return rows
