"""Whether attacks can judge a model at all: checks on a few images before any verdict is believed.

Source     The checks of AutoAttack (Croce and Hein, ICML 2020, arXiv 2003.01690) and the rules of
           RobustBench (Croce et al., 2021, arXiv 2010.09670); that verdicts do not depend on the rest of
           the batch is ours.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fairbench.core.errors import ConfigError
from fairbench.data.images import check_labels, check_unit_range
from fairbench.metrics.masking import Finding
from fairbench.objectives.losses import cross_entropy

PASSES = 5  # AutoAttack asks a model so often
REPEAT_TOLERANCE = 1e-4  # between logits of length 1 of two passes; AutoAttack's value
SPLIT_TOLERANCE = 1e-3  # between two splits: other batch sizes take other kernels, which round differently
SUM_TOLERANCE = 1e-5  # of a row of probabilities; AutoAttack's value


def check_model(model: nn.Module, x: Tensor, y: Tensor, num_classes: int) -> list[Finding]:
    """What a reader must know of a frozen model in eval mode, from images x (B, ch, H, W), labels y (B,).

    Costs about eight passes. Raises DataError for images outside [0, 1], and ConfigError for a model that
    is in training mode or whose outputs are of another shape than (B, num_classes), not finite,
    probabilities, random, dependent on the other images of the batch, or without any gradient.
    """
    check_unit_range(x)
    check_labels(y, num_classes)
    _require_eval_mode(model)
    with torch.no_grad():
        passes = [model(x)]
        require_logits(passes[0], len(x), num_classes)
        passes += [model(x) for _ in range(PASSES - 1)]
        _require_repeatable(passes, y)
        _require_independent(model, x, passes[0])
    return _gradient_findings(model, x, y)


def _require_eval_mode(model: nn.Module) -> None:
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise ConfigError(
            f"{len(training)} modules of the model stay in training mode after eval(), "
            f"for instance {', '.join(training[:3])}.",
            hint="BatchNorm and dropout then make verdicts depend on chance and on the other images;\n"
            "let train(False) reach every module",
        )


def require_logits(logits: Any, size: int, num_classes: int) -> None:
    """Raise ConfigError unless a model's outputs for `size` images are logits (size, num_classes)."""
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (size, num_classes):
        raise ConfigError(
            f"the model's outputs for {size} images are {shape}, not one logit for each of {num_classes} "
            f"classes, {(size, num_classes)}.",
            hint="is this the data set that the model was trained for?",
        )
    if not bool(torch.isfinite(logits).all()):
        raise ConfigError(
            "the model's outputs are not finite: it cannot be evaluated.",
            hint="its training diverged, the weights are damaged, or its precision is too low",
        )
    unit = (logits >= 0) & (logits <= 1 + SUM_TOLERANCE)
    whole = (logits.sum(1) - 1).abs() < SUM_TOLERANCE
    if bool(unit.all() & whole.all()):
        raise ConfigError(
            "the model's outputs are probabilities: attacks need the logits before the softmax.",
            hint="leave the last softmax out; attacks by margins are too weak behind it",
        )


def _require_repeatable(passes: list[Tensor], y: Tensor) -> None:
    counts = {int((logits.argmax(1) == y).sum()) for logits in passes}
    unit = torch.stack([F.normalize(logits, dim=1) for logits in passes])  # (K, B, C)
    spread = float((unit[:, None] - unit[None]).norm(dim=-1).max())
    if len(counts) > 1 or not spread <= REPEAT_TOLERANCE:
        raise ConfigError(
            f"the model gives other outputs when asked again (normalised logits differ by {spread:.2g}): "
            "it draws random numbers, or adapts itself to what it sees.",
            hint="attacks on random or adapting models need a protocol of their own; switch that off",
        )


def _require_independent(model: nn.Module, x: Tensor, together: Tensor) -> None:
    """The same outputs from a third of the images at a time, in reversed order."""
    parts = [model(part) for part in x.flip(0).split(max(1, len(x) // 3))]
    apart = torch.cat(parts).flip(0)
    spread = float((F.normalize(apart, dim=1) - F.normalize(together, dim=1)).norm(dim=1).max())
    if not spread <= SPLIT_TOLERANCE:
        raise ConfigError(
            f"the model's outputs for an image depend on the rest of the batch (normalised logits differ "
            f"by {spread:.2g}).",
            hint="BatchNorm that uses the batch's own statistics does this; use running ones",
        )


def _gradient_findings(model: nn.Module, x: Tensor, y: Tensor) -> list[Finding]:
    """SearchResult from one forward pass that is watched, and the gradient of the cross-entropy."""
    found = []
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        with BackwardWatch() as watch:
            logits = model(x)
        loss = cross_entropy(logits, y).sum()
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, x, allow_unused=True)
    if gradient is None:
        raise ConfigError(
            "no gradient leads from the model's outputs to its images: its forward pass is cut.",
            hint="attacks need it; look for detach(), no_grad() and numpy in the forward pass",
        )
    if watch.seen:
        found.append(
            Finding(
                "dynamic",
                "the model computes gradients inside its forward pass (a defence that optimises at test "
                "time): these attacks may be too weak for it",
            )
        )
    blocked = int((~_usable(gradient)).sum())
    if blocked:
        found.append(
            Finding(
                "no-gradient",
                f"the gradient of the cross-entropy is zero or not finite for {blocked} of {len(x)} images: "
                "attacks by gradients are blind there",
            )
        )
    return found


def _usable(gradient: Tensor) -> Tensor:
    """Which images' gradients (B, ...) point anywhere: (B,) bool."""
    flat = gradient.flatten(1)
    return (flat != 0).any(1) & flat.isfinite().all(1)


BACKWARD = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)


class BackwardWatch(TorchFunctionMode):
    """Sees the calls into torch while it is on; `seen` once one of them asks for a backward pass.

    `torch.func` and `torch.autograd.functional` end in these calls too. Nothing is patched or traced, so
    debuggers and coverage go on.
    """

    seen = False

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """The call itself."""
        self.seen |= func in BACKWARD
        return func(*args, **(kwargs or {}))
