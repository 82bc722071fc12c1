"""The measurements of `fairbench bench`, and the rows and lines of its report."""

import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from fairbench.core.errors import ConfigError, FairbenchError
from fairbench.metrics.rho import BASELINE
from fairbench.registry import Registry
from fairbench.registry.protocol import Precision
from fairbench.runner.device import check_precision, choose_device, choose_threads
from fairbench.speed import limits
from fairbench.speed.measure import Memory, Reference, alternate, forward_equivalents, overhead, ratio, split
from fairbench.speed.request import SpeedRequest
from fairbench.speed.timed_training import TimedSetting, TimedTraining
from fairbench.training.networks import Speedups

WORKERS_ON_GPU = 4  # processes that load images for the plain loop
PROFILED = 16  # lines of a profile


@dataclass
class SpeedReport:
    """Lines about the machine, the rows of the main table, and further tables (header first) by title."""

    about: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    profile: str = ""


def run(
    request: SpeedRequest,
    registry: Registry,
    device_name: str,
    report_start: Callable[[str], None] = lambda text: None,
) -> Iterator[SpeedReport]:
    """Measure; yields the report so far after each measurement. `report_start` gets the name of the next one.

    Raises EnvironmentFault for a device or precision that this machine lacks, ConfigError when a method, a
    network and the data set do not go together.
    """
    device = choose_device(device_name)
    for precision in request.precisions:
        check_precision(precision, device)
    protocol = registry.protocol_for(request.protocol, BASELINE)
    if request.batch_size is not None:
        protocol = protocol.model_copy(update={"batch_size": request.batch_size})
    report = SpeedReport(_machine(device))
    settings = [TimedSetting(registry, request.dataset, model, protocol, device) for model in request.models]
    for setting in settings:
        choose_threads(device, protocol.batch_size, setting.shape)
        size, images = protocol.batch_size, "x".join(map(str, setting.shape))
        peaks = {precision: limits.peak(precision, device) for precision in request.precisions}
        report.about += [
            f"{setting.model} on random images {images} ({setting.num_classes} classes), batch {size}, "
            f"{protocol.budget.num_steps} attack steps, {torch.get_num_threads()} threads",
            "measured limits: "
            + ", ".join(f"{name} {value / 1e12:.3g} TFLOP/s" for name, value in peaks.items())
            + f" (a large matrix product), {limits.bandwidth(device) / 1e9:.3g} GB/s (a copy)",
        ]
        if request.reference:
            report.about.append(
                f"plain loop: PyTorch's default precision (TF32 convolutions where the GPU has them), "
                f"contiguous layout, cudnn.benchmark, images loaded by {_workers(device) or 'no'} worker "
                "processes"
            )
        for row in _rows(setting, request, peaks, report_start):
            report.rows.append(row)
            yield report
    last = settings[0].with_precision(request.precisions[-1])
    if request.ablate:
        for measure in (_overhead, _ablate):
            measure(last, request, report, report_start)
            yield report
    if request.profile:
        report.profile = _profile(last, request.methods[-1])
        yield report


