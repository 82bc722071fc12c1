"""A budget without projection: images may lie as far away as the method declares, and no further."""

from dataclasses import replace

import pytest
import torch
import toys
from exact import EVERY_COMPONENT, Base, assert_exact, broken_laws, step

from fairbench.api import Budget, attacks, losses, method
from fairbench.attacks.budget import excess
from fairbench.core.errors import ContractError
from fairbench.testing.attack_laws import within_budget
from fairbench.testing.law import Subject


@method("n-fgsm")
class NFgsm(Base):
    """One step from noise of twice the radius, without projection (arXiv 2202.01181)."""

    reach = 3.0

    def budget(self, y, ctx):
        eps = ctx.budget.eps
        return Budget(eps, eps, 1, reach=self.reach)

    def perturb(self, model, batch, ctx):
        return attacks.pgd(
            model,
            batch.x,
            lambda logits: losses.cross_entropy(logits, batch.y),
            budget=ctx.budget.scale(2.0, step=False),
            start="uniform",
            rng=ctx.rng("attack"),
        )


@EVERY_COMPONENT
def test_an_attack_without_projection_is_exact(tmp_path, components):
    assert_exact(tmp_path, NFgsm, components)


def test_images_lie_up_to_three_radii_away():
    objective, totals, _ = step(NFgsm)
    assert -0.05 < float(totals.sums["excess"]) < 1e-6  # of 0.3
    given, ctx = toys.batch(), toys.context()
    ctx = replace(ctx, budget=objective.budget(given.y, ctx))
    x_adv = objective.perturb(toys.network().eval(), given, ctx)
    assert (x_adv - given.x).abs().max() > 2 * toys.BUDGET.eps
    assert ((x_adv >= 0) & (x_adv <= 1)).all()


def test_images_beyond_the_declared_reach_are_refused():
    with pytest.raises(ContractError, match=r"perturb\(\) left the budget: .* > 0.2000 for"):
        step(type("Near", (NFgsm,), {"reach": 2.0}))


def test_the_check_tells_the_reach():
    assert within_budget(Subject("n-fgsm", NFgsm)) == "not projected: images up to 3 radii away, as declared"


def test_scaled_and_mixed_budgets_keep_their_reach():
    factor = torch.tensor([1.0, 2.0])
    budget = Budget(0.1, 0.1, 1, reach=3.0).scale(factor)
    torch.testing.assert_close(budget.limit, torch.tensor([0.3, 0.6]))
    assert budget.mixed(budget, factor / 2).reach == 3.0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steps_are_clipped_only_and_the_excess_counts_from_the_reach(norm):
    x = toys.batch().x
    aim = lambda logits: logits[:, 0]  # noqa: E731
    budget = Budget(0.05, 0.04, 3, norm, reach=2.4)
    x_adv = attacks.pgd(toys.network().eval(), x, aim, budget=budget, start="none", rng=None)
    inside = excess(x, x_adv, budget)
    assert (inside <= 1e-6).all()  # three steps of 0.8 radii
    assert (excess(x, x_adv, replace(budget, reach=None)) > 0.01).any()


def test_the_method_keeps_every_law():
    assert broken_laws(NFgsm) == {}


@pytest.mark.parametrize("reach", [0, -1.0, float("nan"), float("inf")])
def test_a_reach_is_a_number_of_radii_above_0(reach):
    with pytest.raises(ContractError, match="a number of radii above 0"):
        Budget(0.1, 0.1, 1, reach=reach)
