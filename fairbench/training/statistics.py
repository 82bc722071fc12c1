"""Class statistics of an epoch, summed on the device without a host sync."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fairbench.data.batch import Batch
from fairbench.objectives.classes import class_indicator
from fairbench.objectives.contract import EpochStats
from fairbench.objectives.loss_terms import LossTerms
from fairbench.objectives.losses import log_probabilities


class EpochTotals:
    """Running sums of one epoch, all float64 tensors, so that they can be saved in the middle of it.

    Each sum stays at its place in memory, because a CUDA graph writes there. A mixed image counts for its
    dominant class with the share of that class, if the share is at least `min_share`.
    """

    def __init__(
        self,
        num_classes: int,
        wanted: Iterable[str],
        device: torch.device,
        *,
        watched: Iterable[str] = (),
        min_share: float = 0.0,
    ) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.num_classes, self.min_share = num_classes, min_share
        self.sums = {
            "count": zeros(num_classes),
            "clean_correct": zeros(num_classes),
            "clean_seen": zeros(),
            "robust_correct": zeros(num_classes),
            "robust_seen": zeros(),
            "loss": zeros(),
            "steps": zeros(),
            "excess": torch.full((), -torch.inf, dtype=torch.float64, device=device),
        }
        for table in {"robust_probability", "robust_confusion"} & set(wanted):
            self.sums[table] = zeros(num_classes, num_classes)
        for name in sorted(watched):
            self.sums[f"watched.{name}"] = zeros(num_classes)

    @torch.no_grad()
    def add(
        self, batch: Batch, terms: LossTerms, reduced: dict[str, Tensor], loss: Tensor, excess: Tensor
    ) -> None:
        """Count one batch: its loss, the class-wise hits and how far `perturb` left its budget (B,).

        Of a skipped step only the number and the budget count.
        """
        sums = self.sums
        torch.maximum(sums["excess"], excess.max().double(), out=sums["excess"])
        if terms.skipped:
            sums.setdefault("skipped", torch.zeros_like(sums["steps"])).add_(1)
            return
        indicator = class_indicator(batch.y, self.num_classes, torch.float64)  # (B, C)
        if batch.lam is not None:
            credit = batch.lam.double() * (batch.lam >= self.min_share)  # (B,)
            indicator = indicator * credit[:, None]
        sums["count"] += indicator.sum(0)
        for kind, logits in (("clean", terms.logits), ("robust", terms.logits_adv)):
            if logits is not None:
                hit = (logits.argmax(1) == batch.y).double()
                sums[f"{kind}_correct"] += hit @ indicator
                sums[f"{kind}_seen"] += len(hit)
        if "robust_probability" in sums and terms.logits_adv is not None:
            sums["robust_probability"] += indicator.T @ log_probabilities(terms.logits_adv).exp().double()
        if "robust_confusion" in sums and terms.logits_adv is not None:
            predicted = class_indicator(terms.logits_adv.argmax(1), self.num_classes, torch.float64)
            sums["robust_confusion"] += indicator.T @ predicted
        for name, value in terms.watch.items():
            sums[f"watched.{name}"] += value.double() @ indicator
        for name, value in reduced.items():
            sums.setdefault(f"term.{name}", torch.zeros_like(sums["loss"])).add_(value.detach().double())
        sums["loss"] += loss.detach().double()
        sums["steps"] += 1

    def stats(self) -> EpochStats:
        """The epoch's class statistics; NaN for what was never seen."""
        sums = self.sums

        def rate(kind: str) -> Tensor:
            return torch.where(sums[f"{kind}_seen"] > 0, sums[f"{kind}_correct"] / sums["count"], torch.nan)

        absent = torch.zeros(0, dtype=torch.float64)
        probability = sums.get("robust_probability", absent)
        return EpochStats(
            count=sums["count"],
            clean_accuracy=rate("clean"),
            robust_accuracy=rate("robust"),
            robust_probability=probability / sums["count"][:, None] if len(probability) else probability,
            robust_confusion=sums.get("robust_confusion", absent),
            watched={name: value / sums["count"] for name, value in under("watched.", sums).items()},
        )

    def mean_loss(self) -> float:
        """Mean of the batch losses so far; NaN or infinite when training diverged, 0 without any."""
        return float(self.sums["loss"] / self.sums["steps"].clamp(min=1))

    def skipped_steps(self) -> int:
        """Number of steps that the method skipped."""
        return int(self.sums.get("skipped", 0))

    def mean_terms(self) -> dict[str, float]:
        """Mean over batches of each loss term."""
        steps = float(self.sums["steps"])  # those that were not skipped
        return {name: float(value) / steps for name, value in under("term.", self.sums).items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of `tensors` whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def numbers(value: Tensor | float) -> Any:
    """Plain numbers for a record; None for NaN, which JSON cannot hold."""
    plain = value.detach().double().cpu().tolist() if isinstance(value, Tensor) else float(value)
    return json.loads(json.dumps(plain), parse_constant=lambda _: None)
