"""What a method can require from the trainer."""

from dataclasses import dataclass
from typing import Literal

from fairbench.core.errors import ContractError

EPOCH_STATS = frozenset({"clean_accuracy", "robust_accuracy", "robust_probability", "robust_confusion"})


@dataclass(frozen=True)
class Needs:
    """What a method needs from the trainer.

    `epoch_stats`: class statistics of the training epoch, see `EpochStats`. `attack_bn`: mode of BatchNorm
    during `perturb`; "train" uses batch statistics and updates the running statistics at each step.
    `validation`: every epoch, images held out of training go through `validate`, at the "start" (before
    `on_epoch_start`) or "end" (after `on_epoch_end`), and `on_validation` is called with the result.
    `clean_forward_after_step`: after each update, one train-mode forward pass of the clean batch, which only
    updates BatchNorm's running statistics (as in the programs of CFA and FAIR-TAT, for their log).
    `one_label`: the method is defined for one label per image only, so Mixup and CutMix are refused.
    """

    epoch_stats: frozenset[str] | set[str] = frozenset()
    attack_bn: Literal["eval", "train"] = "eval"
    validation: Literal["start", "end"] | None = None
    clean_forward_after_step: bool = False
    one_label: bool = False

    def __post_init__(self) -> None:
        """Raises ContractError for an unknown value."""
        for name, value, known in (
            ("attack_bn", self.attack_bn, ("eval", "train")),
            ("validation", self.validation, ("start", "end", None)),
        ):
            if value not in known:
                raise ContractError(
                    f"Needs({name}={value!r}) is unknown.", hint=f"one of: {', '.join(map(repr, known))}"
                )
