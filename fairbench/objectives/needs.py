"""What a method can require from the trainer."""

from dataclasses import dataclass
from typing import Literal, get_args

from fairbench.attacks.frozen import BatchNormMode
from fairbench.core.errors import ContractError
from fairbench.core.teachers import TEACHERS

EPOCH_STATS = frozenset({"clean_accuracy", "robust_accuracy", "robust_probability", "robust_confusion"})
READ_WITHOUT_NAMING = {
    "fairbench_methods.cfa": frozenset({"robust_accuracy"}),
    "fairbench_methods.fairtat": frozenset({"robust_accuracy"}),
}
"""By module, class statistics that a method reads although its needs do not name them.

These files are older than the rule, and a change of their code would make their published results stale."""

VALIDATION_STATS = frozenset({"robust_confusion", "robust_probability"})


@dataclass(frozen=True)
class Needs:
    """What a method needs from the trainer."""

    epoch_stats: frozenset[str] | set[str] = frozenset()
    """Class statistics of the training epoch, see `EpochStats`."""
    watched: frozenset[str] | set[str] = frozenset()
    """Names of values in `LossTerms(watch=...)`; `EpochStats` gets their class means."""
    attack_bn: BatchNormMode = "eval"
    """Statistics of BatchNorm during `perturb`: the running ones ("eval"), or those of the batch, while the
    running ones are updated at each step ("train") or left as they are ("batch")."""
    validation: Literal["start", "end"] | None = None
    """Every epoch, images held out of training go through `validate`, at the "start" (before
    `on_epoch_start`) or "end" (after `on_epoch_end`), and `on_validation` is called with the result."""
    validation_on: Literal["held-out", "training"] = "held-out"
    """"training": the images to train on go through `validate`, cropped and flipped as in the epoch, but
    without `augment`; no image is held out for it."""
    validation_stats: frozenset[str] | set[str] = frozenset()
    """Tables (C, C) in `ValidationStats`: "robust_confusion", "robust_probability"."""
    clean_forward_after_step: bool = False
    """After each update, one train-mode forward pass of the clean batch, which only updates BatchNorm's
    running statistics (as in the programs of CFA and FAIR-TAT, for their log)."""
    one_label: bool = False
    """The method is defined for one label per image only, so Mixup and CutMix are refused."""
    waits: str = ""
    """Why steps wait for the device on purpose, which prevents CUDA graphs; "" if they do not."""
    sampling: Literal["classes"] | None = None
    """Images of each batch are drawn with replacement: a class by `class_share`, then an image of it."""
    teachers: frozenset[str] | set[str] = frozenset()
    """Trained networks that `ctx.teacher` gives, each a component of that name."""

    def __post_init__(self) -> None:
        """Raises ContractError for an unknown value, or for a watched value with the name of a statistic."""
        for name, value, known in (
            ("attack_bn", self.attack_bn, get_args(BatchNormMode)),
            ("validation", self.validation, ("start", "end", None)),
            ("validation_on", self.validation_on, ("held-out", "training")),
            ("sampling", self.sampling, ("classes", None)),
        ):
            if value not in known:
                raise ContractError(
                    f"Needs({name}={value!r}) is unknown.", hint=f"one of: {', '.join(map(repr, known))}"
                )
        if not isinstance(self.waits, str):
            raise ContractError(
                f"Needs(waits={self.waits!r}) gives no reason.",
                hint='write why: Needs(waits="the hard images are selected")',
            )
        for table in sorted(set(self.validation_stats) - VALIDATION_STATS):
            raise ContractError(
                f"Needs(validation_stats=...): there is no table {table!r}.",
                hint=f"one of: {', '.join(sorted(VALIDATION_STATS))}",
            )
        for teacher in sorted(set(self.teachers) - set(TEACHERS)):
            raise ContractError(
                f"Needs(teachers=...): a teacher called {teacher!r} is unknown.",
                hint=f"one of: {', '.join(TEACHERS)}",
            )
        for name in sorted(set(self.watched) & (EPOCH_STATS | {"count"})):
            raise ContractError(
                f"Needs(watched={{{name!r}}}) is the name of a class statistic.", hint="choose another name"
            )
