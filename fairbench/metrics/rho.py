"""The fairness improvement score rho: what a method does to the worst class and to the average.

Source     TRIX paper, Eq. 11, which attributes it to WAT (Li and Liu, AAAI 2023). All values of
           DAFA's main results follow this definition.
Deviates   The numbers printed in the TRIX paper follow another rule than its Eq. 11. It was
           inferred from them and reproduces 110 of 114; `convention="trix"` computes it, for
           comparison with that paper's columns only.
"""

import math
from typing import Literal, get_args

from fairbench.core.errors import ConfigError, DataError, suggest

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

    The four accuracies are all in [0, 1] or all in percent, of one evaluation, unrounded. The
    baseline against itself is 0, and a gain of the average raises the score. NaN when the
    baseline's worst class or average is 0. Raises DataError for an accuracy outside [0, 100].

    "trix": any change of the average is subtracted when the worst class improves, and credited
    when it drops.
    """
    values = (method_average, method_worst, base_average, base_worst)
    if not all(0 <= value <= 100 for value in values):
        raise DataError(f"rho is made of accuracies in [0, 1] or in percent, not of {values}.")
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
    """Derivatives of `rho` by its four accuracies, in their order.

    The baseline's accuracies must not be 0. At a kink of the "trix" rule one side's slope.
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
    """Raises ConfigError unless `convention` is one of the two of `rho`."""
    known = get_args(Convention)
    if convention not in known:
        close = suggest(convention, known)
        hint = f"did you mean: {close}" if close else f"known: {', '.join(known)}"
        raise ConfigError(f"no convention of rho called {convention!r}.", hint=hint)
