"""What the contract requires of a method's budget, attack and loss, each checked with a precise message."""

import torch
from torch import Tensor, nn

from fairbench.attacks.budget import BUDGET_TOLERANCE, Budget, excess, lengths
from fairbench.core.errors import ContractError
from fairbench.data.batch import Batch
from fairbench.objectives.contract import AdversarialObjective, Adversary
from fairbench.objectives.loss_terms import LossTerms
from fairbench.training.statistics import EpochTotals


def by_name(adversary: Adversary) -> dict[str, Tensor]:
    """What `perturb` returned, by name; a single tensor is x_adv."""
    return {"x_adv": adversary} if isinstance(adversary, Tensor) else dict(adversary)


def images_of(batch: Batch, adversary: Adversary) -> dict[str, Tensor]:
    """The adversarial images in what `perturb` returned, by name."""
    return {name: value for name, value in by_name(adversary).items() if value.shape == batch.x.shape}


def worst_excess(batch: Batch, adversary: Adversary, budget: Budget) -> Tensor:
    """How far each sample leaves its budget in the worst of its images: (B,)."""
    images = images_of(batch, adversary).values()
    return torch.stack([excess(batch.x, image, budget) for image in images]).amax(0)


def check_share(objective: AdversarialObjective, share: Tensor) -> None:
    """Raise ContractError unless the shares of the classes are (C,) numbers of at least 0, not all 0."""
    expected = (objective.info.num_classes,)
    if share.shape != expected:
        raise ContractError(
            f"method {objective.name!r}: class_share() has shape {tuple(share.shape)}.",
            hint=f"return one share per class, {expected}",
        )
    if not bool(torch.isfinite(share).all() & (share >= 0).all() & (share.sum() > 0)):
        raise ContractError(
            f"method {objective.name!r}: class_share() returned {[round(v, 4) for v in share.tolist()]}.",
            hint="return shares of at least 0 that are not all 0",
        )


def check_adversary(
    objective: AdversarialObjective, batch: Batch, adversary: Adversary, budget: Budget
) -> None:
    """Raise ContractError unless every adversarial image is finite, in [0, 1] and in its own ball."""
    images = images_of(batch, adversary)
    if not images:
        raise ContractError(
            f"method {objective.name!r}: perturb() returned no images of shape {tuple(batch.x.shape)}.",
            hint="return x_adv, or a dict of such tensors",
        )
    for name, value in by_name(adversary).items():
        if value.shape[1:] == batch.x.shape[1:] and name not in images:
            raise ContractError(
                f"method {objective.name!r}: {name} holds {len(value)} images for a batch of {len(batch)}.",
                hint="return images of the batch's shape, several kinds under several names",
            )
    for name, image in images.items():
        if image.dtype != batch.x.dtype or image.device != batch.x.device:
            raise ContractError(
                f"method {objective.name!r}: {name} is {image.dtype} on {image.device}, "
                f"the batch is {batch.x.dtype} on {batch.x.device}."
            )
        if not bool(torch.isfinite(image).all()):
            raise ContractError(f"method {objective.name!r}: {name} has values that are not finite.")
        if bool((image < 0).any() | (image > 1).any()):
            raise ContractError(
                f"method {objective.name!r}: {name} leaves [0, 1]: "
                f"{float(image.min()):.4f} to {float(image.max()):.4f}."
            )
        outside = excess(batch.x, image, budget)
        wrong = outside > BUDGET_TOLERANCE
        if bool(wrong.any()):
            distance = lengths(image - batch.x, budget.norm).flatten()
            worst = int(outside.argmax())
            radius = torch.as_tensor(budget.limit).expand(len(batch))[worst]
            labels = sorted(set(batch.y[wrong].tolist()))
            classes = ", ".join(map(str, labels[:8])) + (", ..." if len(labels) > 8 else "")
            raise ContractError(
                f"method {objective.name!r}: perturb() left the budget: "
                f"|{name} - x| = {float(distance[worst]):.4f} > {float(radius):.4f} "
                f"for {int(wrong.sum())} of {len(batch.y)} samples (classes {classes}).",
                hint="pass budget=ctx.budget to the attack; to widen margins on purpose, override budget()",
            )


