"""Merging: nothing finished is replaced, conflicts are named, and a merge that was killed is completed."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from results_builder import ResultsBuilder

from fairbench.core.files import read_json, write_sealed
from fairbench.records.merge import merge
from fairbench.records.results_folder import ResultsFolder, scan

UNFINISHED = ("absent", "unfinished", "failed")
FINISHED = ("diverged", "diverged later", "done", "more", "other")
KINDS = (*UNFINISHED, *FINISHED)
SAME = {("done", "more"), ("done", "other"), *((kind, kind) for kind in KINDS)}
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.utime"}
QUICK = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


def make(path: Path, kind: str, epochs: int) -> None:
    """A results folder with one run that ended as `kind`, and a curve of so many epochs."""
    (path / "runs").mkdir(parents=True)
    if kind == "absent":
        return
    state = {"unfinished": None, "more": "done", "other": "done"}.get(kind, kind.split()[0])
    hits = ((6, 5, 4),) if kind != "other" else ((9, 9, 9),)
    folder = ResultsBuilder(path).run(state=state, robust=hits, counted=True)
    rows = [json.dumps({"epoch": epoch, "seconds": 1.0}) + "\n" for epoch in range(1, epochs + 1)]
    (folder / "epochs.jsonl").write_text("".join(rows))
    if kind == "diverged later":
        write_sealed(folder / "record.json", {**read_json(folder / "record.json"), "epoch": 6})
    if kind == "done":
        record = read_json(folder / "record.json")
        line = record["evaluations"].pop()
        (folder / line["file"]).unlink()
        write_sealed(folder / "record.json", record)


def content(path: Path) -> dict[str, bytes]:
    """The files of all runs, hidden folders included, but for leases."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name != "claim")
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def actions(theirs: Path, ours: Path) -> list[str]:
    return [merged.action for merged in merge(theirs, ours)]


def fresh(tmp_path, *kinds):
    shutil.rmtree(tmp_path, ignore_errors=True)
    folders = tmp_path / "theirs", tmp_path / "ours"
    for folder, (kind, epochs) in zip(folders, kinds, strict=True):
        make(folder, kind, epochs)
    return folders


@pytest.mark.parametrize("ours_kind", KINDS)
@pytest.mark.parametrize("theirs_kind", KINDS)
def test_nothing_finished_is_replaced_and_what_differs_is_a_conflict(tmp_path, theirs_kind, ours_kind):
    theirs, ours = fresh(tmp_path / "x", (theirs_kind, 9), (ours_kind, 3))
    before, source = content(ours), content(theirs)
    (action,) = actions(theirs, ours) or ["none"]
    assert content(theirs) == source
    if theirs_kind == "absent":
        assert action == "none"
    elif ours_kind == "absent":
        assert (action, content(ours)) == ("added", source)
    elif ours_kind not in FINISHED:  # theirs has more epochs
        assert (action, content(ours)) == ("replaced", source)
    elif theirs_kind not in FINISHED or (theirs_kind, ours_kind) in SAME:
        assert (action, content(ours)) == ("same", before)
    elif ours_kind == "done" and theirs_kind in ("more", "other"):
        assert action == "completed"
        kept = {name: data for name, data in before.items() if not name.endswith("record.json")}
        assert kept.items() <= content(ours).items()
        assert len(scan(ours)[0][0].evaluations) == 2
    else:
        assert (action, content(ours)) == ("conflict", before)
    if theirs_kind != "absent":
        assert actions(theirs, ours) == ["conflict" if action == "conflict" else "same"]


def killed_merge(theirs: Path, ours: Path, at: int) -> bool:
    """Merge in a process that ends without warning at its file operation number `at`; whether it did."""
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            count += event in EVENTS
            if count == at:
                os._exit(9)

        sys.addaudithook(hook)
        try:
            actions(theirs, ours)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


PAIRS = [
    ("more", "done"),
    ("done", "failed"),
    ("done", "absent"),
    ("unfinished", "failed"),
    ("diverged", "unfinished"),
]


@settings(max_examples=30, **QUICK)
@given(pair=st.sampled_from(PAIRS), kills=st.lists(st.integers(1, 70), min_size=1, max_size=3))
def test_a_killed_merge_loses_nothing_and_is_completed_by_the_next(tmp_path, pair, kills):
    theirs, ours = fresh(tmp_path / "x", (pair[0], 9), (pair[1], 3))
    alone = tmp_path / "x" / "alone"
    shutil.copytree(ours, alone)
    before = set(content(ours).items())
    actions(theirs, alone)
    for at in kills:
        if not killed_merge(theirs, ours, at):
            break
        if pair[1] != "absent" and not (ours / "runs" / next((theirs / "runs").iterdir()).name).exists():
            assert {data for _, data in before} <= set(content(ours).values())
    ResultsFolder(ours).restore()
    records, problems = scan(ours)
    assert problems == []
    assert len(records) == (pair[1] != "absent" or bool(list((ours / "runs").glob("[!.]*"))))
    for claim in ours.rglob("claim"):
        claim.unlink()  # of a process that is gone
    actions(theirs, ours)
    visible = {name: data for name, data in content(ours).items() if not Path(name).parts[1].startswith(".")}
    visible = {name: data for name, data in visible.items() if not Path(name).name.startswith(".")}
    assert visible == content(alone)
