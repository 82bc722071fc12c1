"""Notes on signs of masked gradients: robust accuracy far lower under a stronger attack than under PGD."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairbench.core.errors import RecordError
from fairbench.metrics.classwise import average_accuracy, class_accuracy
from fairbench.metrics.masking import GAP, masking_gap
from fairbench.records.read import AttackKey, Record
from fairbench.tables.entries import Entry

ALONE = 2 * GAP  # without a baseline: PGD of few steps is several points too high on any small network
SAME_RADIUS = 1.05  # largest ratio of radii that are compared: 8/255 is 1.2 % above 0.031


class AttackPair(NamedTuple):
    """PGD on the cross-entropy and the strongest attack, with robust accuracies (2, C + 1), average first."""

    names: tuple[str, str]
    accuracy: NDArray[np.float64]


def masked(shown: Sequence[Entry], base: Entry | None) -> Iterator[str]:
    """A phrase for each entry with a gap between the attacks of 5 points more than the baseline's.

    Of 10 points for the baseline itself and where the baseline was not evaluated under both attacks.
    """
    pairs = {entry.key: pair for entry in shown if (pair := _pair(entry)) is not None}
    usual = None
    if base is not None and base.key in pairs:
        pgd, strongest = pairs[base.key].accuracy[:, 0].tolist()
        usual = max(0.0, pgd - strongest)
    for entry in shown:
        if entry.key not in pairs:
            continue
        pair = pairs[entry.key]
        pgd, strongest = pair.accuracy[:, 0].tolist()
        compared = usual is not None and entry is not base
        threshold = GAP + (usual or 0.0) if compared else ALONE
        if masking_gap(pgd, strongest, threshold) is None:
            continue
        gap = 100 * (pair.accuracy[0] - pair.accuracy[1])
        worst = int(gap[1:].argmax())
        name = entry.record.class_names[worst]
        than = f", {100 * (usual or 0.0):.1f} for {base.label}" if compared and base else ""
        yield (
            f"{entry.label}, {gap[0]:.1f} points between {pair.names[0]} and {pair.names[1]}{than} "
            f"(most: {name}, {gap[1 + worst]:.1f})"
        )


def _pair(entry: Entry) -> AttackPair | None:
    """The means over the entry's seeds; None without both kinds of attack at like radii."""
    pairs = [pair for seed in entry.seeds.values() if (pair := _of_record(seed.record)) is not None]
    mean = np.mean([pair.accuracy for pair in pairs], axis=0) if pairs else None
    return None if mean is None else AttackPair(pairs[0].names, mean)


def _of_record(record: Record) -> AttackPair | None:
    """The accuracies at the last checkpoint; None when it lacks an attack or the outcomes are missing."""
    pairs, ids = [], record.attack_ids
    for one, other in _comparable(tuple(ids)):
        with suppress(RecordError):
            counts = (record.class_hits(a.name, record.epochs_evaluated[-1], ids[a]) for a in (one, other))
            rows = [np.append(average_accuracy(*count), class_accuracy(*count)) for count in counts]
            pairs.append(AttackPair((one.name, other.name), np.stack(rows)))
    return min(pairs, key=lambda pair: (pair.accuracy[1, 0], pair.accuracy[0, 0]), default=None)


@lru_cache
def _comparable(attacks: tuple[AttackKey, ...]) -> list[tuple[AttackKey, AttackKey]]:
    """The pairs of PGD on the cross-entropy and another kind of attack with about the same radius."""
    pgd, others = [], []
    for attack in attacks:
        settings = json.loads(attack.settings)
        if settings.get("kind") != "pgd":
            others.append((attack, settings))
        elif settings.get("loss", "ce") == "ce" and not settings.get("target"):
            pgd.append((attack, settings))
    return [(one, other) for one, ours in pgd for other, theirs in others if _same_budget(ours, theirs)]


def _same_budget(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two attacks have the same norm and about the same radius."""
    low, high = sorted((one.get("eps") or 0.0, other.get("eps") or 0.0))
    return one.get("norm") == other.get("norm") and high <= SAME_RADIUS * low
