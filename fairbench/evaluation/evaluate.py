"""Attack the test images and say, for each, what the model predicted."""

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
from fairbench.evaluation.progress import Progress
from fairbench.evaluation.verdicts import full_precision, logits_of, require_inside
from fairbench.metrics.masking import Finding, black_box_wins
from fairbench.models.folding import folded
from fairbench.objectives.losses import cross_entropy
from fairbench.registry.attacks import A3Attack, AttackEntry, AutoAttack, PgdAttack

LOSSES = {"ce": cross_entropy, "margin": margin}
CHECKED = 128  # images that the model's health is checked on


@dataclass
class Outcomes:
    """One row per test example: label, prediction (under the attack) and whether it counts as correct.

    `columns` are further verdicts (N,) bool. `about` is how they came about: passes by stage, findings
    on the model's health. `evidence` holds the adversarial images of those that an ensemble broke.
    """

    label: np.ndarray
    prediction: np.ndarray
    correct: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    evidence: AdversarialExamples | None = None


def evaluate(
    model: nn.Module,
    images: ImageSet,
    attack: AttackEntry | None,
    *,
    batch_size: int = BATCH_SIZE,
    journal: Journal | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcomes:
    """Outcomes of `attack` on all images in order; None means no attack (clean, and the model's health).

    The result does not depend on `batch_size`, nor on interruptions behind which a `journal` continues.
    Raises DataError for images outside [0, 1] and for outputs that are not finite, ConfigError for a
    model that these attacks cannot judge.
    """
    check_labels(images.labels, images.num_classes)
    _require_float32(model)
    with frozen(model), full_precision():
        if isinstance(attack, AutoAttack | A3Attack):
            return _ensemble(model, images, attack, batch_size, journal or Journal(None), progress)
        about: dict[str, Any] = {}
        if attack is None:
            about["health"] = [asdict(finding) for finding in _health(model, images)]
        parts: list[dict[str, Tensor]] = []
        began = time.perf_counter()
        for first in range(0, len(images.labels), batch_size):
            x = to_unit(images.images[first : first + batch_size], torch.float32)
            y = images.labels[first : first + batch_size]
            check_unit_range(x)
            parts.append(_batch(model, x, y, attack, first, images.num_classes))
            done = (first + len(y)) / len(images.labels)
            fallen = sum(int((~part["correct"]).sum()) for part in parts) / len(images.labels)
            left = (time.perf_counter() - began) * (1 - done) / done
            progress(Progress("", done, 1 - fallen, left))
        about["stages"] = [_single_stage(attack, parts, time.perf_counter() - began)]
    joined = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
    return Outcomes(
        images.labels.cpu().numpy(), joined.pop("prediction"), joined.pop("correct"), joined, about
    )


def _batch(
    model: nn.Module, x: Tensor, y: Tensor, attack: PgdAttack | None, first: int, num_classes: int
) -> dict[str, Tensor]:
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
            f"the model's weights are {str(other).removeprefix('torch.')}; verdicts are made in float32.",
            hint="convert it: model.float()",
        )


def _health(model: nn.Module, images: ImageSet) -> list[Finding]:
    x = to_unit(images.images[:CHECKED])
    check_unit_range(x)
    return check_model(model, x, images.labels[:CHECKED], images.num_classes)


def _single_stage(attack: PgdAttack | None, parts: list[dict[str, Tensor]], seconds: float) -> dict[str, Any]:
    """The only stage of an attack that is no ensemble."""
    correct = torch.cat([part["correct"] for part in parts])
    count, steps = len(correct), 0 if attack is None else attack.num_steps
    stage = Stage("clean" if attack is None else "pgd", count, int((~correct).sum()))
    stage.forward, stage.backward, stage.seconds = count * (steps + 1), count * steps, seconds
    return asdict(stage)


def _ensemble(
    model: nn.Module,
    images: ImageSet,
    attack: AutoAttack | A3Attack,
    batch_size: int,
    journal: Journal,
    progress: Callable[[Progress], None],
) -> Outcomes:
    """What still stands after all parts of an ensemble, each image that fell with its evidence."""
    _health(model, images)  # what it reports is told with the clean evaluation; here it may refuse
    for part in torch.split(images.images, 1024):
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
    columns = {f"survived_{name}": standing.numpy() for name, standing in campaign.survived.items()}
    about: dict[str, Any] = {"stages": [asdict(stage) for stage in campaign.stages.values()]}
    about["health"] = [asdict(finding) for finding in _warnings(campaign)]
    return Outcomes(
        campaign.label.numpy(),
        campaign.prediction.numpy(),
        campaign.standing.numpy(),
        columns,
        about,
        campaign.evidence(),
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
    """What PGD makes of images x (B, ch, H, W): away from their classes y (B,), or towards `target` (B,).

    Raises ContractError when it leaves its budget.
    """
    loss = LOSSES[attack.loss]

    def raised(logits: Tensor) -> Tensor:
        return loss(logits, y) if target is None else -loss(logits, target)

    x_adv = pgd(
        model,
        x,
        raised,
        budget=Budget(attack.eps, attack.step_size, attack.num_steps, attack.norm),
        start="uniform-unclipped" if attack.start == "uniform" and not attack.clip_start else attack.start,
        rng=draws,
        observe=observe,
    )
    require_inside(x, x_adv, attack.eps, attack.norm)
    return x_adv


def targets(y: Tensor, attack: PgdAttack, draws: ImageDraws, num_classes: int) -> Tensor | None:
    """The wrong class (B,) that each image is moved towards; None for an attack without targets."""
    return draws.of("target").other_class(y, num_classes) if attack.target == "random" else None


def pgd_outcomes(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack: PgdAttack,
    draws: ImageDraws,
    target: Tensor | None = None,
) -> dict[str, Tensor]:
    """PGD: prediction at the last iterate, and correctness by both notions of robust.

    `correct_last` is the evaluation of the DAFA and TRIX papers' tables; `correct_every_step`, right
    after each of the K steps, is what their programs log in training. `correct` is the one that
    `attack.success` asks for. With a `target` (B,), `reached_target` says whether
    the last iterate is taken for it.
    """
    every = torch.ones_like(y, dtype=torch.bool)

    def observe(k: int, iterate: Tensor, logits: Tensor) -> None:
        if k > 0:  # the start is not an attack's result
            every.logical_and_(logits.argmax(1) == y)

    x_adv = pgd_images(model, x, y, attack, draws, target=target, observe=observe)
    prediction = logits_of(model, x_adv).argmax(1)
    last = prediction == y
    every &= last
    correct = every if attack.success == "every-step" else last
    found = {"prediction": prediction, "correct": correct, "correct_last": last, "correct_every_step": every}
    return found if target is None else {**found, "reached_target": prediction == target}


def _warnings(campaign: Campaign) -> list[Finding]:
    """Square, which knows no gradients, finding what the gradients missed."""
    before = [standing for name, standing in campaign.survived.items() if name != "square"]
    after = campaign.survived.get("square")
    if after is None or not before:
        return []
    finding = black_box_wins(float(before[-1].float().mean()), float(after.float().mean()))
    return [] if finding is None else [finding]
