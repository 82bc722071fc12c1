"""Attack the test images and say, for each, what the model predicted."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from fairbench.attacks.autoattack import autoattack
from fairbench.attacks.budget import BUDGET_TOLERANCE, Budget, excess
from fairbench.attacks.frozen import frozen
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.pgd import pgd
from fairbench.core.errors import ContractError, DataError
from fairbench.data.images import ImageSet, check_unit_range, to_unit
from fairbench.objectives.losses import cross_entropy
from fairbench.registry.schema import AutoAttack, PgdAttack

BATCH_SIZE = 256


@dataclass
class Outcomes:
    """One row per test example: label, prediction (under the attack) and whether it counts as correct."""

    label: np.ndarray
    prediction: np.ndarray
    correct: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)


def evaluate(
    model: nn.Module,
    images: ImageSet,
    attack: PgdAttack | AutoAttack | None,
    *,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcomes:
    """Outcomes of `attack` on all images in order; None means no attack (clean).

    The result does not depend on `batch_size`. Raises DataError for images outside [0, 1].
    """
    size = AUTOATTACK_BATCH if isinstance(attack, AutoAttack) else batch_size
    parts: list[dict[str, Tensor]] = []
    with frozen(model):
        for first in range(0, len(images.labels), size):
            x = to_unit(images.images[first : first + size], torch.float32)
            y = images.labels[first : first + size]
            check_unit_range(x)
            parts.append(_batch(model, x, y, attack, first, images.num_classes))
            progress(first + len(y), len(images.labels))
    joined = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
    return Outcomes(images.labels.cpu().numpy(), joined.pop("prediction"), joined.pop("correct"), joined)


AUTOATTACK_BATCH = 256  # fixed: the package's random draws depend on the batch


def _batch(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack: PgdAttack | AutoAttack | None,
    first: int,
    num_classes: int,
) -> dict[str, Tensor]:
    if attack is None:
        prediction = predict(model, x)
        return {"prediction": prediction, "correct": prediction == y}
    if isinstance(attack, PgdAttack):
        return pgd_outcomes(model, x, y, attack, ImageDraws(attack.seed, first))
    x_adv = autoattack(
        model,
        x,
        y,
        eps=attack.eps,
        seed=attack.seed,
        num_classes=num_classes,
        stages=() if attack.attacks == "standard" else attack.attacks,
        batch_size=len(y),
    )
    require_inside(x, x_adv, attack.eps)
    prediction = predict(model, x_adv)
    return {"prediction": prediction, "correct": prediction == y}


def pgd_outcomes(
    model: nn.Module, x: Tensor, y: Tensor, attack: PgdAttack, draws: ImageDraws
) -> dict[str, Tensor]:
    """PGD on the cross-entropy: prediction at the last iterate, and correctness by both notions of robust.

    `correct_last` is the evaluation of the DAFA and TRIX papers' tables; `correct_every_step`, right
    after each of the K steps, is what their programs log in training. `correct` is the one that
    `attack.success` asks for.
    """
    every = torch.ones_like(y, dtype=torch.bool)

    def observe(k: int, iterate: Tensor, logits: Tensor) -> None:
        if k > 0:  # the start is not an attack's result
            every.logical_and_(logits.argmax(1) == y)

    x_adv = pgd(
        model,
        x,
        lambda logits: cross_entropy(logits, y),
        budget=Budget(attack.eps, attack.step_size, attack.num_steps),
        start="uniform-unclipped" if attack.start == "uniform" and not attack.clip_start else attack.start,
        rng=draws,
        observe=observe,
    )
    prediction = predict(model, x_adv)
    last = prediction == y
    every &= last
    correct = every if attack.success == "every-step" else last
    return {"prediction": prediction, "correct": correct, "correct_last": last, "correct_every_step": every}


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """The most likely class of each image: (B,)."""
    with torch.no_grad():
        logits = model(x)
    if not bool(torch.isfinite(logits).all()):
        raise DataError("the model's outputs are not finite: it cannot be evaluated.")
    return logits.argmax(1)


def require_inside(x: Tensor, x_adv: Tensor, eps: float) -> None:
    """Raise ContractError when an attack's images are outside the ball or [0, 1]."""
    largest = float(excess(x, x_adv, Budget(eps, 0.0, 0)).max())
    if not largest <= BUDGET_TOLERANCE:
        raise ContractError(f"the attack left its budget: |x_adv - x| exceeds {eps:.4f} by {largest:.4g}.")
