"""What `fairbench bench` measures, and the words and rows that tell it."""

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from fairbench.core.errors import ConfigError, FairbenchError
from fairbench.metrics.rho import BASELINE
from fairbench.registry import Registry
from fairbench.registry.protocol import Precision
from fairbench.runner.device import check_precision, choose_device, choose_threads
from fairbench.speed import limits
from fairbench.speed.measure import (
    PARTS,
    Memory,
    Reference,
    alternate,
    forward_equivalents,
    overhead,
    ratio,
    split,
)
from fairbench.speed.subject import TimedSetting, TimedTraining
from fairbench.training.networks import Speedups

WORKERS_ON_GPU = 4  # processes that load images for the plain loop
PROFILED = 16  # lines of a profile
HEADER = (
    "method",
    "model",
    "precision",
    "ms/step",
    "images/s",
    "s/epoch",
    "h/run",
    "GiB",
    "start s",
    "x reference",
    "range",
    "x trades",
    "F/image",
    "TFLOP/s",
    "limit",
    *PARTS,
)


@dataclass(frozen=True)
class SpeedRequest:
    """What to measure; `seconds` is the time of one block, of which there are `rounds`."""

    methods: Sequence[str]
    models: Sequence[str]
    precisions: Sequence[Precision]
    dataset: str
    protocol: str
    batch_size: int | None = None
    seconds: float = 5.0
    rounds: int = 3
    reference: bool = True
    ablate: bool = False
    profile: bool = False


@dataclass
class SpeedReport:
    """Lines about the machine, the rows of the table, and further tables by title, each under its header."""

    about: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    profile: str = ""


