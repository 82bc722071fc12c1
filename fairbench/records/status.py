"""The status of a run, derived once for all commands and executors."""

import os
from dataclasses import dataclass
from typing import Literal

from fairbench.core.identity import digest
from fairbench.records.cell import Cell
from fairbench.records.read import CLEAN, Record

State = Literal[
    "done", "diverged", "failed", "interrupted", "skipped", "partial", "running", "queued", "stale", "missing"
]
FINISHED = frozenset({"done", "diverged"})  # the same cell would end the same way again


@dataclass(frozen=True)
class Status:
    """The state of a run and why.

    done         trained, and evaluated under every attack that was asked for
    diverged     training met a loss that is not finite
    failed       training or an evaluation that was asked for failed, or a file is damaged; tried again
    interrupted  ended by a person or a scheduler
    skipped      left out on purpose
    partial      not finished, or attacks were not evaluated yet (`missing`); continued
    running      a process holds the lease on the folder
    queued       a scheduler has it
    stale        only a run of other code, data or protocol is there
    missing      no run is there
    """

    state: State
    reason: str = ""
    missing: tuple[str, ...] = ()  # attacks

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in FINISHED


def recorded_status(record: Record, cell: Cell) -> Status:
    """The status by what is recorded, for the attacks that `cell` asks for, whether anything runs or not."""
    if digest(record.cell.identity) != record.cell.id:
        return Status("failed", "the cell was changed by hand: its id does not fit its content.")
    if record.cell.id != cell.id:
        return Status("failed", "it holds the cell of another folder.")
    if record.state == "unfinished":
        return Status("partial", "interrupted")
    if record.state != "done":
        return Status(record.state, record.reason)
    asked = {attack.id for attack in cell.evaluation}
    lost = [
        each
        for each in record.evaluations
        if (each.attack == CLEAN or each.id in asked) and not os.path.exists(record.folder / each.file)
    ]
    errors = {failure.id: failure for failure in record.failures}
    evaluated = {(each.id, each.epoch) for each in record.evaluations}
    lacking = [
        attack
        for attack in cell.evaluation
        if not evaluated.issuperset(
            (attack.id, epoch) for epoch in attack.epochs(record.epochs_evaluated, record.epochs_kept)
        )
        and attack.possible(record.num_classes)
    ]
    missing = tuple(dict.fromkeys(each.name for each in lacking))
    open_ids = dict.fromkeys([*(each.id for each in lost), *(each.id for each in lacking)])
    failed = [f"{errors[id].attack}: {errors[id].error}" for id in open_ids if id in errors]
    if failed:
        return Status("failed", "; ".join(failed), missing)
    if lost:
        return Status("partial", f"{lost[0].file} is gone", missing)
    if missing:
        return Status("partial", f"not yet evaluated: {', '.join(missing)}", missing)
    return Status("done")
