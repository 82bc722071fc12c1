"""One training step: budget, attack, loss, update. The order is the same for every method."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from fairbench.attacks.frozen import frozen
from fairbench.data.batch import Batch
from fairbench.objectives.contract import AdversarialObjective, Adversary, Context
from fairbench.objectives.loss_terms import LossTerms
from fairbench.objectives.teachers import once
from fairbench.registry.components import WeightPerturbation
from fairbench.training.contract_checks import check_adversary, check_terms, check_untouched, worst_excess
from fairbench.training.cuda_graphs import GraphedSteps
from fairbench.training.mixed_labels import as_attacked, budget_of, loss_terms
from fairbench.training.networks import Networks
from fairbench.training.precision import computing
from fairbench.training.statistics import EpochTotals
from fairbench.training.weight_perturbation import ascent_direction, perturbed

logger = logging.getLogger(__name__)


def training_step(
    model: nn.Module,
    objective: AdversarialObjective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    ctx: Context,
    totals: EpochTotals,
    *,
    check: bool = False,
    awp: WeightPerturbation | None = None,
    attacked: nn.Module | None = None,
    mark: Callable[[str], None] = lambda part: None,
) -> Tensor:
    """Train on one batch and count it in `totals`; returns the loss, a scalar on the device.

    `attacked` is the network that `perturb` gets in place of `model`. With `awp` loss and gradient are taken
    at adversarially perturbed weights. With `check` the contract is checked at once, with a precise message,
    at the cost of host syncs; without it only the largest budget excess is kept, for the end of the epoch.
    `mark` is called with "attack", "outer" (loss and update) and "bookkeeping" when each is done.
    """
    needs = objective.resolved_needs()
    ctx = replace(ctx, teacher=once(ctx.teacher, batch.x))
    ctx = replace(ctx, budget=budget_of(objective, batch, ctx))
    target = model if attacked is None else attacked
    before = [buffer.clone() for buffer in target.buffers()] if check else []
    adversary = attack(objective, target, batch, ctx)
    if check:
        check_adversary(objective, batch, adversary, ctx.budget)
        if needs.attack_bn != "train":
            check_untouched(objective, target, before)
    mark("attack")
    model.train()
    terms, reduced, loss = update(model, objective, optimizer, batch, adversary, ctx, awp, check=check)
    mark("outer")
    if needs.clean_forward_after_step and not terms.skipped:
        with torch.no_grad():
            model(batch.x)
    totals.add(batch, terms, reduced, loss, worst_excess(batch, adversary, ctx.budget))
    with torch.no_grad():
        objective.on_step_end(batch, terms, replace(ctx, adversary=adversary))
    mark("bookkeeping")
    return loss


def attack(objective: AdversarialObjective, model: nn.Module, batch: Batch, ctx: Context) -> Adversary:
    """What `perturb` returns, detached. The model is frozen, in the mode that the method declares."""
    with frozen(model, objective.resolved_needs().attack_bn):
        return detached(objective.perturb(model, as_attacked(batch), ctx))


def update(
    model: nn.Module,
    objective: AdversarialObjective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    adversary: Adversary,
    ctx: Context,
    awp: WeightPerturbation | None,
    *,
    check: bool,
) -> tuple[LossTerms, dict[str, Tensor], Tensor]:
    """Take one step of the optimiser; returns the loss terms, the reduced terms and the loss.

    With `awp` the last two are those of the perturbed weights, the first those of the weights that are
    trained. When the method skips the step, the weights stay as they are and the loss is 0.
    """
    loss = batch.x.new_zeros(())
    direction: dict[str, Tensor] = {}
    unperturbed = None
    if awp is not None:
        direction, unperturbed = ascent_direction(model, objective, batch, adversary, ctx, awp.inner)
        if unperturbed.skipped:
            return unperturbed, {}, loss
    with perturbed(model, direction, 0.0 if awp is None else awp.gamma):
        terms = loss_terms(objective, model, batch, adversary, ctx, check=check)
        if check:
            check_terms(objective, batch, terms)
        reduced = terms.reduced()
        if not terms.skipped:
            optimizer.zero_grad(set_to_none=True)
            loss = torch.stack(list(reduced.values())).sum()
            loss.backward()
            optimizer.step()
    counted = terms if unperturbed is None or terms.skipped else unperturbed
    return counted, reduced, loss.detach()


class StepRunner:
    """Runs the training steps of a run, as CUDA graphs where `graphed` is given.

    `step` is `training_step`, or a function with its parameters. `mark` is called with the name of each part
    of a step when it is done: "data" and those of `training_step`. `fallback_reasons`: why steps could
    not run as CUDA graphs, each reason once.
    """

    def __init__(
        self,
        networks: Networks,
        objective: AdversarialObjective,
        optimizer: torch.optim.Optimizer,
        *,
        awp: WeightPerturbation | None = None,
        graphed: GraphedSteps | None = None,
        step: Callable[..., Tensor] = training_step,
        mark: Callable[[str], None] = lambda part: None,
    ) -> None:
        self.networks, self.objective, self.optimizer = networks, objective, optimizer
        self.awp, self.graphed, self.step, self.mark = awp, graphed, step, mark
        self.fallback_reasons: list[str] = []

    @contextmanager
    def computing(self) -> Iterator[None]:
        """A block in which the device computes in the protocol's precision and on the graphs' stream."""
        with (
            computing(self.networks.arithmetic),
            nullcontext() if self.graphed is None else self.graphed.working(),
        ):
            yield

    def begin(self, epoch: int, totals: EpochTotals, num_steps: int) -> None:
        """Prepare for the `num_steps` steps of an epoch, which are counted in `totals`."""
        self.epoch, self.totals = epoch, totals
        if self.graphed is not None:
            waits = self.objective.resolved_needs().waits
            self.graphed.begin(self.plain, num_steps, self.objective.state, waits)

    def __call__(self, batch: Batch, ctx: Context, check: bool = False) -> None:
        """Train on one batch; with `check` the contract is checked at once."""
        batch = self.networks.laid_out(batch)
        self.mark("data")
        if self.graphed is None:
            self.plain(batch, ctx, check)
            return
        self.graphed.step(batch, ctx, check)
        reason = self.graphed.fallback_reason
        if reason is not None and reason not in self.fallback_reasons:
            self.fallback_reasons.append(reason)
            logger.warning(
                "%s: steps of epoch %d run one by one: %s", self.objective.name, self.epoch, reason
            )

    def plain(self, batch: Batch, ctx: Context, check: bool) -> None:
        """One step without a CUDA graph."""
        in_eval_mode = self.objective.resolved_needs().attack_bn == "eval"
        with self.networks.trained():
            self.step(
                self.networks.model,
                self.objective,
                self.optimizer,
                batch,
                ctx,
                self.totals,
                check=check,
                awp=self.awp if self.awp is not None and self.epoch >= self.awp.start_epoch else None,
                attacked=self.networks.attacked() if in_eval_mode else None,
                mark=self.mark,
            )


def detached(adversary: Adversary) -> Adversary:
    if isinstance(adversary, Tensor):
        return adversary.detach()
    return {name: value.detach() for name, value in adversary.items()}
