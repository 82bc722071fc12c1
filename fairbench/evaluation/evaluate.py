"""Attack the test images and return the prediction for each of them."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairbench.attacks.budget import Budget
from fairbench.attacks.frozen import frozen
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.margin import margin
from fairbench.attacks.network import Network
from fairbench.attacks.pgd import pgd
from fairbench.attacks.search import BATCH_SIZE
from fairbench.core.errors import ConfigError
from fairbench.data.images import ImageSet, check_labels, check_unit_range, to_unit
from fairbench.evaluation.a3 import run_a3
from fairbench.evaluation.adversarial_examples import AdversarialExamples
from fairbench.evaluation.autoattack import run_autoattack
from fairbench.evaluation.campaign import Campaign, Stage
from fairbench.evaluation.health import check_model
from fairbench.evaluation.journal import Journal
from fairbench.evaluation.verdicts import CHUNK, full_precision, logits_of, require_inside
from fairbench.metrics.masking import Finding, black_box_wins
from fairbench.models.folding import folded
from fairbench.objectives.losses import cross_entropy
from fairbench.records.progress import Progress
from fairbench.registry.attacks import A3Attack, AttackEntry, AutoAttack, PgdAttack

LOSSES = {"ce": cross_entropy, "margin": margin}
CHECKED = 128  # images on which the model is checked before an evaluation


@dataclass
class Outcomes:
    """One row per test image: label, prediction (under the attack) and whether it counts as correct.

    `columns` are further verdicts (N,) bool. `about` describes the evaluation: passes by stage, and findings
    of the model check. `adversarial` are the adversarial examples of an ensemble attack.
    """

    label: np.ndarray
    prediction: np.ndarray
    correct: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    adversarial: AdversarialExamples | None = None


def evaluate(
    model: nn.Module,
    images: ImageSet,
    attack: AttackEntry | None,
    *,
    batch_size: int = BATCH_SIZE,
    journal: Journal | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcomes:
    """Outcomes of `attack` on all images in order; `attack` None: clean images, and the model check.

    The result does not depend on `batch_size`, nor on interruptions (a `journal` continues after them).
    Raises DataError for images outside [0, 1] and for outputs that are not finite, ConfigError for a
    model that these attacks cannot evaluate.
    """
    check_labels(images.labels, images.num_classes)
    _require_float32(model)
    with frozen(model), full_precision():
        if isinstance(attack, AutoAttack | A3Attack):
            return _run_ensemble(model, images, attack, batch_size, journal or Journal(None), progress)
        about: dict[str, Any] = {}
        if attack is None:
            about["health"] = [asdict(finding) for finding in _check_health(model, images)]
        parts: list[dict[str, Tensor]] = []
        began = time.perf_counter()
        for first in range(0, len(images.labels), batch_size):
            x = to_unit(images.images[first : first + batch_size], torch.float32)
            y = images.labels[first : first + batch_size]
            check_unit_range(x)
            parts.append(_evaluate_batch(model, x, y, attack, first, images.num_classes))
            done = (first + len(y)) / len(images.labels)
            wrong = sum(int((~part["correct"]).sum()) for part in parts) / len(images.labels)
            left = (time.perf_counter() - began) * (1 - done) / done
            progress(Progress("", done, 1 - wrong, left))
        about["stages"] = [_single_stage(attack, parts, time.perf_counter() - began)]
    joined = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
    return Outcomes(
        images.labels.cpu().numpy(), joined.pop("prediction"), joined.pop("correct"), joined, about
    )


def _evaluate_batch(
    model: nn.Module, x: Tensor, y: Tensor, attack: PgdAttack | None, first: int, num_classes: int
) -> dict[str, Tensor]:
    """Prediction and verdicts, (B,) each, of the images from position `first` on."""
    if attack is None:
        prediction = logits_of(model, x).argmax(1)
        return {"prediction": prediction, "correct": prediction == y}
    draws = ImageDraws(attack.seed, torch.arange(first, first + len(y)))
    return pgd_outcomes(model, x, y, attack, draws, targets(y, attack, draws, num_classes))


def _require_float32(model: nn.Module) -> None:
    dtypes = (parameter.dtype for parameter in model.parameters())
    other = next((d for d in dtypes if d.is_floating_point and d != torch.float32), None)
    if other is not None:
        raise ConfigError(
            f"the model's weights are {str(other).removeprefix('torch.')}; evaluation needs float32.",
            hint="convert it: model.float()",
        )


def _check_health(model: nn.Module, images: ImageSet) -> list[Finding]:
    """Findings of the model check on the first images."""
    x = to_unit(images.images[:CHECKED])
    check_unit_range(x)
    return check_model(model, x, images.labels[:CHECKED], images.num_classes)


def _single_stage(attack: PgdAttack | None, parts: list[dict[str, Tensor]], seconds: float) -> dict[str, Any]:
    """The single stage of an evaluation without an ensemble."""
    correct = torch.cat([part["correct"] for part in parts])
    count, steps = len(correct), 0 if attack is None else attack.num_steps
    stage = Stage("clean" if attack is None else "pgd", count, int((~correct).sum()))
    stage.forward, stage.backward, stage.seconds = count * (steps + 1), count * steps, seconds
    return asdict(stage)


def _run_ensemble(
    model: nn.Module,
    images: ImageSet,
    attack: AutoAttack | A3Attack,
    batch_size: int,
    journal: Journal,
    progress: Callable[[Progress], None],
) -> Outcomes:
    """Outcomes after all parts of an ensemble, with the adversarial examples."""
    _check_health(model, images)  # only for the errors; the clean evaluation reports its findings
    for part in torch.split(images.images, CHUNK):
        check_unit_range(to_unit(part))
    example = to_unit(images.images[:CHECKED])
    if isinstance(attack, AutoAttack) and attack.engine == "reference":
        network = Network(model)
    else:
        dtype = torch.bfloat16 if attack.precision == "bfloat16" else None
        network = Network(folded(model, example, dtype), dtype)
    campaign = Campaign(
        model, network, images, attack.eps, attack.norm, attack.seed, journal, batch_size, progress
    )
    if isinstance(attack, AutoAttack):
        run_autoattack(campaign, attack)
    else:
        run_a3(campaign)
    columns = {f"survived_{name}": robust.numpy() for name, robust in campaign.survived.items()}
    about: dict[str, Any] = {"stages": [asdict(stage) for stage in campaign.stages.values()]}
    about["health"] = [asdict(finding) for finding in _warnings(campaign)]
    return Outcomes(
        campaign.label.numpy(),
        campaign.prediction.numpy(),
        campaign.robust.numpy(),
        columns,
        about,
        campaign.adversarial_examples(),
    )


def pgd_images(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack: PgdAttack,
    draws: ImageDraws,
    *,
    target: Tensor | None = None,
    observe: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Adversarial images (B, ch, H, W) of PGD for x with labels y (B,), or towards `target` (B,).

    Raises ContractError when the result is outside the budget.
    """
    loss = LOSSES[attack.loss]

    def maximised(logits: Tensor) -> Tensor:
        return loss(logits, y) if target is None else -loss(logits, target)

    x_adv = pgd(
        model,
        x,
        maximised,
        budget=Budget(attack.eps, attack.step_size, attack.num_steps, attack.norm),
        start="uniform-unclipped" if attack.start == "uniform" and not attack.clip_start else attack.start,
        rng=draws,
        observe=observe,
    )
    require_inside(x, x_adv, attack.eps, attack.norm)
    return x_adv


