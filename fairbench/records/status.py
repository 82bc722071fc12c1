"""The status of a run, derived once for all commands and executors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fairbench.records.cell import Cell
from fairbench.records.read import Record

State = Literal["done", "running", "queued", "partial", "failed", "diverged", "stale", "missing"]
STATES: Mapping[State, str] = {
    "done": "trained, and evaluated with all attacks that were asked for",
    "running": "a process works on it",
    "queued": "a scheduler will start it",
    "partial": "interrupted, or evaluations are missing; `run` continues it",
    "failed": "an error ended it, or its record is damaged; `run` tries again",
    "diverged": "the loss became infinite or NaN; `run` leaves it",
    "stale": "in a plan: results exist, but code, data or protocol changed since",
    "missing": "in a plan: not started",
}
"""What each state means, as in the help of commands and in docs/reference.md."""
FINISHED = frozenset({"done", "diverged"})  # the same cell would end the same way again


@dataclass(frozen=True)
class Status:
    """The state of a run and why. STATES has the meaning of each state."""

    state: State
    reason: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in FINISHED


def recorded_status(record: Record, cell: Cell) -> Status:
    """The status by what is recorded, for the attacks that `cell` asks for, whether anything runs or not."""
    if record.cell.id != cell.id:
        return Status("failed", "it holds the cell of another folder.")
    if record.state == "unfinished":
        return Status("partial", "interrupted")
    if record.state != "done":
        return Status(record.state, record.reason)
    required = cell.evaluations(record.num_classes)
    ids = {attack.id for attack in required}
    faults = {
        record.evaluations[place].id: fault
        for place, fault in record.outcome_faults.items()
        if record.evaluations[place].id in ids
    }
    evaluated = {(each.id, each.epoch) for each in record.evaluations}
    lacking = [
        attack
        for attack in required
        if not evaluated.issuperset(
            (attack.id, epoch) for epoch in attack.epochs(record.epochs_evaluated, record.epochs_kept)
        )
    ]
    errors = {failure.id: failure for failure in record.failures}
    open_ids = dict.fromkeys([*faults, *(each.id for each in lacking)])
    failed = [f"{errors[id].attack}: {errors[id].error}" for id in open_ids if id in errors]
    if failed:
        return Status("failed", "; ".join(failed))
    if faults:
        return Status("partial", next(iter(faults.values())))
    if lacking:
        names = ", ".join(dict.fromkeys(each.name for each in lacking))
        return Status("partial", f"not yet evaluated: {names}")
    return Status("done")
