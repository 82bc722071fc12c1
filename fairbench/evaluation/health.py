"""Checks of a model on a few images before an evaluation: can these attacks measure its robustness?

Source     The checks of AutoAttack (Croce and Hein, ICML 2020, arXiv 2003.01690) and the rules of
           RobustBench (Croce et al., 2021, arXiv 2010.09670). The check that outputs do not depend on the
           other images of the batch is our addition.
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

PASSES = 5  # forward passes on the same images; AutoAttack's value
REPEAT_TOLERANCE = 1e-4  # distance of normalised logits between two passes; AutoAttack's value
SPLIT_TOLERANCE = 1e-3  # between batch sizes, which may use other kernels with other rounding
SUM_TOLERANCE = 1e-5  # of a row of probabilities; AutoAttack's value


def check_model(model: nn.Module, x: Tensor, y: Tensor, num_classes: int) -> list[Finding]:
    """Findings that matter to a reader of the results; for a frozen model in eval mode.

    Uses images x (B, ch, H, W) with labels y (B,) and about eight passes. Raises DataError for images outside
    [0, 1], and ConfigError for a model in training mode, or whose outputs have another shape than
    (B, num_classes), are not finite, are probabilities, are random, depend on the other images of the batch,
    or have no gradient.
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
            hint="BatchNorm and dropout then make outputs depend on chance and on the other images;\n"
            "make sure that train(False) reaches every module",
        )


def require_logits(logits: Any, size: int, num_classes: int) -> None:
    """Raise ConfigError unless a model's outputs for `size` images are logits (size, num_classes)."""
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (size, num_classes):
        raise ConfigError(
            f"the model's outputs for {size} images are {shape}, not one logit for each of {num_classes} "
            f"classes, {(size, num_classes)}.",
            hint="check that the model was trained on this data set",
        )
    if not bool(torch.isfinite(logits).all()):
        raise ConfigError(
            "the model's outputs are not finite, so it cannot be evaluated.",
            hint="its training diverged, the weights are damaged, or its precision is too low",
        )
    unit = (logits >= 0) & (logits <= 1 + SUM_TOLERANCE)
    whole = (logits.sum(1) - 1).abs() < SUM_TOLERANCE
    if bool(unit.all() & whole.all()):
        raise ConfigError(
            "the model's outputs are probabilities: attacks need the logits before the softmax.",
            hint="remove the last softmax; it makes margin-based attacks too weak",
        )


def _require_repeatable(passes: list[Tensor], y: Tensor) -> None:
    counts = {int((logits.argmax(1) == y).sum()) for logits in passes}
    unit = torch.stack([F.normalize(logits, dim=1) for logits in passes])  # (K, B, C)
    spread = float((unit[:, None] - unit[None]).norm(dim=-1).max())
    if len(counts) > 1 or not spread <= REPEAT_TOLERANCE:
        raise ConfigError(
            f"the model gives different outputs for the same images (normalised logits differ by "
            f"{spread:.2g}): it uses random numbers, or changes itself at test time.",
            hint="randomised and adaptive models need special attacks, which fairbench does not have;\n"
            "switch the randomness or the adaptation off",
        )


def _require_independent(model: nn.Module, x: Tensor, together: Tensor) -> None:
    """Compare with the outputs in three smaller batches, in reversed order."""
    parts = [model(part) for part in x.flip(0).split(max(1, len(x) // 3))]
    apart = torch.cat(parts).flip(0)
    spread = float((F.normalize(apart, dim=1) - F.normalize(together, dim=1)).norm(dim=1).max())
    if not spread <= SPLIT_TOLERANCE:
        raise ConfigError(
            f"the model's outputs for an image depend on the rest of the batch (normalised logits differ "
            f"by {spread:.2g}).",
            hint="BatchNorm with batch statistics does this; use running statistics",
        )


def _gradient_findings(model: nn.Module, x: Tensor, y: Tensor) -> list[Finding]:
    """Findings from the calls of one forward pass, and from the gradient of the cross-entropy."""
    findings = []
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
            "the model's outputs have no gradient with respect to its images.",
            hint="attacks need this gradient; look for detach(), no_grad() and numpy in the forward pass",
        )
    if watch.seen:
        findings.append(
            Finding(
                "dynamic",
                "the model computes gradients inside its forward pass (a defence that optimises at test "
                "time): these attacks may be too weak for it",
            )
        )
    unusable = int((~_usable(gradient)).sum())
    if unusable:
        findings.append(
            Finding(
                "no-gradient",
                f"the gradient of the cross-entropy is zero or not finite for {unusable} of {len(x)} images: "
                "gradient-based attacks cannot work there",
            )
        )
    return findings


def _usable(gradient: Tensor) -> Tensor:
    """Which gradients (B, ...) are finite and not zero: (B,) bool."""
    flat = gradient.flatten(1)
    return (flat != 0).any(1) & flat.isfinite().all(1)


BACKWARD_CALLS = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)


class BackwardWatch(TorchFunctionMode):
    """Inside `with`, sets `seen` when a backward pass is called.

    `torch.func` and `torch.autograd.functional` use these calls too. Nothing is patched or traced, so
    debuggers and coverage keep working.
    """

    seen = False

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the call."""
        self.seen |= func in BACKWARD_CALLS
        return func(*args, **(kwargs or {}))
