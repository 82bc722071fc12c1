"""Join results folders: every run once, nothing overwritten, every conflict reported."""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fairbench.core.errors import LeaseHeldError, RecordError, ResultsError
from fairbench.core.files import make_folder
from fairbench.records.read import Evaluation, Record
from fairbench.records.results_folder import ResultsFolder, replaced_folder, scan
from fairbench.records.run_folder import LEASE, OutcomeFiles, RunFolder
from fairbench.records.status import FINISHED

AT_WORK = "a process works on it at the moment"

Action = Literal["added", "replaced", "completed", "same", "conflict", "skipped"]


@dataclass(frozen=True)
class Merged:
    """How one run folder was merged. `why`: the reason, for all but those that were added or the same."""

    folder: Path
    action: Action
    why: str = ""


def merge(source: Path, into: Path, *, dry_run: bool = False) -> Iterator[Merged]:
    """Bring the runs of the results folder `source` into `into`; what came of each, one by one.

    A run that both have, done with the same outcomes, stays as it is; attacks that only the source has
    evaluated are added. Of a run that only one has finished, that one stays. Two finished ones (done or
    diverged) that differ are a conflict: that in `into` stays. Damaged folders and those at work are skipped.
    A merge that was killed is completed by the next.
    Raises ResultsError when `source` has no runs or `into` cannot be written.
    """
    if source.resolve() == into.resolve():
        raise ResultsError(f"{source} cannot be merged into itself.", hint="name another with --results DIR")
    runs = ResultsFolder(into).runs
    if not ResultsFolder(source).runs.is_dir():
        raise ResultsError(f"{source} has no folder of runs.", hint="name a results folder: it holds `runs`")
    records, problems = scan(source)
    for problem in problems:
        yield Merged(problem.folder, "skipped", problem.message)
    if not dry_run:
        make_folder(runs)
        ResultsFolder(into).restore()
    for record in records:
        try:
            yield _merge_run(record, RunFolder(runs / record.folder.name), dry_run)
        except RecordError as error:
            yield Merged(record.folder, "skipped", error.message)
        except LeaseHeldError:
            yield Merged(record.folder, "skipped", AT_WORK)
        except OSError as error:
            raise ResultsError(
                f"cannot copy {record.folder} into {into}: {error.strerror or error}.",
                hint="what was merged so far is whole; the same command continues",
            ) from error


def _merge_run(theirs: Record, run: RunFolder, dry_run: bool) -> Merged:
    _require_sound(theirs)
    place = run.path
    if RunFolder(theirs.folder).owner() or run.owner():
        return Merged(theirs.folder, "skipped", AT_WORK)
    if not os.path.lexists(place):
        if not dry_run:
            os.rename(_copied(theirs.folder, place), place)
        return Merged(place, "added")
    try:
        run.require_plain()
        ours = run.read()
    except RecordError as error:
        return Merged(place, "conflict", f"ours cannot be read and stays: {error.message}")
    conflict = _conflict(theirs, ours)
    if conflict:
        return Merged(place, "conflict", f"{conflict}; ours stays")
    if ours.state in FINISHED:
        known = {(e.attack, e.id, e.epoch) for e in ours.evaluations}
        new = [e for e in theirs.evaluations if (e.attack, e.id, e.epoch) not in known]
        if not new:
            return Merged(place, "same")
        if not dry_run:
            _complete(theirs, new, ours, run)
        return Merged(place, "completed", f"now also has {', '.join(dict.fromkeys(e.attack for e in new))}")
    if _progress(theirs) <= _progress(ours):
        return Merged(place, "same", f"ours is as far: {ours.state}")
    if not dry_run:
        _replace(theirs, run)
    return Merged(place, "replaced", f"theirs is {theirs.state}, ours was {ours.state}")


def _conflict(theirs: Record, ours: Record) -> str:
    """In what two runs that are both finished differ; "" for nothing, and where one is not finished."""
    if not (theirs.state in FINISHED and ours.state in FINISHED):
        return ""
    if (theirs.state, theirs.epoch) != (ours.state, ours.epoch):
        return f"theirs is {theirs.state} at epoch {theirs.epoch}, ours {ours.state} at epoch {ours.epoch}"
    for name in ("num_classes", "class_count", "epochs_evaluated"):
        if getattr(theirs, name) != getattr(ours, name):
            return f"theirs has another {name}"
    digests = {(e.attack, e.id, e.epoch): e.digest for e in ours.evaluations}
    files = {e.file: e for e in ours.evaluations}
    for e in theirs.evaluations:
        if digests.get((e.attack, e.id, e.epoch), e.digest) != e.digest:
            return f"{e.attack} at epoch {e.epoch} has other outcomes"
        if e.file in files and files[e.file].digest != e.digest:
            return f"{e.file} has other outcomes"
    return ""


def _progress(record: Record) -> tuple[bool, int]:
    return record.state in FINISHED, len(RunFolder(record.folder).read_epochs())


def _replace(theirs: Record, run: RunFolder) -> None:
    """Put theirs in the place of ours, which is not finished.

    Killed between the two renames, ours is left as `.NAME.replaced`: see `ResultsFolder.restore`.
    """
    place, before = run.path, replaced_folder(run.path)
    with run.lease():
        coming = _copied(theirs.folder, place)
        shutil.rmtree(before, ignore_errors=True)
        os.rename(place, before)
        os.rename(coming, place)
    shutil.rmtree(before)


def _complete(theirs: Record, new: Sequence[Evaluation], ours: Record, run: RunFolder) -> None:
    """Add the evaluations `new` of theirs: their files, then the cell's attacks, then the record."""
    with run.lease():
        for e in new:
            OutcomeFiles(theirs.folder / e.file).copy_to((run.path / e.file).parent)
        added = {e.id for e in new}
        run.list_attacks([attack for attack in theirs.cell.evaluation if attack.id in added])
        failures = tuple(failure for failure in ours.failures if failure.id not in added)
        run.write_record(replace(ours, evaluations=(*ours.evaluations, *new), failures=failures))


def _copied(folder: Path, place: Path) -> Path:
    """A copy of a run folder beside `place`, whole. Raises RecordError when it was changed meanwhile."""
    aside = place.with_name(f".{place.name}.{secrets.token_hex(4)}.coming")
    stamp = RunFolder(folder).record_stamp()
    try:
        shutil.copytree(
            folder,
            aside,
            ignore=lambda _, names: [name for name in names if name == LEASE or name.startswith(".")],
        )
        if RunFolder(folder).owner() or RunFolder(folder).record_stamp() != stamp:
            raise RecordError(f"{folder.name} was worked on while it was copied.")
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return aside


def _require_sound(record: Record) -> None:
    """Raise RecordError for a folder that is not what fairbench wrote: links, outcomes."""
    RunFolder(record.folder).require_plain()
    for fault in record.outcome_faults.values():
        raise RecordError(f"{fault}.")
