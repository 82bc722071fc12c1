"""Training curves: what a run's epochs say of its training images, and the drawing of several seeds."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairbench.metrics.classwise import balanced_accuracy, worst_class_accuracy
from fairbench.page.markup import Markup, joined, tag

VANISHING = 1e-12  # a loss that never rises above it is not drawn
MAX_POINTS = 100  # of a line: more cannot be seen
WIDTH, HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 40, 10, 20

Line = tuple[float | None, ...]


@dataclass(frozen=True)
class Curve:
    """By epoch: the loss, and the mean and lowest class accuracy on training images, clean and under attack.

    None where an epoch does not say. Of long trainings every second epoch, or fewer, and the last.
    """

    epochs: tuple[int, ...]
    loss: Line
    clean_mean: Line
    clean_worst: Line
    robust_mean: Line
    robust_worst: Line


def curve_of(rows: Sequence[Mapping[str, Any]]) -> Curve:
    """The curve in the rows of `epochs.jsonl`."""
    step = max(1, math.ceil(len(rows) / MAX_POINTS))
    rows = [row for k, row in enumerate(rows) if k % step == 0 or k == len(rows) - 1]
    loss = [_numbers([row.get("loss")]) for row in rows]
    clean = [_numbers(row.get("train_clean_accuracy")) for row in rows]
    robust = [_numbers(row.get("train_robust_accuracy")) for row in rows]
    return Curve(
        tuple(int(row["epoch"]) for row in rows),
        _line(loss, balanced_accuracy),
        _line(clean, balanced_accuracy),
        _line(clean, worst_class_accuracy),
        _line(robust, balanced_accuracy),
        _line(robust, worst_class_accuracy),
    )


def _line(found: Sequence[NDArray[np.float64] | None], reduce: Callable[[Any], Any]) -> Line:
    return tuple(None if values is None else float(reduce(values)) for values in found)


def _numbers(values: object) -> NDArray[np.float64] | None:
    """The values of a list; None when it is empty or one of them is not a finite number."""
    try:
        numbers = np.array(values)
    except ValueError:
        return None
    if (
        numbers.ndim != 1
        or not numbers.size
        or numbers.dtype.kind not in "fiu"
        or not np.isfinite(numbers).all()
    ):
        return None
    return numbers.astype(np.float64)


def draw(curves: Mapping[int, Curve]) -> Markup:
    """Small drawings of the seeds' curves: loss, clean and robust training accuracy. Nothing for none."""
    known = {seed: curve for seed, curve in curves.items() if curve.epochs}
    if not known:
        return Markup()
    last = max(curve.epochs[-1] for curve in known.values())
    top = max((v for c in known.values() for v in c.loss if v is not None), default=0.0)
    found = []
    if top > VANISHING:
        lines = [("loss", "mean", seed, c.epochs, c.loss) for seed, c in known.items()]
        found.append(_drawing("training loss", lines, last, _ceiling(top), ""))
    for side in ("clean", "robust"):
        lines = [
            (kind, kind, seed, c.epochs, getattr(c, f"{side}_{kind}"))
            for kind in ("mean", "worst")
            for seed, c in known.items()
        ]
        if any(value is not None for *_, line in lines for value in line):
            words = "clean" if side == "clean" else "under the training attack"
            found.append(_drawing(f"training accuracy, {words}", lines, last, 1.0, " %"))
    return tag("div", *found, class_="curves")


def _drawing(
    title: str,
    lines: Sequence[tuple[str, str, int, tuple[int, ...], Line]],
    last: int,
    top: float,
    unit: str,
) -> Markup:
    """Lines over epochs 1..last and values 0..top, with the value of the last epoch of each at its end."""
    scale = 100.0 if unit else 1.0
    marks: list[object] = []
    for share in (0.0, 0.5, 1.0):
        y = _y(share * top, top)
        marks.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        marks.append(
            tag("text", f"{share * top * scale:g}{unit}", x=_LEFT - 4, y=f"{float(y) + 4:g}", class_="end")
        )
    bottom = HEIGHT - 5
    marks.append(tag("text", "epoch 1", x=_LEFT, y=bottom))
    marks.append(tag("text", last, x=WIDTH - _RIGHT, y=bottom, class_="end"))
    labels: dict[str, list[float]] = {}
    for name, kind, seed, epochs, line in lines:
        path = _path(epochs, line, last, top)
        if path:
            marks.append(tag("path", tag("title", f"seed {seed}, {name}"), d=path, class_=f"curve {kind}"))
            labels.setdefault(name, []).append(next(v for v in reversed(line) if v is not None))
    places = {name: float(_y(float(np.mean(values)), top)) + 4 for name, values in labels.items()}
    if len(places) == 2 and abs(places["mean"] - places["worst"]) < 11:
        middle = sum(places.values()) / 2
        places = {"mean": middle - 5.5, "worst": middle + 5.5}
    for name, height in places.items() if len(places) > 1 else ():
        marks.append(tag("text", name, x=WIDTH - _RIGHT + 4, y=f"{height:g}"))
    told = "; ".join(
        f"{name} at the end: {', '.join(f'{scale * value:.3g}{unit}' for value in values)}"
        for name, values in labels.items()
    )
    picture = tag("svg", *marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{title}; {told}")
    return tag("figure", picture, tag("figcaption", title))


def _path(epochs: Sequence[int], line: Line, last: int, top: float) -> str:
    """The line as SVG writes it, broken where there is no value."""
    found, pen = [], "M"
    for epoch, value in zip(epochs, line, strict=True):
        if value is None:
            pen = "M"
            continue
        found.append(f"{pen}{_x(epoch, last)} {_y(value, top)}")
        pen = "L"
    return "".join(found) + ("h.1" if found and len(found) == 1 else "")


def _x(epoch: int, last: int) -> str:
    share = (epoch - 1) / (last - 1) if last > 1 else 0.0
    return _short(_LEFT + share * (WIDTH - _LEFT - _RIGHT))


def _y(value: float, top: float) -> str:
    return _short(HEIGHT - _BOTTOM - min(max(value / top, 0.0), 1.0) * (HEIGHT - _TOP - _BOTTOM))


def _short(place: float) -> str:
    return f"{place:.1f}".removesuffix(".0")


def _ceiling(value: float) -> float:
    """The next of 1, 2, 4, 5, 10, ... at or above a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def legend(seeds: Iterable[int]) -> Markup:
    """What the lines are."""
    names = ", ".join(map(str, seeds))
    return joined(
        [
            f"One line per seed ({names}). Solid: mean over classes; dashed: the lowest class. On training "
            "images, as they were met in each epoch: not to be compared with the tables."
        ]
    )
