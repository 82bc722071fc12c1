"""What a column of a table measures, for one entry on one side (clean or robust)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fairbench.core.errors import ConfigError, DataError, RecordError, UnknownNameError
from fairbench.metrics.classwise import class_gap, gini, harmonic_mean, mean_of_lowest, normalised_deviation
from fairbench.metrics.confusion import confusion_asymmetry
from fairbench.metrics.rho import Convention
from fairbench.stats.intervals import rho_values, t_interval
from fairbench.stats.worst import noise_floor, split_half_worst, worst_class_interval
from fairbench.tables.entries import Entry, Side, tail_fraction
from fairbench.tables.table import Better, Column, TableCell, Unit

SIDES = ("clean", "robust")


@dataclass(frozen=True)
class Measure:
    """A kind of column. `cell` takes an entry, a side's name, and for rho the baseline and the rule."""

    cell: Callable[..., TableCell]
    header: str
    unit: Unit = "percent"
    better: Better | None = "high"
    digits: int = 2


def measure(name: str) -> Measure:
    """The measure called `name`.

    "worst-K" is the mean over the lowest K % of the classes, "lowest-K" over the lowest K classes.
    Raises UnknownNameError, or ConfigError for a share outside 1..100.
    """
    tail = re.fullmatch(r"worst-(\d{1,3})", name)
    if tail is not None:
        share = int(tail[1])
        if not 1 <= share <= 100:
            raise ConfigError(
                f"column {name!r}: the lowest {share} % of classes do not exist.",
                hint="write worst-1 to worst-100",
            )
        return Measure(per_seed(lambda side: side.lowest(share / 100)), f"worst {share} %")
    few = re.fullmatch(r"lowest-([1-9]\d{0,2})", name)
    if few is not None:
        number = int(few[1])
        return Measure(per_seed(lambda side: _lowest(side, number)), f"lowest {number}")
    if name not in MEASURES:
        raise UnknownNameError("column", name, [*MEASURES, "worst-20", "lowest-3"], asked_by="--columns")
    return MEASURES[name]


def columns(names: Sequence[str], sides: Sequence[str]) -> tuple[Column, ...]:
    """The columns `names` of each side, in order."""
    return tuple(
        Column(f"{side}_{name.replace('-', '_')}", m.header, side, m.unit, m.better, m.digits)
        for side in sides
        for name in names
        for m in [measure(name)]
    )


def per_seed(number: Callable[[Side], float]) -> Callable[..., TableCell]:
    """A number of each seed, averaged over seeds with a t interval."""

    def cell(entry: Entry, side: str, *_: object) -> TableCell:
        return seed_cell({seed: number(one) for seed, one in entry.sides(side).items()})

    return cell


def _lowest(side: Side, number: int) -> float:
    """The mean over the `number` lowest classes of each checkpoint; NaN where there are fewer classes."""
    if number > side.count.size:
        return float("nan")
    return float(mean_of_lowest(side.class_accuracy, number).mean())


def asymmetry_cell(entry: Entry, side: str, *_: object) -> TableCell:
    """The asymmetry of confusions of each seed; empty where outcomes are missing."""
    values = {}
    for seed, one in entry.sides(side).items():
        if one.confusion is None:
            return TableCell()
        try:
            values[seed] = float(confusion_asymmetry(one.confusion()).mean())
        except (RecordError, DataError):
            return TableCell()
    return seed_cell(values)


def seed_cell(values: dict[int, float]) -> TableCell:
    """The mean of one value per seed, with its t interval and the values; empty without a value."""
    if not values:
        return TableCell()
    if not np.isfinite(list(values.values())).all():
        return TableCell(float("nan"))
    interval = t_interval(list(values.values()))
    return TableCell(interval.mean, interval.half_width, interval.sd, values=tuple(values.items()))


def floor_cell(entry: Entry, side: str, *_: object) -> TableCell:
    """The worst that would be observed on average if all classes had the same accuracy."""
    sides = list(entry.sides(side).values())
    if not sides:
        return TableCell()
    average = float(np.mean([one.balanced for one in sides]))
    return TableCell(noise_floor(average, sides[0].count, tail_fraction(len(sides[0].count))))


def limits_cell(entry: Entry, side: str, *_: object) -> TableCell:
    """95 % limits of the worst over classes, test images and seeds together."""
    sides = list(entry.sides(side).values())
    if not sides:
        return TableCell()
    fraction = tail_fraction(len(sides[0].count))
    most = max(len(one.hits) for one in sides)
    accuracy = np.stack(  # (S, K, C); seeds with fewer checkpoints repeat their mean
        [
            one.class_accuracy
            if len(one.hits) == most
            else np.repeat(one.class_accuracy.mean(0, keepdims=True), most, 0)
            for one in sides
        ]
    )
    limits = worst_class_interval(accuracy, sides[0].count, fraction=fraction)
    return TableCell(float(np.mean([one.worst for one in sides])), low=limits.low, high=limits.high)


def rho_cell(entry: Entry, side: str, base: Entry | None, convention: Convention) -> TableCell:
    """rho against the baseline: paired over common seeds; without any, of the means and without error."""
    own = entry.sides(side)
    if base is None or not own:
        return TableCell()
    other = base.sides(side)
    common = tuple(seed for seed in own if seed in other)

    def average_and_worst(sides: dict[int, Side]) -> list[list[float]]:
        chosen = [sides[seed] for seed in common] or list(sides.values())
        numbers = [[one.average for one in chosen], [one.worst for one in chosen]]
        return numbers if common else [[float(np.mean(values))] for values in numbers]

    values = rho_values(*average_and_worst(own), *average_and_worst(other), convention=convention)
    if entry is base and np.isfinite(values).all():  # 0 in every seed, without error
        return TableCell(0.0, values=tuple((seed, 0.0) for seed in common))
    if not common:
        return TableCell(float(values.mean()))
    return seed_cell(dict(zip(common, values.tolist(), strict=True)))


MEASURES = {
    "average": Measure(per_seed(lambda side: side.average), "average"),
    "balanced": Measure(per_seed(lambda side: side.balanced), "balanced"),
    "worst": Measure(per_seed(lambda side: side.worst), "worst"),
    "floor": Measure(floor_cell, "floor", better=None, digits=1),
    "limits": Measure(limits_cell, "95 % limits", "limits", better=None, digits=1),
    "split-half": Measure(
        per_seed(
            lambda side: split_half_worst(side.hits, side.count) if side.count.min() > 1 else float("nan")
        ),
        "split-half",
    ),
    "gap": Measure(
        per_seed(lambda side: float(class_gap(side.class_accuracy).mean())),
        "gap",
        better="low",
    ),
    "deviation": Measure(
        per_seed(lambda side: float(normalised_deviation(side.class_accuracy).mean())),
        "deviation",
        "fraction",
        better="low",
        digits=3,
    ),
    "nsd": Measure(  # the name that papers give to the deviation
        per_seed(lambda side: float(normalised_deviation(side.class_accuracy).mean())),
        "NSD",
        "fraction",
        better="low",
        digits=3,
    ),
    "gini": Measure(
        per_seed(lambda side: float(gini(side.class_accuracy).mean())),
        "Gini",
        "fraction",
        better="low",
        digits=3,
    ),
    "harmonic": Measure(
        per_seed(lambda side: float(harmonic_mean(side.class_accuracy).mean())), "harmonic mean"
    ),
    "asymmetry": Measure(asymmetry_cell, "asymmetry", "fraction", better="low", digits=3),
    "rho": Measure(rho_cell, "rho", "rho"),
}
