"""A run folder: its paths, reading and writing of its files, and its status.

    cell.json           the cell: everything the run needs, frozen
    claim               the lease of the process that works on it
    provenance.json     versions, machine and command of each attempt
    epochs.jsonl        one line for each finished epoch
    checkpoints/        epoch-NNNN.safetensors, and full states to resume from
    outcomes/epoch-NNNN/NAME.npy   one row per test image of an evaluation; see `OutcomeFiles`
    progress.json       how far the process is that works on it, and its time left; deleted at its end
    worker.log, error.txt          what happened
    record.json         written last: how training and each evaluation ended

A file that cannot be read is kept as NAME.damaged. Temporary files begin with a dot.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from fairbench.core.errors import RecordError, ResultsError, SchemaError
from fairbench.core.files import make_folder, read_json, read_sealed, write_atomic, write_json, write_sealed
from fairbench.core.identity import digest_bytes
from fairbench.core.lease import Lease, Owner, hold_lease, live_owner
from fairbench.core.regular import odd_files, read_regular
from fairbench.records import curves, parse
from fairbench.records.cell import CLEAN, Cell, EvaluationAttack
from fairbench.records.read import Record
from fairbench.records.status import Status, recorded_status
from fairbench.registry.protocol import TIERS

logger = logging.getLogger(__name__)
LEASE = "claim"


class OutcomeFiles(NamedTuple):
    """The files of one evaluation, of which `rows`, NAME.npy, is written last."""

    rows: Path

    @property
    def about(self) -> Path:
        """Passes, seconds and findings by stage."""
        return self.rows.with_suffix(".json")

    @property
    def adversarial(self) -> Path:
        """The images that an ensemble broke: the proof."""
        return self.rows.with_suffix(".adversarial.safetensors")

    @property
    def blocks(self) -> Path:
        """The folder of finished blocks while the evaluation is at work."""
        return self.rows.with_suffix(".partial")

    def copy_to(self, folder: Path) -> None:
        """Copy those that exist into `folder`. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in (self.about, self.adversarial, self.rows):
            if path.is_file() and not path.is_symlink():
                content = read_regular(path)
                write_atomic(folder / path.name, lambda file: file.write(content))  # noqa: B023 (called here)


def outcome_name(attack: str, id: str) -> str:
    """The name, without suffix, of the outcomes of `attack` with the settings that `id` stands for."""
    return f"{attack.replace(':', '-')}.{id}"


