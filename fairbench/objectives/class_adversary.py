"""The class adversary: the worst distribution over classes near the uniform one.

On tensors, without loops over classes and without device synchronisation.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Form = Literal["kl", "chi2", "entropic", "cvar", "max"]

TIE = 1e-12  # risks with a smaller spread count as equal, so that rounding errors are not amplified
# The multiplier s of the KL ball is searched with log s in this interval, cut into POINTS parts ROUNDS times.
LOG_SMALLEST, LOG_LARGEST = math.log(1e-300), math.log(1e16)
POINTS, ROUNDS = 64, 9


def worst_distribution(
    risk: Tensor, radius: float, *, form: Form = "kl", present: Tensor | None = None
) -> Tensor:
    """The distribution p (C,) over classes with the largest sum_c p_c risk_c in a set around q.

    q is uniform over the n classes that are `present` ((C,) bool, default all). Absent classes get 0, and
    their `risk` is not read. The result is in float64 and has no gradient. `radius` >= 0 is the size of the
    set; with 0 p is exactly q. The sets by `form`:

    kl        KL(q || p) <= radius (FAAL, arXiv 2402.17729)
    chi2      n sum_c (p_c - q_c)^2 <= radius (CODAT, arXiv 2501.04527); radius n - 1 gives "max"
    entropic  no set: p maximises sum_c p_c risk_c - KL(p || q) / radius, so p_c ~ exp(radius risk_c)
    cvar      p_c <= (1 + radius) q_c: the mean risk of the worst share 1 / (1 + radius) of the classes
    max       all distributions: p is on the worst class, whatever the radius

    Classes of equal risk get equal weight. A constant added to all risks does not change p, nor does a
    positive factor except with "entropic". Raises ValueError for a negative radius.
    """
    if radius < 0:
        raise ValueError(f"radius is {radius}, expected at least 0")
    present = torch.ones_like(risk, dtype=torch.bool) if present is None else present
    count = present.double().sum()
    uniform = present.double() / count
    if radius == 0 and form != "max":
        return uniform
    risk = risk.detach().double()
    worst, least = (torch.where(present, risk, end) for end in (-torch.inf, torch.inf))
    worst, least = worst.amax(), least.amin()
    tied = worst - least <= TIE * torch.maximum(worst.abs(), least.abs()).clamp(min=1)
    behind = torch.where(present & ~tied, worst - risk, 0.0)  # (C,) >= 0, distance to the largest risk
    if form == "entropic":
        weight = uniform * torch.exp(-radius * behind)
        return weight / weight.sum()
    behind = behind / torch.where(tied, 1.0, worst - least)  # in 0..1
    if form == "kl":
        return _in_kl_ball(behind, uniform, radius)
    if form == "chi2":
        return _in_chi2_ball(behind, present, radius)
    return _filled(behind, present, (1 + radius) / count if form == "cvar" else torch.ones_like(count))


def _in_kl_ball(behind: Tensor, uniform: Tensor, radius: float) -> Tensor:
    """p_c ~ q_c / (1 + behind_c / s) with the s > 0 at which KL(q || p) equals `radius`.

    The KL decreases from infinity (s -> 0) to 0 (s -> infinity). So s is found by bisection of log s, with
    POINTS parts instead of two.
    """
    cuts = torch.arange(1, POINTS, dtype=torch.float64, device=uniform.device)
    low, width = torch.full_like(cuts[0], LOG_SMALLEST), LOG_LARGEST - LOG_SMALLEST
    for _ in range(ROUNDS):
        width /= POINTS
        ratio = behind * torch.exp(-(low + width * cuts))[:, None]  # (POINTS - 1, C)
        divergence = ratio.log1p() @ uniform + torch.log((1 / (1 + ratio)) @ uniform)
        low = low + width * (divergence > radius).double().sum()
    weight = uniform / (1 + behind * torch.exp(-low))
    return weight / weight.sum()


def _in_chi2_ball(behind: Tensor, present: Tensor, radius: float) -> Tensor:
    """p_c = 1/k + t (m - behind_c) for the k worst classes, m their mean, and 0 for the others.

    For each k the radius determines t. The solution is the largest k without a negative weight.
    """
    count = present.double().sum()
    ordered = torch.where(present, behind, 2.0).sort().values  # absent classes last
    k = torch.arange(1, len(behind) + 1, dtype=torch.float64, device=behind.device)
    among = k[:, None] >= k  # (C, C): row k - 1 has the k worst classes
    mean = (among * ordered).sum(1) / k
    squares = (among * (ordered - mean[:, None]) ** 2).sum(1)
    room = (1 + radius) / count - 1 / k  # what the radius allows sum_c p_c^2 beyond equal weights
    slope = torch.where(squares > 0, (room.clamp(min=0) / squares.clamp(min=TIE**2)).sqrt(), 0.0)
    possible = (k <= count) & (1 / k + slope * (mean - ordered) >= -TIE) & (room >= -TIE)
    chosen = (possible * k).argmax(keepdim=True)
    weight = 1 / k[chosen] + slope[chosen] * (mean[chosen] - behind)
    weight = torch.where(present & (behind <= ordered[chosen]), weight.clamp(min=0), 0.0)
    return weight / weight.sum()


def _filled(behind: Tensor, present: Tensor, most: Tensor) -> Tensor:
    """Weight `most` (a scalar) for each class in the order of risk, until the sum is 1.

    Classes of equal risk share equally.
    """
    worse = (behind < behind[:, None]) & present
    equal = (behind == behind[:, None]) & present
    left = (1 - most * worse.sum(1)).clamp(min=0)
    return torch.where(present, torch.minimum(most, left / equal.sum(1).clamp(min=1)), 0.0)
