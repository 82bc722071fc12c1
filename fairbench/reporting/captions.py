"""What a table says about itself: its title, its caption and its notes."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairbench.records.read import UNFINISHED, Record
from fairbench.records.standing import describe_standing
from fairbench.reporting.entries import TAIL_FRACTION, Entry, Seed, uses_tail
from fairbench.reporting.groups import Attack, assignments, is_per_method, setting_overrides
from fairbench.reporting.masking import masking_notes

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
_HIDDEN_SETTINGS = ("kind", "version", "id", "at")
_SETTINGS_FIRST = ("eps", "step_size", "num_steps", "start")


def title(record: Record, attack: Attack | None, variant: str) -> str:
    """The table's place in a few words: data set, network, protocol, attack."""
    parts = [record.dataset, record.model, _protocol(record), attack.name if attack else "no attack"]
    return ", ".join(parts) + (f" ({variant})" if variant else "")


def caption(
    record: Record,
    entries: Sequence[Entry],
    attack: Attack | None,
    base: Entry | None,
    error: str,
    convention: str,
) -> str:
    """The sentences without which the numbers mean nothing."""
    if not entries:
        return "No run of this table is done yet."
    done = [seed for entry in entries for seed in entry.seeds.values()]
    sentences = [
        _where(record, attack),
        *([describe_standing(json.loads(attack.settings))] if attack else []),
        f"Each number is the mean over {_seed_count(entries)} of {_selection(done)}.",
        _plus_minus(entries, error),
        _worst(done[0].record.num_classes),
    ]
    if base is not None:
        sentences.append(_rho(base.label, convention))
    sentences.append(_test_images(entries))
    return " ".join(sentences)


def notes(
    entries: Sequence[Entry],
    shown: Sequence[Entry],
    attack: Attack | None,
    base: Entry | None,
    baseline: str,
) -> list[str]:
    """What a reader must know beyond the caption, most important first."""
    found: list[str] = []
    if base is None and shown:
        found.append(_missing_baseline(shown, baseline))
    elif base is not None:
        found += _rho_faults(shown, base, attack is not None)
    found += [f"{entry.label}, {fault}" for entry in entries for fault in entry.faults]
    found += _not_done(entries)
    found += _missing_seeds(entries)
    found += _own_protocols(shown)
    found += masking_notes(shown, base)
    found += _warnings(shown)
    for side in ("clean", "robust") if attack else ("clean",):
        names = [f"{entry.label} {entry.worst_class_name(side)}" for entry in shown]
        if names:
            found.append(f"lowest class, {side} (most often over seeds and checkpoints): {'; '.join(names)}")
    return found


def copies_note(record: Record) -> str:
    """That a run exists twice with different outcomes, and which one is in the table."""
    return f"{record.folder.name}: copies with other outcomes exist, the one finished last counts"


def _where(record: Record, attack: Attack | None) -> str:
    overrides = setting_overrides(record)
    protocol = f"protocol {_protocol(record)}" + (f" with {assignments(overrides)}" if overrides else "")
    return f"{record.dataset}, {record.model}, {protocol}, {_attack(attack)}."


def _protocol(record: Record) -> str:
    version = record.identity("protocol").get("version")
    return record.protocol if version is None or is_per_method(record) else f"{record.protocol} v{version}"


def _attack(attack: Attack | None) -> str:
    if attack is None:
        return "no attack evaluated"
    settings: dict[str, Any] = json.loads(attack.settings)
    version = f" v{settings['version']}" if "version" in settings else ""
    shown = {k: v for k, v in settings.items() if k not in _HIDDEN_SETTINGS and v is not None}
    ordered = [key for key in _SETTINGS_FIRST if key in shown] + sorted(set(shown) - set(_SETTINGS_FIRST))
    text = ", ".join(assignments({key: shown[key]}) for key in ordered)
    return f"attack {attack.name}{version}" + (f" ({text})" if text else "")


def _seed_count(entries: Sequence[Entry]) -> str:
    counts = {len(entry.seeds) for entry in entries}
    if len(counts) == 1:
        count = counts.pop()
        return "1 seed per method" if count == 1 else f"{count} seeds per method"
    return "seeds (" + ", ".join(f"{entry.label} {len(entry.seeds)}" for entry in entries) + ")"


