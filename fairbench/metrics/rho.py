"""The fairness improvement score rho: relative changes of the worst class and of the average, added up.

Source     TRIX paper, Eq. 11, which attributes it to WAT (Li and Liu, AAAI 2023). All values of
           DAFA's main results follow this definition.
Deviates   The numbers printed in the TRIX paper do not follow its Eq. 11 but another rule. We derived that
           rule from the numbers; it reproduces 110 of 114. `convention="trix"` computes it, only for
           comparison with the columns of that paper.
"""

import math
from typing import Literal, get_args

from fairbench.core.errors import ConfigError, DataError, suggest

BASELINE = "trades"
"""The method that others are compared with, unless another one is chosen."""
Convention = Literal["signed", "trix"]


def rho(
    method_average: float,
    method_worst: float,
    base_average: float,
    base_worst: float,
    *,
    convention: Convention = "signed",
) -> float:
    """Relative change of the worst class plus relative change of the average; a fraction, at least -2.

    The four accuracies are all in [0, 1] or all in percent, from one evaluation and not rounded. The score of
    the baseline itself is 0. NaN when the baseline's worst class or average is 0. Raises DataError for an
    accuracy outside [0, 100].

    With w and a the two relative changes, the convention "trix" is w - |a| when the worst class improves
    (w >= 0), and -| |w| - |a| | when it drops.
    """
    values = (method_average, method_worst, base_average, base_worst)
    if not all(0 <= value <= 100 for value in values):
        raise DataError(f"rho needs accuracies in [0, 1] or in percent, not {values}.")
    check_convention(convention)
    if base_worst == 0 or base_average == 0:
        return math.nan
    change_worst = (method_worst - base_worst) / base_worst
    change_average = (method_average - base_average) / base_average
    if convention == "signed":
        return change_worst + change_average
    if change_worst >= 0:
        return change_worst - abs(change_average)
    return -abs(abs(change_worst) - abs(change_average))


def rho_gradient(
    method_average: float,
    method_worst: float,
    base_average: float,
    base_worst: float,
    *,
    convention: Convention = "signed",
) -> tuple[float, float, float, float]:
    """Derivatives of `rho` with respect to its four accuracies, in their order.

    The baseline's accuracies must not be 0. Where the "trix" rule has a kink, the derivative from one side.
    """
    check_convention(convention)
    slope_worst, slope_average = 1.0, 1.0
    if convention == "trix":
        change_worst = (method_worst - base_worst) / base_worst
        change_average = (method_average - base_average) / base_average
        towards = math.copysign(1.0, change_average)  # derivative of |change_average|
        if change_worst >= 0:
            slope_average = -towards
        else:
            # |change_worst| is -change_worst here.
            outer = math.copysign(1.0, -change_worst - abs(change_average))
            slope_worst, slope_average = outer, outer * towards
    return (
        slope_average / base_average,
        slope_worst / base_worst,
        -slope_average * method_average / base_average**2,
        -slope_worst * method_worst / base_worst**2,
    )


def check_convention(convention: str) -> None:
    """Raise ConfigError unless `convention` is "signed" or "trix"."""
    known = get_args(Convention)
    if convention not in known:
        close = suggest(convention, known)
        hint = f"did you mean: {close}" if close else f"known: {', '.join(known)}"
        raise ConfigError(f"there is no definition of rho called {convention!r}.", hint=hint)