def check_untouched(objective: AdversarialObjective, model: nn.Module, before: list[Tensor]) -> None:
    """Raise ContractError when an attack changed a buffer (BatchNorm statistics)."""
    if not all(torch.equal(old, new) for old, new in zip(before, model.buffers(), strict=True)):
        raise ContractError(
            f"method {objective.name!r}: perturb() changed the model's BatchNorm statistics.",
            hint='do not change the mode of the model, or declare Needs(attack_bn="train")',
        )


def check_terms(objective: AdversarialObjective, batch: Batch, terms: LossTerms) -> None:
    """Raise ContractError unless the loss is made of scalars and per-sample terms that carry gradient.

    A skipped step has no loss to check.
    """
    if isinstance(terms, LossTerms) and terms.skipped:
        return
    if not isinstance(terms, LossTerms) or not terms.terms:
        raise ContractError(
            f"method {objective.name!r}: loss() must return LossTerms with at least one term."
        )
    for name, value in terms.terms.items():
        if value.dim() != 0 and value.shape != batch.y.shape:
            raise ContractError(
                f"method {objective.name!r}: the loss term {name!r} has shape {tuple(value.shape)}.",
                hint=f"return one value per sample, {tuple(batch.y.shape)}, or a scalar",
            )
    for name, weight in terms.weight.items():
        if weight.shape != batch.y.shape:
            raise ContractError(
                f"method {objective.name!r}: the weight of {name!r} has shape {tuple(weight.shape)}.",
                hint=f"return one weight per sample, {tuple(batch.y.shape)}: weight[batch.y]",
            )
    for name in [*terms.weight, *terms.divide_by_weight]:
        if name not in terms.terms or name not in terms.weight:
            raise ContractError(
                f"method {objective.name!r}: LossTerms weights {name!r}, which is not a weighted term.",
                hint=f"terms: {', '.join(terms.terms)}; weights: {', '.join(terms.weight) or 'none'}",
            )
    for name in terms.outside_base:
        if name not in terms.terms:
            raise ContractError(
                f"method {objective.name!r}: LossTerms(outside_base=...) names {name!r}, which is no term.",
                hint=f"terms: {', '.join(terms.terms)}",
            )
    if not any(value.requires_grad for value in terms.terms.values()):
        raise ContractError(f"method {objective.name!r}: no loss term carries a gradient to the model.")
    declared = objective.resolved_needs().epoch_stats
    for output, kind in ((terms.logits, "clean"), (terms.logits_adv, "robust")):
        statistics = sorted(name for name in declared if name.startswith(kind))
        if output is None and statistics:
            name = "logits" if kind == "clean" else "logits_adv"
            raise ContractError(
                f"method {objective.name!r} needs {', '.join(statistics)}, but loss() returned no {name}.",
                hint=f"return LossTerms(..., {name}={name})",
            )
    check_watched(objective, batch, terms)


def check_watched(objective: AdversarialObjective, batch: Batch, terms: LossTerms) -> None:
    """Raise ContractError unless the watched values are those that `needs` declares, one per sample."""
    declared = set(objective.resolved_needs().watched)
    for name in sorted(declared ^ set(terms.watch)):
        if name in declared:
            raise ContractError(
                f"method {objective.name!r} needs the watched value {name!r}, but loss() did not return it.",
                hint=f'return LossTerms(..., watch={{"{name}": value}})',
            )
        raise ContractError(
            f"method {objective.name!r}: loss() watches {name!r}, which needs does not declare.",
            hint=f'declare needs = Needs(watched={{"{name}"}})',
        )
    for name, value in terms.watch.items():
        if value.shape != batch.y.shape:
            raise ContractError(
                f"method {objective.name!r}: the watched value {name!r} has shape {tuple(value.shape)}.",
                hint=f"return one value per sample, {tuple(batch.y.shape)}",
            )


def check_epoch(objective: AdversarialObjective, totals: EpochTotals, epoch: int) -> None:
    """Raise ContractError when `perturb` left its budget anywhere in the epoch."""
    largest = float(totals.sums["excess"])
    if not largest <= BUDGET_TOLERANCE:
        raise ContractError(
            f"method {objective.name!r}: perturb() left its budget by {largest:.4g} in epoch {epoch}."
        )
