"""The evaluations that a table is made from, and the digests that prove it."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from fairbench.core.identity import digest
from fairbench.records.cell import CLEAN
from fairbench.records.read import AttackKey, Evaluation, Record
from fairbench.tables.entries import Entry
from fairbench.tables.table import RunDigest


def outcomes_under(record: Record, attack: AttackKey | None, epoch: int) -> NDArray[Any]:
    """One row per test image at the checkpoint of `epoch`, under `attack` or without attack.

    Raises RecordError when the outcomes are missing or damaged.
    """
    if attack is None:
        return record.outcomes(CLEAN, epoch)
    return record.outcomes(attack.name, epoch, record.attack_ids[attack])


def run_digests(entry: Entry, attack: AttackKey | None) -> tuple[RunDigest, ...]:
    """The runs of an entry with the digest of the outcomes that a table under `attack` uses."""
    return tuple(
        RunDigest(seed.record.folder.name, seed.record.id, outcomes_digest(seed.record, attack, seed.epochs))
        for seed in entry.seeds.values()
    )


def outcomes_digest(record: Record, attack: AttackKey | None, epochs: Sequence[int]) -> str:
    """A hash of the digests of a run's outcomes at `epochs`, without an attack and under `attack`."""
    used = used_evaluations(record, attack, epochs)
    return digest(sorted((e.attack, e.epoch, e.id, e.digest or "") for e in used))


def used_evaluations(record: Record, attack: AttackKey | None, epochs: Sequence[int]) -> list[Evaluation]:
    """The evaluations at `epochs` that a table under `attack`, with its very settings, is made from."""
    id = None if attack is None else record.attack_ids.get(attack)

    def used(evaluation: Evaluation) -> bool:
        under = attack is not None and (evaluation.attack, evaluation.id) == (attack.name, id)
        return evaluation.epoch in epochs and (under or evaluation.attack == CLEAN)

    return list(filter(used, record.evaluations))


def settings_digest(attack: AttackKey | None) -> str:
    """A hash of the attack's name and settings; "" for none."""
    return "" if attack is None else digest([attack.name, attack.settings])