def run(
    request: SpeedRequest,
    registry: Registry,
    device_name: str,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[SpeedReport]:
    """Measure; the report so far after each measurement, of which `say` is told before it begins.

    Raises EnvironmentFault for a device or a precision that is not there, ConfigError for what does not fit.
    """
    device = choose_device(device_name)
    for precision in request.precisions:
        check_precision(precision, device)
    protocol = registry.protocol_for(request.protocol, BASELINE)
    if request.batch_size is not None:
        protocol = protocol.model_copy(update={"batch_size": request.batch_size})
    report = SpeedReport(_machine(device))
    places = [TimedSetting(registry, request.dataset, model, protocol, device) for model in request.models]
    for place in places:
        choose_threads(device, protocol.batch_size, place.shape)
        size, images = protocol.batch_size, "x".join(map(str, place.shape))
        peaks = {precision: limits.peak(precision, device) for precision in request.precisions}
        report.about += [
            f"{place.model} on random images {images} ({place.num_classes} classes), batch {size}, "
            f"{protocol.budget.num_steps} attack steps, {torch.get_num_threads()} threads",
            "measured limits: "
            + ", ".join(f"{name} {value / 1e12:.3g} TFLOP/s" for name, value in peaks.items())
            + f" (a large matrix product), {limits.bandwidth(device) / 1e9:.3g} GB/s (a copy)",
        ]
        for row in _rows(place, request, peaks, say):
            report.rows.append(row)
            yield report
    if request.ablate:
        for measure in (_overhead, _ablate):
            measure(places[0], request, report, say)
            yield report
    if request.profile:
        report.profile = _profile(places[0], request)
        yield report


def _machine(device: torch.device) -> list[str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    cuda = f", CUDA {torch.version.cuda}" if device.type == "cuda" else ""
    return [f"{name}, torch {torch.__version__}{cuda}, {os.cpu_count()} CPU cores"]


def _rows(
    place: TimedSetting, request: SpeedRequest, peaks: dict[Precision, float], say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """A row for each method and precision; TRADES is measured with them."""
    methods = list(dict.fromkeys((BASELINE, *request.methods)))
    work = {method: forward_equivalents(place, method) for method in methods}
    for precision in request.precisions:
        with TimedTraining(place, BASELINE, precision, speedups(place, precision)) as base:
            for method in methods:
                say(f"{method}, {place.model}, {precision}")
                try:
                    row = _row(place, method, precision, request, base)
                except FairbenchError as error:
                    raise ConfigError(
                        f"{method} on {place.model}: {error.message}", hint=error.hint
                    ) from error
                operations, equivalents = work[method]
                achieved = operations * row["images/s"]
                yield {
                    "method": method,
                    "model": place.model,
                    "precision": precision,
                    **row,
                    "F/image": equivalents,
                    "TFLOP/s": achieved / 1e12,
                    "limit": achieved / peaks[precision],
                }


def speedups(place: TimedSetting, precision: Precision) -> Speedups:
    """Those of a whole run at the place."""
    steps = -(-place.train_size // place.protocol.batch_size)
    return Speedups.of(place.device, steps * place.protocol.epochs, precision)


def _row(
    place: TimedSetting, method: str, precision: Precision, request: SpeedRequest, base: TimedTraining
) -> dict[str, Any]:
    """What is measured of a method, in alternation with TRADES (`base`) and the plain loop."""
    fast, protocol = speedups(place, precision), place.protocol
    memory = Memory(place.device)
    ours = base if method == BASELINE else TimedTraining(place, method, precision, fast)
    ours.start(request.seconds)
    held = memory.peak()
    blocks = {"ours": ours.block} if ours is base else {BASELINE: base.block, "ours": ours.block}
    if request.reference:
        workers = WORKERS_ON_GPU if place.device.type == "cuda" else 0
        reference = Reference(place, method, workers=workers)
        reference.start(request.seconds)
        blocks = {"reference": reference.block, **blocks}
    found = alternate(blocks, request.rounds)
    step, steps = found["ours"].median, place.train_size / protocol.batch_size
    epoch = step * steps + ours.fixed_seconds
    row: dict[str, Any] = {
        "ms/step": 1000 * step,
        "images/s": protocol.batch_size / step,
        "s/epoch": epoch,
        "h/run": epoch * protocol.epochs / 3600,
        "GiB": held,
        "start s": ours.first_seconds,
        "x trades": 1.0 if ours is base else ratio(found["ours"], found[BASELINE])[0],
    }
    if request.reference:
        middle, low, high = ratio(found["reference"], found["ours"])
        other = "" if reference.method == method else f" ({reference.method})"
        row |= {"x reference": middle, "range": f"{low:.2f}-{high:.2f}{other}"}
    reasons = ours.trainer.steps.fallback_reasons
    if ours is not base:
        ours.close()
    row |= split(place, method, precision, fast)
    if reasons:
        row["range"] = f"{row.get('range', '')} no CUDA graph: {reasons[0]}"
    return row


def _overhead(
    place: TimedSetting, request: SpeedRequest, report: SpeedReport, say: Callable[[str], None]
) -> None:
    """What the house adds to TRADES, in the last precision."""
    precision = request.precisions[-1]
    say(f"overhead of the house, {place.model}, {precision}")
    found = overhead(place, precision, speedups(place, precision), request.seconds, request.rounds)
    low, middle, high = (100 * f(found.seconds) for f in (min, statistics.median, max))
    title = "what the house's step takes beyond attack, loss and update"
    shown = f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"
    report.tables[title] = [
        ("method", "model", "precision", "more"),
        (BASELINE, place.model, precision, shown),
    ]


def _ablate(
    place: TimedSetting, request: SpeedRequest, report: SpeedReport, say: Callable[[str], None]
) -> None:
    """The last method with each speed-up taken away alone."""
    method, precision = request.methods[-1], request.precisions[-1]
    everything = speedups(place, precision)
    variants = {"everything on": everything}
    for part in fields(everything):
        if getattr(everything, part.name):
            variants[f"without {part.name}"] = replace(everything, **{part.name: False})
    variants["plain"] = Speedups.none()
    subjects = {}
    for name, chosen in variants.items():
        say(f"{method}, {place.model}, {precision}: {name}")
        subjects[name] = TimedTraining(place, method, precision, chosen)
        subjects[name].start(request.seconds)
    found = alternate({name: subject.block for name, subject in subjects.items()}, request.rounds)
    rows: list[tuple[str, ...]] = [("", "median", "ratio", "range")]
    for name, blocks in found.items():
        middle, low, high = ratio(blocks, found["everything on"])
        rows.append((name, f"{1000 * blocks.median:.2f} ms", f"{middle:.2f}", f"{low:.2f}-{high:.2f}"))
    report.tables[f"{method}, {place.model}, {precision}: step time, and as a multiple of everything on"] = (
        rows
    )
    for subject in subjects.values():
        subject.close()


def _profile(place: TimedSetting, request: SpeedRequest) -> str:
    """Where the time of the last method's steps goes."""
    from torch.profiler import ProfilerActivity, profile

    method, precision = request.methods[-1], request.precisions[-1]
    cuda = place.device.type == "cuda"
    subject = TimedTraining(place, method, precision, speedups(place, precision))
    subject.epoch(subject.starting + 1)
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as seen:
        subject.epoch(subject.starting * 3)
    subject.close()
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    events = sorted(
        seen.key_averages(), key=lambda e: -(e.self_device_time_total if cuda else e.self_cpu_time_total)
    )
    times = [(e.self_device_time_total if cuda else e.self_cpu_time_total) for e in events]
    lines = [f"{method}, {place.model}, {precision}: share of {order}, calls, name"]
    for event, spent in list(zip(events, times, strict=True))[:PROFILED]:
        lines.append(f"{100 * spent / sum(times):5.1f} %  {event.count:6d}  {event.key[:110]}")
    return "\n".join(lines)
