"""Join results folders: every run once, nothing overwritten, every conflict reported."""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fairbench.core.errors import RecordError, ResultsError
from fairbench.core.files import make_folder
from fairbench.records.outcomes import read_outcomes
from fairbench.records.read import Evaluation, Record
from fairbench.records.results_folder import ResultsFolder, scan
from fairbench.records.run_folder import LEASE, OutcomeFiles, RunFolder

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
    evaluated are added. Of a run that only one has finished, that one stays. Two finished ones with different
    outcomes are a conflict: that in `into` stays. Damaged folders and those at work are skipped.
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
    for record in records:
        try:
            yield _merge_run(record, RunFolder(runs / record.folder.name), dry_run)
        except RecordError as error:
            yield Merged(record.folder, "skipped", error.message)
        except OSError as error:
            raise ResultsError(
                f"cannot copy {record.folder} into {into}: {error.strerror or error}.",
                hint="what was merged so far is whole; the same command continues",
            ) from error


def _merge_run(theirs: Record, run: RunFolder, dry_run: bool) -> Merged:
    _require_sound(theirs)
    place = run.path
    if RunFolder(theirs.folder).owner() or run.owner():
        return Merged(theirs.folder, "skipped", "a process works on it at the moment")
    if not place.exists():
        if not dry_run:
            _copy(theirs.folder, place)
        return Merged(place, "added")
    try:
        ours = run.read()
    except RecordError as error:
        return Merged(place, "conflict", f"ours cannot be read and stays: {error.message}")
    if theirs.state != "done" or ours.state != "done":
        return _further(theirs, ours, run, dry_run)
    known = {(e.attack, e.id, e.epoch): e.digest for e in ours.evaluations}
    new = [e for e in theirs.evaluations if (e.attack, e.id, e.epoch) not in known]
    for e in theirs.evaluations:
        if known.get((e.attack, e.id, e.epoch), e.digest) != e.digest:
            return Merged(place, "conflict", f"{e.attack} at epoch {e.epoch} has other outcomes; ours stay")
    if not new:
        return Merged(place, "same")
    if not dry_run:
        _complete(theirs, new, ours, run)
    names = dict.fromkeys(e.attack for e in new)
    return Merged(place, "completed", f"now also has {', '.join(names)}")


def _further(theirs: Record, ours: Record, run: RunFolder, dry_run: bool) -> Merged:
    """Of two runs that are not both done, the one that got further."""
    place = run.path

    def rank(record: Record) -> tuple[bool, int]:
        return record.state in ("done", "diverged"), len(RunFolder(record.folder).read_epochs())

    if rank(theirs) <= rank(ours):
        return Merged(place, "same", f"ours is as far: {ours.state}")
    if not dry_run:
        aside = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        os.replace(place, aside)
        try:
            _copy(theirs.folder, place)
        except BaseException:
            with suppress(OSError):
                os.replace(aside, place)
            raise
        shutil.rmtree(aside)
    return Merged(place, "replaced", f"theirs is {theirs.state}, ours was {ours.state}")


def _complete(theirs: Record, new: Sequence[Evaluation], ours: Record, run: RunFolder) -> None:
    """Add the evaluations `new` of theirs: their files, then the cell's attacks, then the record."""
    for e in new:
        OutcomeFiles(theirs.folder / e.file).copy_to((run.path / e.file).parent)
    added = {e.id for e in new}
    run.list_attacks([attack for attack in theirs.cell.evaluation if attack.id in added])
    failures = tuple(failure for failure in ours.failures if failure.id not in added)
    run.write_record(replace(ours, evaluations=(*ours.evaluations, *new), failures=failures))


def _copy(folder: Path, place: Path) -> None:
    """Copy a run folder beside its place, then rename it there: it is there whole or not at all."""
    aside = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        shutil.copytree(
            folder,
            aside,
            ignore=lambda _, names: [name for name in names if name == LEASE or name.startswith(".")],
        )
        os.replace(aside, place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _require_sound(record: Record) -> None:
    """Raise RecordError for a folder that is not what fairbench wrote: names, ids, outcomes, links."""
    cell = record.cell
    if record.folder.name != cell.folder_name:
        raise RecordError(f"{record.folder.name} is not the run that its cell describes.")
    RunFolder(record.folder).require_plain()
    for e in record.evaluations:
        read_outcomes(record.inside(e.file), e.digest)
