"""AWP: loss and gradient at adversarially perturbed weights (Wu, Xia, Wang, 2020, arXiv 2004.05884)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fairbench.data.batch import Batch
from fairbench.objectives.contract import AdversarialObjective, Adversary, Context
from fairbench.objectives.loss_terms import LossTerms
from fairbench.training.mixed_labels import loss_terms

TINY = 1e-20  # leaves a layer without gradient unchanged (official program csdongxian/AWP)


def ascent_direction(
    model: nn.Module,
    objective: AdversarialObjective,
    batch: Batch,
    adversary: Adversary,
    ctx: Context,
    inner: str,
) -> tuple[dict[str, Tensor], LossTerms]:
    """For each weight of more than one dimension the direction of the loss gradient, with the weight's norm.

    Also returns the loss terms at the unperturbed weights; if these skip the step, there is no direction. For
    `inner` "base" the loss has no class weights and regularisers, as in the official programs; for "full" it
    has. Buffers (BatchNorm's statistics) do not change.
    """
    buffers = [buffer.clone() for buffer in model.buffers()]
    terms = loss_terms(objective, model, batch, adversary, ctx)
    if terms.skipped:
        return {}, terms
    weights = {name: p for name, p in model.named_parameters() if p.dim() > 1 and "weight" in name}
    value = terms.base() if inner == "base" else terms.total()
    gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    with torch.no_grad():
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
        direction = {
            name: weight.norm() / (gradient.norm() + TINY) * gradient
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            if gradient is not None
        }
    return direction, terms


@contextmanager
def perturbed(model: nn.Module, direction: Mapping[str, Tensor], gamma: float) -> Iterator[None]:
    """A block in which the weights are moved by gamma * direction."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, step in direction.items():
            parameters[name].add_(step, alpha=gamma)
    yield
    with torch.no_grad():
        for name, step in direction.items():
            parameters[name].sub_(step, alpha=gamma)
