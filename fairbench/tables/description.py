"""What was measured in a table and how each number was computed, in full sentences.

A caption has the same content in three lines (`captions.py`). These sentences are its long form
(`--caption full`); those that define something stand once in the legend after all tables.
"""

import json
from collections.abc import Sequence
from typing import Any

from fairbench.records.attack_strength import describe_strength
from fairbench.records.read import AttackKey, Record
from fairbench.tables.entries import TAIL_FRACTION, Entry, Seed, tail_fraction
from fairbench.tables.groups import assignments, protocol_version, setting_overrides
from fairbench.tables.inventory import TableSpec
from fairbench.tables.request import TableRequest
from fairbench.tables.table import PLUS_MINUS

_HIDDEN_SETTINGS = ("kind", "version", "id", "at")
_SETTINGS_FIRST = ("eps", "step_size", "num_steps", "start")
_PRECISIONS = {
    "tf32-conv": "Networks were trained with TF32 convolutions, PyTorch's default on a GPU, and evaluated in "
    "float32.",
    "tf32": "Networks were trained with TF32 products and convolutions, and evaluated in float32.",
    "bf16": "Networks were trained in bfloat16, weights and losses in float32, and evaluated in float32.",
}
_COLUMNS = {  # a sentence for each column that is the same in every table, in the order of the caption
    "balanced": "Balanced is the mean of the class accuracies; average is over all images.",
    "split-half": "Split-half chooses the worst class on one half of the images and measures it on the other "
    "half, which removes the downward bias.",
    "gap": "Gap is the best class minus the worst; sampling noise makes it larger.",
    "deviation": "Deviation is the standard deviation over classes divided by their mean.",
    "nsd": "NSD is the standard deviation over classes divided by their mean.",
    "gini": "Gini is the mean difference between two classes divided by twice the mean of the classes.",
    "harmonic": "Harmonic mean is over the class accuracies.",
    "asymmetry": "Asymmetry is the share of confusions between two classes that is not matched by those in "
    "the other direction; sampling noise makes it larger.",
}


def description(spec: TableSpec, request: TableRequest, sides: Sequence[str]) -> tuple[str, ...]:
    """Sentences: what was measured, over what it is averaged, what errors are, how columns are defined."""
    record, entries, attack = spec.setting.first, spec.entries, spec.attack
    if not entries:
        return ("No run of this table is done yet.",)
    sentences = [_where(record, attack, sides)]
    if record.precision in _PRECISIONS:
        sentences.append(_PRECISIONS[record.precision])
    if attack is not None and "robust" in sides:
        sentences.append(describe_strength(json.loads(attack.settings)))
    selection = _selection([seed for entry in entries for seed in entry.seeds.values()])
    sentences.append(f"Each number is the mean over {_seed_count(entries)} of {selection}.")
    sentences.append(images_per_class(entries))
    if request.view == "comparison":
        return (*sentences[:-2], *_comparison(spec, selection), sentences[-1])
    return (*sentences, *definitions(spec, request))


def attack_definition(attack: AttackKey | None) -> tuple[str, ...]:
    """A sentence with every setting of the attack; empty without an attack."""
    text = describe_attack(attack)
    return () if attack is None else (f"{text[0].upper()}{text[1:]}.",)


def definitions(spec: TableSpec, request: TableRequest) -> tuple[str, ...]:
    """The sentences that define what is in a table, which do not depend on its data set and methods."""
    if not spec.entries:
        return ()
    if request.view == "comparison":
        return tuple(_comparison(spec, "the mean over checkpoints"))
    plus_minus = _plus_minus(spec.entries, request.error, rho="rho" in request.names)
    rest = _classes(spec.entries) if request.view == "classes" else _columns(spec, request)
    return (plus_minus, *rest)


def _classes(entries: Sequence[Entry]) -> list[str]:
    if all(len(entry.seeds) > 1 for entry in entries):
        return []
    return ["In brackets, for one seed: 95 % Wilson interval of the class over the test images."]


