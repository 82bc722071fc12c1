"""What a reader of a table must know beyond its caption, most important first."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from fairbench.metrics.classwise import num_lowest_of
from fairbench.records.read import UNFINISHED
from fairbench.stats.intervals import wilson_interval
from fairbench.tables.captions import PLUS_MINUS
from fairbench.tables.entries import Entry, Side, tail_fraction
from fairbench.tables.groups import is_per_method, setting_overrides
from fairbench.tables.inventory import TableSpec
from fairbench.tables.masking import masking_notes
from fairbench.tables.request import TableRequest

FEW_SEEDS = 3  # below, a t interval over seeds is too wide to say anything of a method
FEW_IMAGES = 100  # of a class


def notes(spec: TableSpec, request: TableRequest, sides: Sequence[str]) -> list[str]:
    """Faults of rho, runs left out, missing seeds, warnings of the records, and which class was lowest."""
    entries, shown, base = spec.all_entries, spec.entries, spec.base
    found: list[str] = []
    if request.compares and base is None and shown:
        found.append(_missing_baseline(shown, request.baseline))
    elif request.compares and base is not None:
        found += _rho_faults(shown, base, sides) if "rho" in request.names else _pair_faults(shown, base)
    found += [f"{entry.label}, {fault}" for entry in entries for fault in entry.faults]
    found += _not_done(entries)
    found += _missing_seeds(entries)
    found += _too_few(shown)
    found += _own_protocols(shown)
    found += masking_notes(shown, base)
    found += _warnings(shown)
    for side in sides if spec.attack else [side for side in sides if side == "clean"]:
        names = [f"{entry.label} {entry.worst_class_name(side)}" for entry in shown]
        if names:
            found.append(f"lowest class, {side} (most often over seeds and checkpoints): {'; '.join(names)}")
    found += [
        f"{record.folder.name}: copies with other outcomes exist, the one finished last counts"
        for record in spec.setting.disputed
    ]
    return found


def _missing_baseline(shown: Sequence[Entry], baseline: str) -> str:
    record = shown[0].record
    seeds = sorted({seed for entry in shown for seed in entry.seeds})
    command = (
        f"fairbench run --methods {baseline} --datasets {record.dataset} --models {record.model} "
        f"--protocol {record.protocol} --seeds {','.join(map(str, seeds))}"
    )
    command += "".join(f" --set protocol.{key}={value}" for key, value in setting_overrides(record).items())
    return f"rho needs the baseline {baseline}, of which no run here is done: {command}"


def _rho_faults(shown: Sequence[Entry], base: Entry, sides: Sequence[str]) -> Iterable[str]:
    if base.overrides:
        yield f"rho is against {base.label}: the baseline as published was not run."
    for entry in shown:
        common = [seed for seed in entry.seeds if seed in base.seeds]
        if not common:
            yield f"{entry.label} shares no seed with {base.label}: its rho is of the means, without error."
        elif len(common) < max(len(entry.seeds), len(base.seeds)):
            yield f"rho of {entry.label} is of the seeds shared with {base.label}: {_numbers(common)}."
    for side in sides:
        found = list(base.sides(side).values())
        if found and max(each.worst for each in found) == 0:
            yield f"rho ({side}) is undefined: the worst class of {base.label} has accuracy 0."
        elif found and _unstable(found):
            yield f"rho ({side}) is unstable: the worst class of {base.label} is not clearly above 0."


def _pair_faults(shown: Sequence[Entry], base: Entry) -> Iterable[str]:
    for entry in shown:
        if not set(entry.seeds) & set(base.seeds):
            yield f"{entry.label} shares no seed with {base.label}: nothing to compare."


def _too_few(shown: Sequence[Entry]) -> Iterable[str]:
    """That the seeds, or the images of a class, are too few for a claim."""
    fewest = min((len(entry.seeds) for entry in shown), default=FEW_SEEDS)
    if fewest < FEW_SEEDS:
        count = "1 seed is" if fewest == 1 else f"{fewest} seeds are"
        yield f"{count} too few for a claim about methods: at least 3, better 5 (--seeds 0..4)"
    counts = [int(seed.clean.count.min()) for entry in shown for seed in entry.seeds.values()]
    if counts and min(counts) < FEW_IMAGES:
        low, high = wilson_interval(round(min(counts) / 4), min(counts))
        yield (
            f"a class of {min(counts)} test images is known to about {PLUS_MINUS} {50 * (high - low):.0f} "
            "points (95 %, at an accuracy of 25 %), whatever the seeds say"
        )


def _unstable(sides: Sequence[Side]) -> bool:
    """Whether the mean is below four standard errors of seeds and images: linear propagation misleads."""
    values, n = [side.worst for side in sides], len(sides)
    mean = sum(values) / n
    seeds = sum((value - mean) ** 2 for value in values) / (n - 1) / n if n > 1 else 0.0
    count = sides[0].count
    images = int(count.min()) * num_lowest_of(len(count), tail_fraction(len(count)))
    return mean < 4 * math.sqrt(seeds + mean * (1 - mean) / images)


def _not_done(entries: Sequence[Entry]) -> Iterable[str]:
    for entry in entries:
        for record in entry.runs:
            if record.state == UNFINISHED:
                yield f"{entry.label}, seed {record.seed}: not finished"
            elif record.state != "done":
                epoch = record.record.get("epoch")
                at = f" at epoch {epoch}" if isinstance(epoch, int) else ""
                reason = f" ({' '.join(record.reason.split())})" if record.reason else ""
                yield f"{entry.label}, seed {record.seed}: {record.state}{at}{reason}, not in the means"


def _missing_seeds(entries: Sequence[Entry]) -> Iterable[str]:
    wanted = {record.seed for entry in entries for record in entry.runs}
    for entry in entries:
        missing = sorted(wanted - {record.seed for record in entry.runs})
        if missing:
            yield f"{entry.label}: no run with seed {_numbers(missing)}"


def _own_protocols(shown: Sequence[Entry]) -> Iterable[str]:
    for entry in shown:
        record = entry.record
        protocol = record.identity("protocol")
        if is_per_method(record) and protocol.get("name", record.protocol) != record.protocol:
            yield f"{entry.label} was trained by {protocol['name']} v{protocol.get('version', '?')}"


def _warnings(shown: Sequence[Entry]) -> Iterable[str]:
    """Each warning of the records once, with whom it concerns."""
    concerned: Mapping[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for entry in shown:
        for number, seed in entry.seeds.items():
            for warning in dict.fromkeys(seed.record.warnings):
                concerned[warning][entry.label].append(number)
    for warning, who in concerned.items():
        everyone = all(len(who.get(entry.label, ())) == len(entry.seeds) for entry in shown)
        counts = {entry.label: len(entry.seeds) for entry in shown}
        names = [
            label if len(seeds) == counts[label] else f"{label} (seed {_numbers(seeds)})"
            for label, seeds in who.items()
        ]
        yield f"{'all runs' if everyone else ', '.join(names)}: {warning}"


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
