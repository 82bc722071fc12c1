"""Averages of the weights over training: EMA, FAWA and SWA."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fairbench.registry.components import Averaging


class WeightAverage:
    """The average of a model's weights, in a copy of the model. The training itself does not change.

    Float buffers (BatchNorm's statistics) are averaged like weights, copied or recomputed, as the settings
    say; counters are rounded down to integers.
    """

    def __init__(self, settings: Averaging, model: nn.Module) -> None:
        self.settings = settings
        self.averaged = deepcopy(model)
        self.updates = 0

    @property
    def started(self) -> bool:
        """Whether the average has had its first update."""
        return self.updates > 0

    def after_step(self, model: nn.Module, epoch: int) -> None:
        """Update an EMA. It does not wait for the device."""
        if self.settings.kind == "ema" and epoch >= (self.settings.start_epoch or 1):
            self._update(model)

    def after_epoch(
        self, model: nn.Module, epoch: int, worst: Callable[[], float]
    ) -> dict[str, float | bool]:
        """Update a FAWA or SWA; returns entries for the epoch's record.

        `worst` measures the robust accuracy of the worst validation class; only FAWA calls it.
        """
        entries: dict[str, float | bool] = {}
        if self.settings.kind != "ema" and epoch >= (self.settings.start_epoch or 1):
            if self.settings.kind == "fawa":
                entries["worst_validation_accuracy"] = worst()
                entries["accepted"] = entries["worst_validation_accuracy"] >= (self.settings.threshold or 0.0)
            if entries.get("accepted", True):
                self._update(model)
        return {**entries, "started": self.started}

    def weights(self, clean_batches: Callable[[], Iterable[Tensor]]) -> Mapping[str, Tensor]:
        """The averaged weights; the settings may ask for BatchNorm statistics of `clean_batches`."""
        if self.settings.batch_norm == "recompute":
            recompute_batch_norm(self.averaged, clean_batches())
        return self.averaged.state_dict()

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights and the number of updates, for a resume."""
        return {**self.averaged.state_dict(), "updates": torch.tensor(self.updates)}

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Restore a `state_dict`."""
        weights = dict(saved)
        self.updates = int(weights.pop("updates"))
        self.averaged.load_state_dict(weights)

    @torch.no_grad()
    def _update(self, model: nn.Module) -> None:
        if self.updates == 0:
            self.averaged.load_state_dict(model.state_dict())
        else:
            pairs: list[tuple[Tensor, Tensor]] = [
                *zip(self.averaged.parameters(), model.parameters(), strict=True)
            ]
            buffers = list(zip(self.averaged.buffers(), model.buffers(), strict=True))
            if self.settings.batch_norm in (None, "average"):
                pairs += buffers
            else:
                for mine, current in buffers:
                    mine.copy_(current)
            mix = get_ema_multi_avg_fn(self._decay())
            for dtype in {mine.dtype for mine, _ in pairs}:
                alike = [pair for pair in pairs if pair[0].dtype == dtype]
                mix([mine for mine, _ in alike], [current for _, current in alike], self.updates)
        self.updates += 1

    def _decay(self) -> float:
        """The weight of the old average in this update."""
        t = self.updates
        if self.settings.kind == "swa":
            return t / (t + 1)
        decay = self.settings.decay or 0.0
        return min(decay, (1 + t) / (10 + t)) if self.settings.warmup else decay


def without_average(settings: Averaging, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning if evaluated epochs (records `rows`) have no average yet; an empty list otherwise."""
    kind, start = settings.kind, settings.start_epoch or 1
    plain = [row["epoch"] for row in rows if not row["average"]["started"]]
    if not plain:
        return []
    if start > plain[-1]:
        why = f"{kind} was to start in epoch {start}"
    else:
        why = f"no worst validation class had reached {kind}'s threshold {settings.threshold:g}"
    epochs = f"epoch {plain[0]}" if len(plain) == 1 else f"epochs {plain[0]}-{plain[-1]}"
    return [f"evaluated without an average in {epochs}: {why}"]


@torch.no_grad()
def recompute_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """BatchNorm's running statistics as means over `batches`, each image counted once."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta, training = [layer.momentum for layer in layers], model.training
    for layer in layers:
        layer.reset_running_stats()
    model.train()
    seen = 0
    for x in batches:
        seen += len(x)
        for layer in layers:
            layer.momentum = len(x) / seen
        model(x)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.train(training)