def _selection(seeds: Sequence[Seed]) -> str:
    epochs, *others = {seed.epochs for seed in seeds}
    if others:
        sizes = {len(selected) for selected in (epochs, *others)}
        count = f"{sizes.pop()} " if len(sizes) == 1 else ""
        return f"the mean over the last {count}checkpoints of each run, which end at different epochs"
    if len(epochs) == 1:
        only = all(seed.epochs == seed.record.epochs_evaluated for seed in seeds)
        return f"the {'one checkpoint evaluated' if only else 'last checkpoint alone'} (epoch {epochs[0]})"
    last = epochs == tuple(range(epochs[-1] - len(epochs) + 1, epochs[-1] + 1))
    if last:
        return f"the mean over the last {len(epochs)} checkpoints (epochs {epochs[0]}-{epochs[-1]})"
    return f"the mean over the checkpoints of epochs {_numbers(epochs)}"


def _plus_minus(entries: Sequence[Entry], error: str) -> str:
    counts = [len(entry.seeds) for entry in entries]
    if max(counts) == 1:
        return f"There is no {PLUS_MINUS}: one seed does not show the spread."
    kind = "half-width of the 95 % t interval" if error == "t95" else "standard deviation (n - 1)"
    single = "; there is none for one seed" if min(counts) == 1 else ""
    return (
        f"{PLUS_MINUS} is the {kind} over seeds, for rho by linear propagation over common seeds{single}; "
        "the sampling error of the test images is not in it."
    )


def _worst(num_classes: int) -> str:
    if uses_tail(num_classes):
        share = f"{100 * TAIL_FRACTION:.0f} %"
        return f"Worst is the mean over the lowest {share} of classes of a checkpoint, averaged afterwards."
    return "Worst is the lowest class accuracy of a checkpoint, averaged afterwards."


def _rho(base: str, convention: str) -> str:
    if convention == "signed":
        return f"rho (signed) is the relative change of the worst plus that of the average, against {base}."
    return (
        f"rho follows the rule of the TRIX paper's printed numbers, against {base}; "
        "do not set it beside signed values."
    )


def _test_images(entries: Sequence[Entry]) -> str:
    counts = {n for entry in entries for seed in entry.seeds.values() for n in seed.clean.class_counts}
    low, high = min(counts), max(counts)
    return f"{low} test images per class." if low == high else f"{low} to {high} test images per class."


def _missing_baseline(shown: Sequence[Entry], baseline: str) -> str:
    record = next(iter(shown[0].seeds.values())).record
    seeds = sorted({seed for entry in shown for seed in entry.seeds})
    command = (
        f"fairbench run --methods {baseline} --datasets {record.dataset} --models {record.model} "
        f"--protocol {record.protocol} --seeds {','.join(map(str, seeds))}"
    )
    command += "".join(f" --set protocol.{key}={value}" for key, value in setting_overrides(record).items())
    return f"rho needs the baseline {baseline}, of which no run here is done: {command}"


def _rho_faults(shown: Sequence[Entry], base: Entry, attacked: bool) -> Iterable[str]:
    if base.overrides:
        yield f"rho is against {base.label}: the baseline as published was not run."
    for entry in shown:
        common = [seed for seed in entry.seeds if seed in base.seeds]
        if not common:
            yield f"{entry.label} shares no seed with {base.label}: its rho is of the means, without error."
        elif len(common) < max(len(entry.seeds), len(base.seeds)):
            yield f"rho of {entry.label} is of the seeds shared with {base.label}: {_numbers(common)}."
    for side in ("clean", "robust") if attacked else ("clean",):
        values = [getattr(seed, side).worst for seed in base.seeds.values()]
        if max(values) == 0:
            yield f"rho ({side}) is undefined: the worst class of {base.label} has accuracy 0."
        elif _unstable(values):
            yield f"rho ({side}) is unstable: the worst class of {base.label} is not clearly above 0."


def _unstable(values: Sequence[float]) -> bool:
    """Whether the mean is below four standard errors, where linear propagation misleads."""
    n = len(values)
    mean = sum(values) / n
    variance = sum((value - mean) ** 2 for value in values) / (n - 1) if n > 1 else 0.0
    return mean < 4 * math.sqrt(variance / n)


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
        record = next(iter(entry.seeds.values())).record
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
