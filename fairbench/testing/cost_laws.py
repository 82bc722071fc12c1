"""The cost of a step: reported, and a broken law only if it is absurd."""

import statistics
import time
from collections.abc import Callable

from fairbench.attacks.budget import Budget
from fairbench.objectives.contract import AdversarialObjective
from fairbench.objectives.load import load_plugin
from fairbench.testing import toys
from fairbench.testing.law import Subject, require
from fairbench.training.step import training_step

PAIRS = 7
STEPS = 10  # of the attack, as most papers have
ABSURD = 20.0
UNIT = "fairbench_methods.trades:Trades"


def affordable(subject: Subject) -> tuple[str, float]:
    """A step takes less than twenty times as long as one of TRADES; the remark has the factor."""
    factor = relative_cost(subject)
    require(
        factor < ABSURD,
        f"a step takes {factor:.0f} times as long as one of TRADES.",
        "look for nested attacks, loops over samples, and work that is needed only once per epoch",
    )
    return f"{factor:.2f} x TRADES per step", factor


def relative_cost(subject: Subject) -> float:
    """Median ratio of step times to those of TRADES, which alternate, as other work slows both down."""
    ours, theirs = stepper(subject.build()), stepper(toys.configured(load_plugin(UNIT, "trades")))
    ours(), theirs()  # the first step allocates
    ratios = []
    for number in range(PAIRS):
        order = (ours, theirs) if number % 2 else (theirs, ours)
        seconds = {step: timed(step) for step in order}
        ratios.append(seconds[ours] / seconds[theirs])
        if min(ratios) > 2 * ABSURD:
            break
    return statistics.median(ratios)


def stepper(objective: AdversarialObjective) -> Callable[[], None]:
    """A function that runs one step."""
    model, given = toys.network(), toys.batch(32)
    optimizer, totals = toys.sgd(model), toys.totals(objective)
    ctx = toys.context(budget=Budget(toys.BUDGET.eps, toys.BUDGET.step_size, STEPS))

    def step() -> None:
        training_step(model, objective, optimizer, given, ctx, totals)

    return step


def timed(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began
