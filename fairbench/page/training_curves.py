"""Training curves: loss and accuracy on training images per epoch, and drawings of several seeds."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairbench.metrics.classwise import balanced_accuracy, worst_class_accuracy
from fairbench.page.markup import Markup, tag
from fairbench.records.curves import finite_numbers

MIN_LOSS = 1e-12  # a loss that never rises above it is not drawn
MAX_POINTS = 100  # of a line: more points cannot be distinguished
WIDTH, HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 40, 10, 20  # margins
_LABEL_HEIGHT = 11

Line = tuple[float | None, ...]


@dataclass(frozen=True)
class TrainingCurve:
    """By epoch: the loss, and the mean and lowest class accuracy on training images, clean and under attack.

    None where an epoch has no such number. Of a long training only every k-th epoch and the last.
    """

    epochs: tuple[int, ...]
    loss: Line
    clean_mean: Line
    clean_worst: Line
    robust_mean: Line
    robust_worst: Line


@dataclass(frozen=True)
class SeedLine:
    """One line of a drawing. style: "mean" (solid) or "worst" (dashed)."""

    name: str
    style: str
    seed: int
    epochs: tuple[int, ...]
    values: Line


def training_curve(rows: Sequence[Mapping[str, Any]]) -> TrainingCurve:
    """The curve in the rows of `epochs.jsonl`."""
    step = max(1, math.ceil(len(rows) / MAX_POINTS))
    rows = [row for k, row in enumerate(rows) if k % step == 0 or k == len(rows) - 1]
    loss = [finite_numbers([row.get("loss")]) for row in rows]
    clean = [finite_numbers(row.get("train_clean_accuracy")) for row in rows]
    robust = [finite_numbers(row.get("train_robust_accuracy")) for row in rows]
    return TrainingCurve(
        tuple(int(row["epoch"]) for row in rows),
        _reduced(loss, np.mean),
        _reduced(clean, balanced_accuracy),
        _reduced(clean, worst_class_accuracy),
        _reduced(robust, balanced_accuracy),
        _reduced(robust, worst_class_accuracy),
    )


def _reduced(rows: Sequence[list[float] | None], reduce: Callable[[Any], Any]) -> Line:
    return tuple(None if row is None else float(reduce(row)) for row in rows)


def draw(curves: Mapping[int, TrainingCurve]) -> Markup:
    """Small drawings of the seeds' loss, clean and robust training accuracy; empty without a curve."""
    known = {seed: curve for seed, curve in curves.items() if curve.epochs}
    if not known:
        return Markup()
    last = max(curve.epochs[-1] for curve in known.values())
    top = max((v for c in known.values() for v in c.loss if v is not None), default=0.0)
    drawings = []
    if top > MIN_LOSS:
        lines = [SeedLine("loss", "mean", seed, c.epochs, c.loss) for seed, c in known.items()]
        drawings.append(_drawing("training loss", lines, last, _ceiling(top), ""))
    for side, condition in (("clean", "clean"), ("robust", "under the training attack")):
        lines = [
            SeedLine(kind, kind, seed, c.epochs, getattr(c, f"{side}_{kind}"))
            for kind in ("mean", "worst")
            for seed, c in known.items()
        ]
        if any(value is not None for line in lines for value in line.values):
            drawings.append(_drawing(f"training accuracy, {condition}", lines, last, 1.0, " %"))
    return tag("div", *drawings, class_="curves")


def _drawing(title: str, lines: Sequence[SeedLine], last: int, top: float, unit: str) -> Markup:
    """Lines over epochs 1..last and values 0..top; where several have names, each name at its last values."""
    scale = 100.0 if unit else 1.0
    marks: list[object] = []
    for value in (0.0, 0.5 * top, top):
        y = _y(value, top)
        marks.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        marks.append(
            tag("text", f"{value * scale:g}{unit}", x=_LEFT - 4, y=f"{float(y) + 4:g}", class_="end")
        )
    bottom = HEIGHT - 5
    marks.append(tag("text", "epoch 1", x=_LEFT, y=bottom))
    marks.append(tag("text", last, x=WIDTH - _RIGHT, y=bottom, class_="end"))
    last_values: dict[str, list[float]] = {}  # by name
    for line in lines:
        path = _path(line, last, top)
        if path:
            label = tag("title", f"seed {line.seed}, {line.name}")
            marks.append(tag("path", label, d=path, class_=f"curve {line.style}"))
            value = next(value for value in reversed(line.values) if value is not None)
            last_values.setdefault(line.name, []).append(value)
    marks += _end_labels(last_values, top) if len(last_values) > 1 else []
    ends = "; ".join(
        f"{name} at the end: {', '.join(f'{scale * value:.3g}{unit}' for value in values)}"
        for name, values in last_values.items()
    )
    picture = tag("svg", *marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{title}; {ends}")
    return tag("figure", picture, tag("figcaption", title))


def _end_labels(last_values: Mapping[str, Sequence[float]], top: float) -> list[Markup]:
    """The names at the right, each at the mean of its last values; "mean" and "worst" never overlap."""
    heights = {name: float(_y(float(np.mean(values)), top)) + 4 for name, values in last_values.items()}
    if len(heights) == 2 and abs(heights["mean"] - heights["worst"]) < _LABEL_HEIGHT:
        middle = sum(heights.values()) / 2
        heights = {"mean": middle - _LABEL_HEIGHT / 2, "worst": middle + _LABEL_HEIGHT / 2}
    return [tag("text", name, x=WIDTH - _RIGHT + 4, y=f"{height:g}") for name, height in heights.items()]


def _path(line: SeedLine, last: int, top: float) -> str:
    """The line as an SVG path, with a gap where there is no value; "" without any value."""
    steps, command = [], "M"
    for epoch, value in zip(line.epochs, line.values, strict=True):
        if value is None:
            command = "M"
            continue
        steps.append(f"{command}{_x(epoch, last)} {_y(value, top)}")
        command = "L"
    return "".join(steps) + ("h.1" if len(steps) == 1 else "")  # one point alone would not be drawn


def _x(epoch: int, last: int) -> str:
    share = (epoch - 1) / (last - 1) if last > 1 else 0.0
    return _short(_LEFT + share * (WIDTH - _LEFT - _RIGHT))


def _y(value: float, top: float) -> str:
    return _short(HEIGHT - _BOTTOM - min(max(value / top, 0.0), 1.0) * (HEIGHT - _TOP - _BOTTOM))


def _short(pixels: float) -> str:
    return f"{pixels:.1f}".removesuffix(".0")


def _ceiling(value: float) -> float:
    """The next of 1, 2, 3, 4, 5, 6, 8, 10 times a power of ten at or above a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def legend(seeds: Iterable[int]) -> str:
    """The sentences that explain the lines."""
    return (
        f"One line per seed ({', '.join(map(str, seeds))}). Solid: mean over classes. Dashed: lowest class. "
        "Accuracies are measured on the training images while each epoch trains, so they are not comparable "
        "with those in the tables."
    )