def targets(y: Tensor, attack: PgdAttack, draws: ImageDraws, num_classes: int) -> Tensor | None:
    """The random target class (B,) of each image; None for an untargeted attack."""
    return draws.of("target").other_class(y, num_classes) if attack.target == "random" else None


def pgd_outcomes(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack: PgdAttack,
    draws: ImageDraws,
    target: Tensor | None = None,
) -> dict[str, Tensor]:
    """PGD: prediction at the last iterate, and correctness by both definitions of robust; (B,) each.

    `correct_last`, correct at the last iterate, is the evaluation in the tables of the DAFA and TRIX papers;
    `correct_every_step`, correct after each of the K steps, is what their programs log in training. `correct`
    is the one chosen by `attack.success`. With a `target` (B,), `reached_target` is whether the last iterate
    is classified as the target.
    """
    every = torch.ones_like(y, dtype=torch.bool)

    def observe(k: int, iterate: Tensor, logits: Tensor) -> None:
        if k > 0:  # the start is not a result of the attack
            every.logical_and_(logits.argmax(1) == y)

    x_adv = pgd_images(model, x, y, attack, draws, target=target, observe=observe)
    prediction = logits_of(model, x_adv).argmax(1)
    last = prediction == y
    every &= last
    correct = every if attack.success == "every-step" else last
    rows = {"prediction": prediction, "correct": correct, "correct_last": last, "correct_every_step": every}
    return rows if target is None else {**rows, "reached_target": prediction == target}


def _warnings(campaign: Campaign) -> list[Finding]:
    """A finding when Square, which uses no gradients, breaks many images that are robust to gradients."""
    before = [robust for name, robust in campaign.survived.items() if name != "square"]
    after = campaign.survived.get("square")
    if after is None or not before:
        return []
    finding = black_box_wins(float(before[-1].float().mean()), float(after.float().mean()))
    return [] if finding is None else [finding]