def _columns(spec: TableSpec, request: TableRequest) -> list[str]:
    """A sentence for each column whose header does not explain it."""
    names = request.names
    sentences = [_COLUMNS["balanced"]] if "balanced" in names else []
    has_tail = tail_fraction(spec.num_classes) is not None
    if {"worst", "limits", "floor"} & set(names):
        share = f"mean over the lowest {100 * TAIL_FRACTION:.0f} % of classes"
        lowest = share if has_tail else "lowest class accuracy"
        sentences.append(f"Worst is the {lowest} of each checkpoint, averaged afterwards.")
    if "limits" in names:
        several = max(len(entry.seeds) for entry in spec.entries) > 1
        over = "new test images and new seeds" if several else "new test images, for this run alone"
        sentences.append(
            f"Its 95 % limits hold for all classes together, over {over}; they are conservative."
        )
    if "floor" in names:
        worst = "worst" if has_tail else "worst class"
        sentences.append(f"Floor: expected {worst} if all classes were equal.")
    if "split-half" in names:
        sentences.append(_COLUMNS["split-half"])
    if any(name.startswith("worst-") for name in names):
        sentences.append("Worst K % is the mean over the lowest K % of classes, at least one class.")
    if any(name.startswith("lowest-") for name in names):
        sentences.append("Lowest K is the mean over the K lowest classes.")
    later = ("gap", "deviation", "nsd", "gini", "harmonic", "asymmetry")
    sentences += [_COLUMNS[name] for name in later if name in names]
    if "rho" in names and spec.base is not None:
        sentences.append(_rho(spec.base.label, request.convention))
    return sentences


def _where(record: Record, attack: AttackKey | None, sides: Sequence[str]) -> str:
    overrides = setting_overrides(record)
    protocol = f"protocol {protocol_name(record)}" + (f" with {assignments(overrides)}" if overrides else "")
    what = "images without attack" if attack is None and len(sides) == 1 else describe_attack(attack)
    return f"{record.model}, {record.dataset}, {protocol}, {what}."


def protocol_name(record: Record) -> str:
    version = protocol_version(record)
    return f"{record.protocol} v{version}" if version else record.protocol


def describe_attack(attack: AttackKey | None) -> str:
    """The attack with its version and every setting that has a value."""
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
    """Over which checkpoints of a run the numbers are averaged."""
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
    return f"the mean over the checkpoints of epochs {', '.join(map(str, epochs))}"


def _plus_minus(entries: Sequence[Entry], error: str, *, rho: bool) -> str:
    counts = [len(entry.seeds) for entry in entries]
    if max(counts) == 1:
        return f"There is no {PLUS_MINUS}: one seed does not show the spread."
    kind = "half-width of the 95 % t interval" if error == "t95" else "standard deviation (n - 1)"
    of_rho = ", for rho by linear propagation over common seeds" if rho else ""
    single = "; there is none for one seed" if min(counts) == 1 else ""
    return (
        f"{PLUS_MINUS} is the {kind} over seeds{of_rho}{single}; "
        "it does not include the sampling error of the test images."
    )


def _rho(base: str, convention: str) -> str:
    if convention == "signed":
        return f"rho (signed) is the relative change of the worst plus that of the average, against {base}."
    return (
        f"rho follows the rule of the TRIX paper's printed numbers, against {base}; "
        "do not compare it with signed values."
    )


def _comparison(spec: TableSpec, selection: str) -> list[str]:
    """What the differences, their intervals and the p values are, as far as they occur."""
    base = spec.base
    if base is None:
        return ["There is no baseline to compare with."]
    shared = [len(set(entry.seeds) & set(base.seeds)) for entry in spec.entries if entry is not base]
    sentences = [f"Differences are method minus {base.label} on the same test images."]
    if max(shared, default=0) > 1:
        sentences.append(
            f"They are of {selection}, averaged over common seeds; {PLUS_MINUS} is the half-width of the "
            "95 % interval of the paired t test, p its two-sided value; flip p is the exact sign-flip test "
            "of the worst, which assumes no normal distribution."
        )
    if 1 in shared:
        sentences.append(
            "Where only one seed is common, they are of its last checkpoint alone, brackets are 95 % limits "
            "over test images and p is McNemar's exact test: this compares two checkpoints, not two methods."
        )
    return [
        *sentences,
        "Every p except flip p is adjusted over the methods of its column (Holm).",
        "Classes up and down: how many classes are better or worse by McNemar's exact test on the last "
        "checkpoint (Benjamini-Hochberg, 5 %), mean over common seeds.",
    ]


def images_per_class(entries: Sequence[Entry]) -> str:
    """How many test images a class has: "52 to 54 test images per class."."""
    counts = class_sizes(entries)
    low, high = min(counts), max(counts)
    return f"{low} test images per class." if low == high else f"{low} to {high} test images per class."


def class_sizes(entries: Sequence[Entry]) -> set[int]:
    """The numbers of test images that classes have."""
    return {int(n) for entry in entries for seed in entry.seeds.values() for n in seed.clean.count}
