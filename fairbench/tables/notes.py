"""The notes below a table: what a reader needs besides the caption, most important first."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from fairbench.metrics.classwise import num_lowest_of
from fairbench.records.read import UNFINISHED
from fairbench.stats.intervals import wilson_interval
from fairbench.tables.entries import Entry, Side, tail_fraction
from fairbench.tables.groups import is_per_method, setting_overrides
from fairbench.tables.inventory import TableSpec
from fairbench.tables.masking import masked
from fairbench.tables.request import TableRequest
from fairbench.tables.table import PLUS_MINUS

FEW_SEEDS = 3  # with fewer, a t interval over seeds is too wide for any claim about a method
FEW_IMAGES = 100  # of a class
MAX_LISTED = 6  # in one note


def notes(spec: TableSpec, request: TableRequest, sides: Sequence[str]) -> list[str]:
    """Problems of rho, runs left out, missing seeds, warnings of the records, and which class was lowest."""
    every, shown, base = spec.all_entries, spec.entries, spec.base
    lines: list[str] = []
    if request.compares and base is None and shown:
        lines.append(_missing_baseline(shown, request))
    elif request.compares and base is not None:
        lines += _rho_problems(shown, base, sides) if "rho" in request.names else _not_compared(shown, base)
    lines += _listed("left out", [f"{entry.label}, {fault}" for entry in every for fault in entry.faults])
    lines += _not_done(every)
    lines += _missing_seeds(every)
    lines += _too_few(shown)
    lines += _own_protocols(shown)
    lines += _listed("gradients may be masked, PGD is too high", list(masked(shown, base)))
    lines += _warnings(shown)
    lines += _lowest_classes(shown, sides if spec.attack else [side for side in sides if side == "clean"])
    lines += _listed(
        "copies with different outcomes exist, the table uses the one finished last",
        [record.folder.name for record in spec.setting.disputed],
    )
    return lines


def _listed(kind: str, items: Sequence[str]) -> list[str]:
    """One note on everything of a kind; none without an item."""
    if not items:
        return []
    more = f"; and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
    return [f"{kind}: {'; '.join(items[:MAX_LISTED])}{more}"]


def _lowest_classes(shown: Sequence[Entry], sides: Sequence[str]) -> list[str]:
    """Which class is lowest most often; for which entries it is another one."""
    parts = []
    for side in sides if shown else ():
        by_class: dict[str, list[str]] = defaultdict(list)
        for entry in shown:
            by_class[entry.worst_class_name(side).rpartition(" (")[0]].append(entry.label)
        first, *others = sorted(by_class, key=lambda name: -len(by_class[name]))
        exceptions = "; ".join(f"{name} for {', '.join(by_class[name])}" for name in others)
        parts.append(f"{side} {first}" + (f" ({exceptions})" if exceptions else ""))
    return [f"lowest class most often: {', '.join(parts)}"] if parts else []


def _missing_baseline(shown: Sequence[Entry], request: TableRequest) -> str:
    record = shown[0].record
    seeds = sorted({seed for entry in shown for seed in entry.seeds})
    command = (
        f"fairbench run --methods {request.baseline} --datasets {record.dataset} --models {record.model} "
        f"--protocol {record.protocol} --seeds {','.join(map(str, seeds))}"
    )
    command += "".join(f" --set protocol.{key}={value}" for key, value in setting_overrides(record).items())
    what = "rho" if "rho" in request.names else "the comparison"
    return f"{what} needs the baseline {request.baseline}, but no run of it is done: {command}"


def _rho_problems(shown: Sequence[Entry], base: Entry, sides: Sequence[str]) -> Iterable[str]:
    if base.overrides:
        yield f"rho is against {base.label}: the baseline without overrides was not run."
    common = {entry.label: [seed for seed in entry.seeds if seed in base.seeds] for entry in shown}
    yield from _listed(
        f"rho without {PLUS_MINUS}, no common seed with {base.label}",
        [name for name in common if not common[name]],
    )
    fewer = [
        f"{entry.label} {_numbers(common[entry.label])}"
        for entry in shown
        if 0 < len(common[entry.label]) < max(len(entry.seeds), len(base.seeds))
    ]
    yield from _listed(f"rho is of the seeds shared with {base.label}", fewer)
    for side in sides:
        of_base = list(base.sides(side).values())
        if of_base and max(one.worst for one in of_base) == 0:
            yield f"rho ({side}) is undefined: the worst class of {base.label} has accuracy 0."
        elif of_base and _unstable(of_base):
            yield f"rho ({side}) is unstable: the worst class of {base.label} is not clearly above 0."


def _not_compared(shown: Sequence[Entry], base: Entry) -> Iterable[str]:
    alone = [entry.label for entry in shown if not set(entry.seeds) & set(base.seeds)]
    yield from _listed(f"not compared, no common seed with {base.label}", alone)


def _too_few(shown: Sequence[Entry]) -> Iterable[str]:
    """Notes that there are too few seeds, or too few images of a class."""
    fewest = min((len(entry.seeds) for entry in shown), default=FEW_SEEDS)
    if fewest < FEW_SEEDS:
        count = "1 seed is" if fewest == 1 else f"{fewest} seeds are"
        yield f"{count} too few for a conclusion about methods: at least 3, better 5 (--seeds 0..4)"
    counts = [int(seed.clean.count.min()) for entry in shown for seed in entry.seeds.values()]
    if counts and min(counts) < FEW_IMAGES:
        low, high = wilson_interval(round(min(counts) / 4), min(counts))
        yield (
            f"a class of {min(counts)} test images is known to about {PLUS_MINUS} {50 * (high - low):.0f} "
            "points (95 %, at an accuracy of 25 %), however many seeds are run"
        )


def _unstable(sides: Sequence[Side]) -> bool:
    """Whether the mean of the worst is below four of its standard errors: there, linear propagation fails.

    The errors of seeds and of test images are added.
    """
    values, n = [side.worst for side in sides], len(sides)
    mean = sum(values) / n
    seeds = sum((value - mean) ** 2 for value in values) / (n - 1) / n if n > 1 else 0.0
    count = sides[0].count
    images = int(count.min()) * num_lowest_of(len(count), tail_fraction(len(count)))
    return mean < 4 * math.sqrt(seeds + mean * (1 - mean) / images)


def _not_done(entries: Sequence[Entry]) -> Iterable[str]:
    """A note for each way in which runs did not end well."""
    by_state: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        for record in entry.runs:
            name = f"{entry.label}, seed {record.seed}"
            if record.state == UNFINISHED:
                by_state["not finished"].append(name)
            elif record.state != "done":
                reason = " ".join(record.reason.split())
                at = "" if record.epoch is None else f" at epoch {record.epoch}"
                detail = f" ({reason})" if reason else ""
                by_state[f"{record.state}, not in the means"].append(f"{name}{at}{detail}")
    for state, names in by_state.items():
        yield from _listed(state, names)


def _missing_seeds(entries: Sequence[Entry]) -> Iterable[str]:
    every_seed = {record.seed for entry in entries for record in entry.runs}
    missing = {entry.label: sorted(every_seed - {r.seed for r in entry.runs}) for entry in entries}
    return _listed(
        "no run with seed", [f"{_numbers(seeds)} of {name}" for name, seeds in missing.items() if seeds]
    )


def _own_protocols(shown: Sequence[Entry]) -> Iterable[str]:
    own = []
    for entry in shown:
        if is_per_method(entry.record):
            cell = entry.record.cell
            own.append(f"{entry.label} {cell.protocol_name} v{cell.protocol_version}")
    return _listed("own schedules", own)


def _warnings(shown: Sequence[Entry]) -> Iterable[str]:
    """Each warning of the records once, with the entries and seeds that have it."""
    seeds_with: Mapping[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for entry in shown:
        for number, seed in entry.seeds.items():
            for warning in dict.fromkeys(seed.record.warnings):
                seeds_with[warning][entry.label].append(number)
    counts = {entry.label: len(entry.seeds) for entry in shown}
    for warning, by_label in seeds_with.items():
        names = [
            label if len(seeds) == counts[label] else f"{label} (seed {_numbers(seeds)})"
            for label, seeds in by_label.items()
        ]
        in_all = {label: len(seeds) for label, seeds in by_label.items()} == counts
        yield f"{'all runs' if in_all else ', '.join(names)}: {warning}"


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
