"""Notes on methods whose robustness under PGD does not survive stronger attacks on the same weights."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fairbench.core.errors import RecordError
from fairbench.metrics.classwise import average_accuracy, class_accuracy
from fairbench.metrics.masking import GAP, masking_gap
from fairbench.records.read import AttackKey, Record
from fairbench.tables.entries import Entry

Judged = tuple[AttackKey, dict[str, Any]]
"""An attack that a record was evaluated under and its settings."""

ALONE = 2 * GAP  # without a baseline: short PGD reads several points high on any small network
SAME_RADIUS = 1.05  # 8/255 is 1.2 % above 0.031; radii further apart are not compared


@dataclass(frozen=True)
class AttackPair:
    """Robust accuracies (C + 1,), the average first: PGD on the cross-entropy, and the strongest ensemble."""

    pgd: np.ndarray
    ensemble: np.ndarray
    names: tuple[str, str]


def masking_notes(shown: Sequence[Entry], base: Entry | None) -> Iterator[str]:
    """One note for each entry whose gap is suspicious: 5 points more than the baseline's, or 10."""
    pairs = {entry.key: pair for entry in shown if (pair := _pair(entry)) is not None}
    usual = None
    if base is not None and base.key in pairs:
        usual = max(0.0, float(pairs[base.key].pgd[0] - pairs[base.key].ensemble[0]))
    for entry in shown:
        pair = pairs.get(entry.key)
        compared = usual is not None and entry is not base
        threshold = GAP + (usual or 0.0) if compared else ALONE
        if pair is None or masking_gap(float(pair.pgd[0]), float(pair.ensemble[0]), threshold) is None:
            continue
        gap = 100 * (pair.pgd - pair.ensemble)
        worst = int(gap[1:].argmax())
        name = entry.record.class_names[worst]
        than = f", {100 * (usual or 0.0):.1f} for {base.label}" if compared and base else ""
        yield (
            f"{entry.label}: {gap[0]:.1f} points between {pair.names[0]} and {pair.names[1]}{than} "
            f"(most: {name}, {gap[1 + worst]:.1f}); gradients may be masked, {pair.names[0]} misleads here"
        )


def _pair(entry: Entry) -> AttackPair | None:
    """The means over the entry's seeds; None without both kinds of attack at like radii."""
    found = [pair for seed in entry.seeds.values() for pair in _of_record(seed.record)]
    if not found:
        return None
    means = [np.mean([getattr(pair, side) for pair in found], axis=0) for side in ("pgd", "ensemble")]
    return AttackPair(means[0], means[1], found[0].names)


def _of_record(record: Record) -> Iterator[AttackPair]:
    """The last checkpoint's accuracies, where both were evaluated; nothing when outcomes are missing."""
    found = []
    ids = record.attack_ids
    for pair in _comparable(tuple(ids)):
        with suppress(RecordError):
            found.append(_pair_of(record, pair, ids))
    if found:
        yield min(found, key=lambda pair: (pair.ensemble[0], pair.pgd[0]))


@lru_cache
def _comparable(attacks: tuple[AttackKey, ...]) -> list[tuple[AttackKey, AttackKey]]:
    """The pairs of a PGD that masked gradients mislead and something else at a like radius."""
    by_kind: dict[bool, list[Judged]] = {True: [], False: []}
    for attack in attacks:
        settings = json.loads(attack.settings)
        plain = settings.get("loss", "ce") == "ce" and not settings.get("target")
        if settings.get("kind") == "pgd" and not plain:
            continue  # the margin is what such a method is found out with; towards a target PGD is weak
        by_kind[settings.get("kind") == "pgd"].append((attack, settings))
    return [
        (pgd[0], other[0]) for pgd in by_kind[True] for other in by_kind[False] if _like(pgd[1], other[1])
    ]


def _pair_of(record: Record, pair: tuple[AttackKey, AttackKey], ids: Mapping[AttackKey, str]) -> AttackPair:
    accuracies = []
    for attack in pair:
        hits, count = record.class_hits(attack.name, record.epochs_evaluated[-1], ids[attack])
        accuracies.append(np.append(average_accuracy(hits, count), class_accuracy(hits, count)))
    return AttackPair(accuracies[0], accuracies[1], (pair[0].name, pair[1].name))


def _like(one: dict[str, Any], other: dict[str, Any]) -> bool:
    low, high = sorted((one.get("eps") or 0.0, other.get("eps") or 0.0))
    return one.get("norm") == other.get("norm") and high <= SAME_RADIUS * low
