"""Join results folders of several people: every run once, nothing overwritten, every conflict told."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairbench.core.errors import RecordError, ResultsError
from fairbench.core.files import make_folder, write_sealed
from fairbench.core.identity import digest
from fairbench.core.lease import live_owner
from fairbench.records.curves import read_epochs
from fairbench.records.outcomes import read_outcomes
from fairbench.records.read import Record, read_record, scan

LEFT_BEHIND = ("claim",)  # and hidden files: they belong to a worker, not to the run
Action = Literal["added", "replaced", "completed", "same", "conflict", "skipped"]


@dataclass(frozen=True)
class Merged:
    """What came of one run folder. `why` is said of all but those that were added or the same."""

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
    if not (source / "runs").is_dir():
        raise ResultsError(f"{source} has no folder of runs.", hint="name a results folder: it holds `runs`")
    records, problems = scan(source)
    for problem in problems:
        yield Merged(problem.folder, "skipped", problem.message)
    if not dry_run:
        make_folder(into / "runs")
    for record in records:
        try:
            yield _merge_run(record, into / "runs" / record.folder.name, dry_run)
        except RecordError as error:
            yield Merged(record.folder, "skipped", error.message)
        except OSError as error:
            raise ResultsError(
                f"cannot copy {record.folder} into {into}: {error.strerror or error}.",
                hint="what was merged so far is whole; the same command continues",
            ) from error


def _merge_run(theirs: Record, place: Path, dry_run: bool) -> Merged:
    _require_sound(theirs)
    if _at_work(theirs.folder) or _at_work(place):
        return Merged(theirs.folder, "skipped", "somebody works on it at the moment")
    if not place.exists():
        if not dry_run:
            _copy(theirs.folder, place)
        return Merged(place, "added")
    try:
        ours = read_record(place)
    except RecordError as error:
        return Merged(place, "conflict", f"ours cannot be read and stays: {error.message}")
    if theirs.state != "done" or ours.state != "done":
        return _further(theirs, ours, place, dry_run)
    known = {(e.attack, e.id, e.epoch): e.digest for e in ours.evaluations}
    new = [e for e in theirs.evaluations if (e.attack, e.id, e.epoch) not in known]
    for e in theirs.evaluations:
        if known.get((e.attack, e.id, e.epoch), e.digest) != e.digest:
            return Merged(place, "conflict", f"{e.attack} at epoch {e.epoch} has other outcomes; ours stay")
    if not new:
        return Merged(place, "same")
    if not dry_run:
        _complete(theirs, ours, place)
    names = dict.fromkeys(e.attack for e in new)
    return Merged(place, "completed", f"now also has {', '.join(names)}")


def _further(theirs: Record, ours: Record, place: Path, dry_run: bool) -> Merged:
    """Of two runs that are not both done, the one that got further."""

    def rank(record: Record) -> tuple[bool, int]:
        return record.state in ("done", "diverged"), len(read_epochs(record.folder))

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


def _complete(theirs: Record, ours: Record, place: Path) -> None:
    """Add the evaluations that only they have: their files, then the cell's attacks, then the record."""
    known = {(e.attack, e.id, e.epoch) for e in ours.evaluations}
    for e in theirs.evaluations:
        if (e.attack, e.id, e.epoch) in known:
            continue
        stem = (theirs.folder / e.file).with_suffix("")
        target = place / Path(e.file).parent
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(stem.parent.glob(f"{stem.name}.*")):
            if path.is_file() and not path.is_symlink():
                shutil.copy2(path, target / path.name)
    attacks = {item["id"]: item for item in theirs.cell.get("evaluation") or ()}
    attacks |= {item["id"]: item for item in ours.cell.get("evaluation") or ()}
    write_sealed(place / "cell.json", {**ours.cell, "evaluation": list(attacks.values())})
    lines = [*ours.record["evaluations"]]
    lines += [
        e for e in theirs.record["evaluations"] if (e["attack"], e.get("id", ""), e["epoch"]) not in known
    ]
    write_sealed(place / "record.json", {**ours.record, "evaluations": lines})


def _copy(folder: Path, place: Path) -> None:
    """Copy a run folder beside its place, then rename it there: it is there whole or not at all."""
    aside = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        shutil.copytree(
            folder,
            aside,
            ignore=lambda _, names: [name for name in names if name in LEFT_BEHIND or name.startswith(".")],
        )
        os.replace(aside, place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _require_sound(record: Record) -> None:
    """Raise RecordError for a folder that is not what fairbench wrote: names, ids, outcomes, links."""
    cell = record.cell
    name = ".".join(
        [*(str(cell[k]) for k in ("method", "dataset", "model", "protocol")), f"seed{cell['seed']}"]
    )
    if record.folder.name != f"{name}.{cell['id']}" or digest(cell.get("identity")) != cell["id"]:
        raise RecordError(f"{record.folder.name} is not the run that its cell.json describes.")
    for root, folders, files in os.walk(record.folder):
        for each in (*folders, *files):
            if os.path.islink(os.path.join(root, each)):
                raise RecordError(f"{record.folder.name} holds a link ({each}), which fairbench never makes.")
    for e in record.evaluations:
        read_outcomes(record.inside(e.file), e.digest)


def _at_work(folder: Path) -> bool:
    return live_owner(folder / "claim") is not None
