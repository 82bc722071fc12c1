"""Averages of the weights over training: EMA, FAWA and SWA behind one small interface."""

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from fairbench.attacks.pgd import pgd
from fairbench.data.batch import Batch
from fairbench.objectives.contract import Context, LossTerms
from fairbench.objectives.losses import cross_entropy
from fairbench.registry.components import Averaging

Tensors = tuple[Tensor, ...] | list[Tensor]


def robust_validation(model: nn.Module, batch: Batch, ctx: Context) -> LossTerms:
    """FAWA's measure: PGD on the cross-entropy in the protocol's ball (CFA, arXiv 2303.14460)."""
    x_adv = pgd(
        model,
        batch.x,
        lambda logits: cross_entropy(logits, batch.y),
        budget=ctx.budget,
        start="uniform",
        rng=ctx.rng("attack"),
    )
    return LossTerms(logits=model(batch.x), logits_adv=model(x_adv))


class WeightAverage:
    """The average of a model's weights, in a copy of it. Training itself is never touched.

    Float buffers (BatchNorm's statistics) are averaged like weights, copied or recomputed; counters are cut
    to whole numbers.
    """

    def __init__(self, settings: Averaging, model: nn.Module) -> None:
        self.settings = settings
        self.averaged = AveragedModel(
            model, multi_avg_fn=self._mix, use_buffers=settings.batch_norm in (None, "average")
        )

    @property
    def started(self) -> bool:
        """Whether anything has been averaged yet."""
        return bool(self.averaged.n_averaged)

    def after_step(self, model: nn.Module, epoch: int) -> None:
        """EMA's update."""
        if self.settings.kind == "ema" and epoch >= (self.settings.start_epoch or 1):
            self.averaged.update_parameters(model)

    def after_epoch(
        self, model: nn.Module, epoch: int, worst: Callable[[], float]
    ) -> dict[str, float | bool]:
        """FAWA's and SWA's update; what happened, for the epoch's record.

        `worst` measures the robust accuracy of the worst validation class; it is asked by FAWA only.
        """
        if self.settings.kind == "ema" or epoch < (self.settings.start_epoch or 1):
            return {"accepted": self.started}
        if self.settings.kind == "swa":
            self.averaged.update_parameters(model)
            return {"accepted": True}
        robust = worst()
        accepted = self.accept(model, robust)
        return {"accepted": accepted, "worst_validation_accuracy": robust}

    def accept(self, model: nn.Module, worst: float) -> bool:
        """FAWA's gate: take `model` into the average when its worst class is robust enough."""
        accepted = worst >= (self.settings.threshold or 0.0)
        if accepted:
            self.averaged.update_parameters(model)
        return accepted

    def weights(self, clean_batches: Callable[[], Iterable[Tensor]]) -> Mapping[str, Tensor]:
        """The averaged weights; BatchNorm's statistics are recomputed on `clean_batches` where asked for."""
        module: nn.Module = self.averaged.module
        if self.settings.batch_norm == "recompute":
            update_bn(clean_batches(), module)
        return module.state_dict()

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that a resume needs."""
        return dict(self.averaged.state_dict())

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Put back what `state_dict` gave."""
        self.averaged.load_state_dict(saved)

    def _mix(self, average: Tensors, current: Tensors, _: Tensor | int) -> None:
        """average <- decay * average + (1 - decay) * current, with the decay of this update."""
        t = int(self.averaged.n_averaged)  # updates so far, a counter on the CPU: the device is not asked
        if self.settings.kind == "swa":
            decay = t / (t + 1)
        else:
            decay = self.settings.decay or 0.0
            if self.settings.warmup:
                decay = min(decay, (1 + t) / (10 + t))
        get_ema_multi_avg_fn(decay)(average, current, t)
