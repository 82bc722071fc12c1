"""The loss of one batch as named terms, before averaging."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fairbench.attacks.labels import mixed
from fairbench.core.errors import ContractError


class LossTerms:
    """The loss terms of one batch, by name and before averaging.

    Each term is per sample (B,), or a scalar that is added unchanged. The loss is the sum over terms
    of mean_b(weight_b term_b), the mean over B samples; a term named in `divide_by_weight` is
    divided by the sum of its weights instead (FRL), and is 0 when they sum to 0. Weights (B,) are detached.
    Terms named in `outside_base` are no part of the loss that AWP raises, see `base`.

    `logits` and `logits_adv` are the clean and adversarial outputs of this loss; the trainer
    computes the class statistics from them. `watch` holds further values (B,) by name, of which the trainer
    computes the class means of the epoch (`Needs.watched`); they are detached and no part of the loss.
    """

    def __init__(
        self,
        *,
        logits: Tensor | None = None,
        logits_adv: Tensor | None = None,
        weight: Mapping[str, Tensor] | None = None,
        divide_by_weight: tuple[str, ...] = (),
        outside_base: tuple[str, ...] = (),
        watch: Mapping[str, Tensor] | None = None,
        **terms: Tensor,
    ) -> None:
        self.terms = terms
        self.weight = {name: value.detach() for name, value in (weight or {}).items()}
        self.watch = {name: value.detach() for name, value in (watch or {}).items()}
        self.divide_by_weight = divide_by_weight
        self.outside_base = outside_base
        self.logits = None if logits is None else logits.detach()
        self.logits_adv = None if logits_adv is None else logits_adv.detach()
        self.skipped = False
        self._weighted: dict[str, Tensor] = {}  # (B,) weighted terms of mixed images

    @classmethod
    def skip(cls) -> "LossTerms":
        """No loss for this batch: no weight moves, and its images are in no statistic of the epoch.

        The step counts for the learning rate and the number of steps all the same.
        """
        terms = cls()
        terms.skipped = True
        return terms

    def reduced(self) -> dict[str, Tensor]:
        """Each term's contribution to the loss: scalars."""
        return {name: self._reduce(name, value) for name, value in self.terms.items()}

    def total(self) -> Tensor:
        """The scalar loss."""
        return torch.stack(list(self.reduced().values())).sum()

    def base(self) -> Tensor:
        """The loss that AWP raises: the sum of the means of per-sample terms, without their weights.

        Scalar terms and those in `outside_base` are left out. Raises ContractError when none remains.
        """
        means = [
            value.mean()
            for name, value in self.terms.items()
            if value.dim() > 0 and name not in self.outside_base
        ]
        if not means:
            raise ContractError(
                "the loss has no per-sample term for weight perturbation.",
                hint="return a term of shape (B,) in LossTerms that outside_base does not name, "
                "or choose awp.inner=full",
            )
        return torch.stack(means).sum()

    def mixed(self, other: "LossTerms", share: Tensor) -> "LossTerms":
        """The loss of mixed images: `share` (B,) times these terms plus (1 - share) times those of `other`.

        Each term has the weight of its own label. `logits`, `logits_adv` and `watch` are those of this loss.
        """
        if self.skipped != other.skipped:
            raise ContractError(
                "loss() skips the step for one of the two labels of mixed images only.",
                hint="decide from the adversary whether to skip, or declare Needs(one_label=True)",
            )
        if self.skipped:
            return self
        if self.terms.keys() != other.terms.keys() or self.weight.keys() != other.weight.keys():
            raise ContractError(
                "loss() returns different terms for different labels.",
                hint="return the same terms for all labels, or declare Needs(one_label=True)",
            )

        def mix(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: mixed(value, second[name], share) for name, value in first.items()}

        terms = LossTerms(
            logits=self.logits,
            logits_adv=self.logits_adv,
            weight=mix(self.weight, other.weight),
            divide_by_weight=self.divide_by_weight,
            outside_base=self.outside_base,
            watch=self.watch,
            **mix(self.terms, other.terms),
        )
        terms._weighted = mix(self._products(), other._products())
        return terms

    def _products(self) -> dict[str, Tensor]:
        """Weight times term (B,), for each term with a weight."""
        values = {name: self.terms[name] for name in self.weight if self.terms[name].dim() > 0}
        return {name: self.weight[name].to(value.dtype) * value for name, value in values.items()}

    def _reduce(self, name: str, value: Tensor) -> Tensor:
        """The contribution of one term to the loss: a scalar."""
        weight = self.weight.get(name)
        if value.dim() == 0:
            return value
        if weight is None:
            return value.sum() / len(value)  # bit for bit as with weights of 1, on every device
        weight = weight.to(value.dtype)
        divisor: Tensor | int = len(value)
        if name in self.divide_by_weight:
            sum_of_weights = weight.sum()
            divisor = sum_of_weights.masked_fill(sum_of_weights == 0, torch.inf)  # 0, and its gradient too
        weighted = self._weighted[name] if name in self._weighted else weight * value
        return weighted.sum() / divisor
