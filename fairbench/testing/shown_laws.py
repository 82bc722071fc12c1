"""The law of what the network is shown: the images of the batch and of the adversary, and nothing else."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fairbench.objectives.losses import log_probabilities
from fairbench.testing import toys
from fairbench.testing.attack_laws import attack, stages
from fairbench.testing.law import Subject, authors_line, require
from fairbench.training.contract_checks import images_of

SAME = 1e-6  # largest difference of two equal images
RANGE = (-0.25, 1.25)
"""Pixels of the images that an attack may look at: those in [0, 1], and a little more at its start."""
ONLY = "loss() shows the network batch.x and the images that perturb() returned"


@dataclass(frozen=True)
class Forward:
    """A forward pass: the images (N, channels, H, W), the outputs (N, C) and the line that called it."""

    images: Tensor
    logits: Tensor
    attacks: bool  # whether the images take a gradient
    line: str


def shows_what_it_says(subject: Subject) -> str:
    """`loss` shows the network the given images; `logits` and `logits_adv` are the outputs for them."""
    unseen = ""
    for method, model, epoch in stages(subject):
        given = toys.batch()
        with forwards(model) as seen:
            adversary, ctx = attack(method, model, given, toys.context(epoch))
        for forward in seen:
            check_range("perturb", forward)
        with forwards(model) as seen:
            terms = method.loss(model.train(), given, adversary, ctx)
        if not seen:
            unseen = "the network is never called as a whole"
            continue
        known = {"batch.x": given.x, **images_of(given, adversary)}
        for forward in seen:
            check_images(forward, known)
        check_logits("logits", terms.logits, seen, known)
        check_logits("logits_adv", terms.logits_adv, seen, known)
    return unseen


@contextmanager
def forwards(model: nn.Module) -> Iterator[list[Forward]]:
    """The forward passes inside, also those of copies of the network that are made inside."""
    seen: list[Forward] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        (images, *_), line = inputs, authors_line()
        logits = output if isinstance(output, Tensor) else output[0]
        seen.append(Forward(images.detach().clone(), logits.detach().clone(), images.requires_grad, line))

    handle = model.register_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def check_range(part: str, forward: Forward) -> None:
    """Raise BrokenLawError when pixels are far outside of [0, 1]."""
    low, high = float(forward.images.min()), float(forward.images.max())
    require(
        low >= RANGE[0] and high <= RANGE[1],
        f"{part}() shows the network pixels from {low:.2f} to {high:.2f} ({forward.line}).",
        "the network takes images in [0, 1] and normalises them itself",
    )


def check_images(forward: Forward, known: Mapping[str, Tensor]) -> None:
    """Raise BrokenLawError when an image is neither of the batch nor of the adversary."""
    check_range("loss", forward)
    every = torch.cat(list(known.values()))
    strange = distances(forward.images, every).amin(1) > SAME
    if not bool(strange.any()):
        return
    require(
        not forward.attacks,
        f"loss() attacks: it looks for images with the gradient of the network ({forward.line}).",
        "attack in perturb(), which has the frozen network in the declared mode; several images go to "
        "loss() by name in a dict",
    )
    require(
        False,
        f"loss() shows the network {int(strange.sum())} images that are neither in batch.x nor from "
        f"perturb() ({forward.line}).",
        f"{ONLY}; change images in perturb(), within the budget, and normalise none",
    )


def check_logits(
    kind: Literal["logits", "logits_adv"],
    logits: Tensor | None,
    seen: list[Forward],
    known: Mapping[str, Tensor],
) -> None:
    """Raise BrokenLawError unless `logits` are the outputs for the images that `kind` stands for."""
    if logits is None:
        return
    clean = kind == "logits"
    wanted = {name: images for name, images in known.items() if (name == "batch.x") == clean}
    others = {name: images for name, images in known.items() if (name == "batch.x") != clean}
    if answers(logits, seen, wanted):
        return
    advice = (
        f"return as {kind} the outputs for "
        f"{'batch.x' if clean else 'the adversarial images'} unchanged: LossTerms(..., {kind}={kind})"
    )
    require(
        not answers(logits, seen, others),
        f"loss() returns as {kind} the outputs for {', '.join(others)}.",
        f"{advice}; class statistics are computed from logits (clean) and logits_adv (robust)",
    )
    for change in (lambda value: log_probabilities(value).exp(), log_probabilities):
        require(
            not answers(logits, seen, known, change),
            f"loss() returns probabilities as {kind}.",
            f"{advice}, before any softmax",
        )
    require(
        False,
        f"loss() returns as {kind} something else than the outputs for {' or '.join(wanted)}.",
        advice,
    )


def answers(
    logits: Tensor,
    seen: list[Forward],
    known: Mapping[str, Tensor],
    change: Callable[[Tensor], Tensor] = lambda value: value,
) -> bool:
    """Whether each row of `logits` is the (changed) output for this sample's image in one of `known`."""
    answered = torch.zeros(len(logits), dtype=torch.bool)
    for forward in seen:
        output = change(forward.logits)
        if output.shape[1:] != logits.shape[1:]:
            continue
        for images in known.values():
            shown = distances(images, forward.images) <= SAME  # (B, N): image b was shown as row n
            equal = torch.isclose(logits[:, None], output[None], rtol=1e-4, atol=1e-5).all(2)
            answered |= (shown & equal).any(1)
    return bool(answered.all())


def distances(first: Tensor, second: Tensor) -> Tensor:
    """The largest difference of a pixel between images (N, ...) and (M, ...): (N, M)."""
    return torch.cdist(first.flatten(1).double(), second.flatten(1).double(), p=torch.inf)