class Inside:
    """A descriptor: the path of the file or folder `name` below the `path` of its owner."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, owner: Any, kind: type) -> Path:
        return Path(owner.path, self.name)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    cell_file = Inside("cell.json")
    record_file = Inside("record.json")
    provenance_file = Inside("provenance.json")
    epochs_file = Inside("epochs.jsonl")
    log_file = Inside("worker.log")
    error_file = Inside("error.txt")  # the traceback of the last error that is not fairbench's
    lease_file = Inside(LEASE)
    progress_file = Inside("progress.json")
    checkpoints = Inside("checkpoints")
    outcomes = Inside("outcomes")

    @property
    def name(self) -> str:
        return self.path.name

    def weights_file(self, epoch: int) -> Path:
        """The weights after an epoch, as they are evaluated."""
        return self.checkpoints / f"epoch-{epoch:04d}.safetensors"

    def raw_weights_file(self, epoch: int) -> Path:
        """The weights after an epoch where the average of weights is evaluated."""
        return self.checkpoints / f"epoch-{epoch:04d}.raw.safetensors"

    def weights_files(self) -> list[Path]:
        return sorted(self.checkpoints.glob("epoch-*.safetensors"))

    def resume_files(self) -> tuple[Path, Path, Path]:
        """The full states to resume from: the newest, the one before it, and the one being written."""
        newest, before, coming = (f"resume{which}.safetensors" for which in ("", ".before", ".coming"))
        return self.checkpoints / newest, self.checkpoints / before, self.checkpoints / coming

    def outcome_files(self, attack: EvaluationAttack, epoch: int) -> OutcomeFiles:
        """The files of an evaluation."""
        name = CLEAN if attack.name == CLEAN else outcome_name(attack.name, attack.id)
        return OutcomeFiles(self.outcomes / f"epoch-{epoch:04d}" / f"{name}.npy")

    def blocks(self) -> list[Path]:
        """Folders of evaluations that were interrupted."""
        return sorted(self.outcomes.glob("*/*.partial"))

    def temporary_files(self) -> list[Path]:
        """Files that are being written, or were when a process was killed."""
        return [path for path in sorted(self.path.rglob(".*")) if path.is_file()]

    def damaged_files(self) -> list[Path]:
        return sorted(self.path.rglob("*.damaged"))

    def set_aside(self, file: Path) -> None:
        """Keep a damaged file under another name."""
        file.replace(file.with_name(f"{file.name}.damaged"))

    def lease(self) -> AbstractContextManager[Lease]:
        """Hold the lease inside the block. Raises LeaseHeldError when a live process holds it."""
        return hold_lease(self.lease_file)

    def record_stamp(self) -> tuple[int, int] | None:
        """When the record was written and its place on the disk: another one for another record."""
        try:
            record = self.record_file.stat()
        except OSError:
            return None
        return record.st_mtime_ns, record.st_ino

    def require_plain(self) -> None:
        """Raise RecordError when it holds something else than files and folders, for instance a link."""
        for path, kind in odd_files(self.path):
            raise RecordError(
                f"{path} is {kind}, which fairbench never makes; it is not followed or read.",
                hint="put a copy of the files in its place, or move it away",
            )

    def owner(self) -> Owner | None:
        """The process that holds the lease, judged by one read of it; None when no process does."""
        return live_owner(self.lease_file)

    def read(self) -> Record:
        """The record, unfinished when there is none yet. Raises RecordError for a damaged cell or record."""
        cell = self.read_cell()
        if not os.path.lexists(self.record_file):
            return Record(self.path, cell)
        return parse.read_record(self.record_file, cell)

    def read_cell(self) -> Cell:
        """The cell. Raises RecordError when it is damaged or changed, or when the folder has another name."""
        if os.path.islink(self.path):
            raise RecordError(
                f"{self.path} is a symbolic link, which is not followed.", hint="copy the folder instead"
            )
        cell = parse.read_cell(self.cell_file)
        name = self.path.name or self.path.resolve().name  # of "." too
        if name != cell.folder_name:
            raise RecordError(
                f"the folder {name} holds the run {cell.folder_name}.",
                hint=f"give the folder its name again: mv {name} {cell.folder_name}",
            )
        return cell

    def trained(self) -> Record | None:
        """The record when training is done, else None, also for a damaged one.

        Raises SchemaError for one that another version wrote, which must not be replaced.
        """
        try:
            record = self.read()
        except SchemaError:
            raise
        except RecordError:
            return None
        return record if record.state == "done" else None

    def status(self, cell: Cell | None = None) -> Status:
        """`running` while a process works here, else `recorded`."""
        owner = self.owner()
        if owner is not None:
            return Status("running", f"process {owner.get('pid')} on {owner.get('host')}")
        return self.recorded(cell)

    def recorded(self, cell: Cell | None = None) -> Status:
        """The status by what the folder holds, for the attacks of `cell`, by default the folder's own."""
        try:
            record = self.read()
        except RecordError as error:
            return Status("failed", error.message)
        return recorded_status(record, cell or record.cell)

    def prepare(self, cell: Cell, *, drop: bool = True) -> None:
        """Make the folder and write the cell, before anything works on it; `drop` as in `list_attacks`."""
        make_folder(self.path)
        self.require_plain()
        if self.cell_file.exists():
            try:
                before = self.read_cell()
            except SchemaError:
                raise
            except RecordError as error:  # all of it is known, but for attacks that only it named
                logger.warning("%s It is renamed and written again.", error.message)
                self.set_aside(self.cell_file)
            else:
                # A preparation asks for weights only; a row of a table stays one.
                attacks = self._attacks(before, cell.evaluation, drop=drop and not cell.preparation)
                preparation = before.preparation and cell.preparation
                cell = replace(cell, evaluation=attacks, preparation=preparation)
                if cell.to_json() == before.to_json():
                    return
        write_sealed(self.cell_file, cell.to_json())

    def list_attacks(self, attacks: Sequence[EvaluationAttack], *, drop: bool = False) -> None:
        """Let the cell list these attacks too; a damaged cell stays as it is.

        drop: of the attacks that it lists besides, only those that are evaluated stay. While a process works
        here, nothing is dropped.
        """
        try:
            cell = self.read_cell()
        except RecordError:
            return
        evaluation = self._attacks(cell, attacks, drop=drop)
        if evaluation != cell.evaluation:
            write_sealed(self.cell_file, replace(cell, evaluation=evaluation).to_json())

    def _attacks(
        self, cell: Cell, asked: Sequence[EvaluationAttack], *, drop: bool
    ) -> tuple[EvaluationAttack, ...]:
        """`asked` and what the cell lists, each for the more checkpoints of the two; `drop` as above."""
        attacks = {attack.id: attack for attack in cell.evaluation}
        # Most runs list what is asked for; reading the record takes longer.
        if drop and attacks != {attack.id: attack for attack in asked} and self.owner() is None:
            attacks = {attack.id: attack for attack in self._evaluated(cell)}
        for attack in asked:
            other = attacks.get(attack.id, attack)
            attacks[attack.id] = max(other, attack, key=lambda each: TIERS.index(each.at))
        return tuple(attacks.values())

    def _evaluated(self, cell: Cell) -> Iterator[EvaluationAttack]:
        """The cell's attacks that the record has, each for the most checkpoints at which it is done."""
        record = self.trained()
        epochs: dict[str, set[int]] = {}
        for evaluation in () if record is None else record.evaluations:
            if (self.path / evaluation.file).exists():
                epochs.setdefault(evaluation.id, set()).add(evaluation.epoch)
        for attack in cell.evaluation:
            if record is not None and attack.id in epochs:
                tiers = (attack._replace(at=tier) for tier in TIERS[TIERS.index(attack.at) :: -1])
                selected, kept = record.epochs_evaluated, record.epochs_kept
                done = (tier for tier in tiers if epochs[attack.id].issuperset(tier.epochs(selected, kept)))
                yield next(done, attack)

    def write_record(self, record: Record) -> None:
        """Write the record, whole. Raises ResultsError."""
        write_sealed(self.record_file, record.to_json())

    def begin_anew(self) -> None:
        """Forget the record, which is kept as record.before.json, and the states to resume from.

        Only for the holder of the lease.
        """
        self.record_file.replace(self.path / "record.before.json")
        for path in self.resume_files():
            path.unlink(missing_ok=True)

    def remove_temporary_files(self) -> None:
        """Remove what a process that was killed left half written. Only for the holder of the lease."""
        for path in self.temporary_files():
            # The cell may be written by others at any time.
            if path.suffix == ".tmp" and not path.name.startswith(f".{self.cell_file.name}"):
                path.unlink(missing_ok=True)

    def read_epochs(self) -> list[dict[str, Any]]:
        """The finished epochs in order; a line that is damaged is left out."""
        return curves.read_epochs(self.epochs_file)

    def curve_digest(self) -> str:
        """The SHA-256 of the curve; "" when it cannot be read."""
        try:
            return digest_bytes(read_regular(self.epochs_file))
        except OSError:
            return ""

    def curve_of(self, record: Record) -> list[dict[str, Any]]:
        """The finished epochs of a record; none, with a warning, when the curve is not that of the record."""
        if record.curve and record.curve != self.curve_digest():
            logger.warning("%s: its training curve was changed after the record; not used.", self.name)
            return []
        return self.read_epochs()

    def append_epoch(self, row: dict[str, Any]) -> None:
        """Add the record of one epoch. Raises ResultsError."""
        curves.append_epoch(self.epochs_file, row)

    def keep_epochs(self, last: int) -> None:
        """Forget what was written after epoch `last`: training continues from there."""
        curves.keep_epochs(self.epochs_file, last)

    def attempts(self) -> list[dict[str, Any]]:
        """What `provenance.json` has of each attempt, the first one first. Raises RecordError."""
        last, _ = read_sealed(self.provenance_file)  # older ones have no digest
        if not isinstance(last, dict):
            raise RecordError(f"{self.provenance_file} is damaged: it is no mapping.")
        if last.get("folder", self.name) != self.name:
            raise RecordError(f"{self.provenance_file} is that of another run.")
        earlier = last.get("earlier")
        attempts = [*(earlier if isinstance(earlier, list) else ()), last]
        return [attempt for attempt in attempts if isinstance(attempt, dict)]

    def write_attempt(self, about: Mapping[str, Any]) -> None:
        """Add an attempt to `provenance.json`."""
        attempts: list[dict[str, Any]] = []
        if self.provenance_file.exists():
            try:
                attempts = self.attempts()
            except RecordError:
                logger.warning(
                    "%s is damaged: its entries of earlier attempts are lost", self.provenance_file
                )
        earlier = [{key: value for key, value in each.items() if key != "earlier"} for each in attempts]
        write_sealed(self.provenance_file, {**about, "folder": self.name, "earlier": earlier})

    def write_progress(self, left: float, text: str) -> None:
        """Store the time left of the cell; an error of the disk only loses this."""
        with suppress(OSError, ResultsError):
            write_json(self.progress_file, {"schema": 1, "written": time.time(), "left": left, "text": text})

    def read_progress(self) -> tuple[float, str] | None:
        """The time left of the cell now, and how far it is; None where nothing readable is stored."""
        try:
            about = read_json(self.progress_file)
            passed = max(0.0, time.time() - float(about["written"]))
            return max(0.0, float(about["left"]) - passed), str(about["text"])
        except (RecordError, KeyError, TypeError, ValueError):
            return None

    def clear_progress(self) -> None:
        """Delete what `write_progress` stored."""
        with suppress(OSError):
            self.progress_file.unlink(missing_ok=True)

    def write_error(self, trace: str) -> None:
        """Keep a traceback."""
        write_atomic(self.error_file, lambda file: file.write(trace.encode()))