def _machine(device: torch.device) -> list[str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    cuda = f", CUDA {torch.version.cuda}" if device.type == "cuda" else ""
    return [f"{name}, torch {torch.__version__}{cuda}, {os.cpu_count()} CPU cores"]


def _rows(
    setting: TimedSetting,
    request: SpeedRequest,
    peaks: dict[Precision, float],
    report_start: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """A row for each method and precision, TRADES always among them."""
    methods = list(dict.fromkeys((BASELINE, *request.methods)))
    work = {method: forward_equivalents(setting, method) for method in methods}
    for precision in request.precisions:
        precise = setting.with_precision(precision)
        with TimedTraining(precise, BASELINE) as base:
            for method in methods:
                report_start(f"{method}, {setting.model}, {precision}")
                try:
                    row = _row(precise, method, request, base)
                except FairbenchError as error:
                    raise ConfigError(
                        f"{method} on {setting.model}: {error.message}", hint=error.hint
                    ) from error
                operations, equivalents = work[method]
                achieved = operations * row["images/s"]
                yield {
                    "method": method,
                    "model": setting.model,
                    "precision": precision,
                    **row,
                    "F/image": equivalents,
                    "TFLOP/s": achieved / 1e12,
                    "limit": achieved / peaks[precision],
                }


def _row(setting: TimedSetting, method: str, request: SpeedRequest, base: TimedTraining) -> dict[str, Any]:
    """The measurements of a method, alternating with TRADES (`base`) and the plain loop."""
    protocol = setting.protocol
    memory = Memory(setting.device)
    ours = base if method == BASELINE else TimedTraining(setting, method)
    ours.start(request.seconds)
    peak = memory.peak()
    blocks = {"ours": ours.block} if ours is base else {BASELINE: base.block, "ours": ours.block}
    references = _references(setting, method) if request.reference else {}
    for name, reference in references.items():
        reference.start(request.seconds)
        blocks = {name: reference.block, **blocks}
    timed = alternate(blocks, request.rounds)
    step, steps = statistics.median(timed["ours"]), setting.train_size / protocol.batch_size
    epoch = step * steps + ours.fixed_seconds
    row: dict[str, Any] = {
        "ms/step": 1000 * step,
        "images/s": protocol.batch_size / step,
        "s/epoch": epoch,
        "h/run": epoch * protocol.epochs / 3600,
        "GiB": peak,
        "start s": ours.first_seconds,
    }
    for name, reference in references.items():
        middle, low, high = ratio(timed[name], timed["ours"])
        other = "" if reference.method == method else f" ({reference.method})"
        row |= {f"x {name}": middle, name.replace("reference", "range"): f"{low:.2f}-{high:.2f}{other}"}
    row["x trades"] = 1.0 if ours is base else ratio(timed["ours"], timed[BASELINE])[0]
    reasons = ours.trainer.steps.fallback_reasons
    if ours is not base:
        ours.close()
    row |= split(setting, method)
    if reasons:
        row["range"] = f"{row.get('range', '')} no CUDA graph: {reasons[0]}"
    return row


def _references(setting: TimedSetting, method: str) -> dict[str, Reference]:
    """The plain loop in PyTorch's default precision, and on a GPU also in strict float32."""
    workers = _workers(setting.device)
    references = {"reference": Reference(setting, method, workers=workers)}
    if setting.device.type == "cuda":
        references["strict reference"] = Reference(setting, method, workers=workers, strict=True)
    return references


def _workers(device: torch.device) -> int:
    return WORKERS_ON_GPU if device.type == "cuda" else 0


def _overhead(
    setting: TimedSetting, request: SpeedRequest, report: SpeedReport, report_start: Callable[[str], None]
) -> None:
    """The time of the trainer's step of TRADES over attack, loss and update."""
    precision = setting.protocol.precision
    report_start(f"overhead of the trainer, {setting.model}, {precision}")
    shares = overhead(setting, request.seconds, request.rounds)
    low, middle, high = (100 * f(shares) for f in (min, statistics.median, max))
    report.tables["extra time of the trainer's step over attack, loss and update"] = [
        ("method", "model", "precision", "more"),
        (BASELINE, setting.model, precision, f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"),
    ]


def _ablate(
    setting: TimedSetting, request: SpeedRequest, report: SpeedReport, report_start: Callable[[str], None]
) -> None:
    """The last method with each speed-up turned off alone."""
    method, everything = request.methods[-1], setting.speedups
    title = f"{method}, {setting.model}, {setting.protocol.precision}"
    variants = {"everything on": everything}
    for part in fields(everything):
        if getattr(everything, part.name):
            variants[f"without {part.name}"] = replace(everything, **{part.name: False})
    variants["plain"] = Speedups.none()
    trainings = {}
    for name, chosen in variants.items():
        report_start(f"{title}: {name}")
        trainings[name] = TimedTraining(setting, method, chosen)
        trainings[name].start(request.seconds)
    timed = alternate({name: training.block for name, training in trainings.items()}, request.rounds)
    rows: list[tuple[str, ...]] = [("", "median", "ratio", "range")]
    for name, blocks in timed.items():
        middle, low, high = ratio(blocks, timed["everything on"])
        rows.append(
            (name, f"{1000 * statistics.median(blocks):.2f} ms", f"{middle:.2f}", f"{low:.2f}-{high:.2f}")
        )
    report.tables[f"{title}: step time, and as a multiple of everything on"] = rows
    for training in trainings.values():
        training.close()


def _profile(setting: TimedSetting, method: str) -> str:
    """The operations that take the most time in steps of `method`."""
    from torch.profiler import ProfilerActivity, profile

    cuda = setting.device.type == "cuda"
    with TimedTraining(setting, method) as training:
        training.epoch(training.starting + 1)
        with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
            training.epoch(training.starting * 3)
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    events = [
        (event.self_device_time_total if cuda else event.self_cpu_time_total, event.count, event.key)
        for event in profiler.key_averages()
    ]
    total = sum(time for time, *_ in events)
    lines = [f"{method}, {setting.model}, {setting.protocol.precision}: share of {order}, calls, name"]
    for time, count, name in sorted(events, key=lambda event: -event[0])[:PROFILED]:
        lines.append(f"{100 * time / total:5.1f} %  {count:6d}  {name[:110]}")
    return "\n".join(lines)
