"""Results that commit 5b4c0f9 made stay what they are: done, with the same ids, numbers and outcomes.

`tests/data/old-results` holds them and what that commit printed of them; its README says how they were made.
Words of titles, captions, notes and warnings are not compared. Columns, fields and reasons may be added.
Marks are compared by the rules of then: the rules have versions (`tables.table.RULES`), and `verify` follows
the version that a table names.
"""

import csv
import io
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

import fairbench
from fairbench.cli.main import main
from fairbench.cli.table import print_tables
from fairbench.tables.request import TableRequest

OLD = Path(__file__).parents[1] / "data" / "old-results"
VIEWS = ("main", "fairness", "classes", "comparison")
PROSE = {"table", "warnings"}  # columns of words
MARKS = ("_best", "_near")  # ends of columns
PLACE = ("dataset", "model", "protocol", "protocol_version", "attack", "view", "method", "entry", "source")
PLANS: list[dict[str, Any]] = json.loads((OLD / "plans.json").read_text())
# An evaluation of the runs on this data set failed: the attack needs more classes, or the data were damaged
# then. That commit called them "done" in the record and "partial" in the plan for ever, which was a fault. So
# their state in `status` is not compared; planned without that attack they are done.
FAILED_EVALUATION = "three"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results, what they were made with, and the expected tables."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(OLD / "old-results.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def old(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as the current folder, for tests that only read."""
    monkeypatch.delenv("FAIRBENCH_REGISTRY", raising=False)
    monkeypatch.delenv("FAIRBENCH_DATA", raising=False)
    monkeypatch.chdir(unpacked)
    return unpacked


@pytest.fixture
def call(old: Path, capsys: pytest.CaptureFixture[str]):
    """`call(ARGUMENTS)` is what fairbench prints on standard output; it has to end with 0."""

    def called(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, error = capsys.readouterr()
        assert (ended.value.code or 0) == 0, error + out
        return out

    return called


def same(found: str, expected: str) -> bool:
    """Whether two values of a CSV are equal, as texts or as numbers; "0:0.5 1:0.25" holds two seeds."""
    if found == expected:
        return True
    try:
        numbers, old_numbers = (
            [float(part) for part in re.split("[: ]", text)] for text in (found, expected)
        )
    except ValueError:
        return False
    return numbers == pytest.approx(old_numbers, rel=1e-12, abs=1e-15)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("planned", PLANS, ids=lambda planned: planned["options"] or "suite")
def test_every_cell_is_planned_with_its_old_id_and_state(call, planned):
    given = ("--registry", "registry.yaml", "--data", "data", "--suite", "old", "--device", "cpu", "--json")
    found = json.loads(call("plan", *given, *planned["options"].split()))
    assert {Path(cell["folder"]).name: cell["state"] for cell in found} == planned["cells"]
    assert all(cell["folder"].endswith(f".{cell['id']}") for cell in found)


def test_the_old_plans_hold_each_state():
    states = {state for planned in PLANS for state in planned["cells"].values()}
    assert states == {"done", "partial", "failed", "diverged", "stale", "missing"}


def test_status_lists_every_old_run(call):
    found = json.loads(call("status", "--json"))
    runs = {run["folder"]: run for run in found["runs"]}
    assert found["problems"] == []
    assert set(runs) == {path.name for path in Path("results/runs").iterdir()}
    for expected in json.loads((OLD / "status.json").read_text()):
        assert expected["dataset"] != FAILED_EVALUATION
        run = runs[expected["folder"]]
        assert {key: run[key] for key in expected} == expected


@pytest.mark.parametrize("view", VIEWS)
def test_every_number_in_a_table_is_the_old_one(call, view):
    expected = rows_of(Path(f"expected/{view}.csv").read_text())
    found = rows_of(call("table", "--view", view, "--format", "csv"))
    assert [[row[key] for key in PLACE] for row in found] == [[row[key] for key in PLACE] for row in expected]
    for row, old_row in zip(found, expected, strict=True):
        records = json.loads(old_row.pop("records"))
        assert json.loads(row["records"]) == records  # folder, id and digest of each run
        del old_row["made_with"]  # the options with which `verify` makes it again
        other = {
            key: (row[key], value)
            for key, value in old_row.items()
            if key not in PROSE and not key.endswith(MARKS) and not same(row[key], value)
        }
        assert other == {}, [row[key] for key in PLACE]


@pytest.mark.parametrize("view", VIEWS)
def test_every_mark_by_the_rules_of_then_is_the_old_one(old, view, capsys):
    expected = rows_of(Path(f"expected/{view}.csv").read_text())
    print_tables(Path("results"), TableRequest(view=view, rules=1), format="csv")
    found = rows_of(capsys.readouterr().out)
    for row, old_row in zip(found, expected, strict=True):
        other = {k: row[k] for k, value in old_row.items() if k.endswith(MARKS) and row[k] != value}
        assert other == {}, [row[key] for key in PLACE]


@pytest.mark.parametrize(
    ("format", "suffix"), [("csv", "csv"), ("latex", "tex"), ("markdown", "md"), ("html", "html")]
)
@pytest.mark.parametrize("view", VIEWS)
def test_a_table_of_old_results_is_verified(call, tmp_path, view, format, suffix):
    path = tmp_path / f"{view}.{suffix}"
    path.write_text(call("table", "--view", view, "--format", format))
    checks = json.loads(call("verify", str(path), "--json"))
    assert sum(check["outcomes"] for check in checks) > 0
    assert [check["faults"] for check in checks if check["faults"]] == []


@pytest.mark.parametrize("name", ["main.tex", *(f"{view}.md" for view in VIEWS)])
def test_a_table_that_was_printed_then_is_verified(call, name):
    checks = json.loads(call("verify", f"expected/{name}", "--json"))
    assert sum(check["outcomes"] for check in checks) > 0
    assert [check["faults"] for check in checks if check["faults"]] == []


def test_load_records_has_the_old_rows(old):
    frame = fairbench.load_records("results")
    expected = rows_of((old / "expected" / "records.csv").read_text())
    found = rows_of(frame.to_csv(index=False))
    assert len(found) == len(expected)
    assert frame.attrs["problems"] == []
    for row, old_row in zip(found, expected, strict=True):
        assert all(same(row[key], value) for key, value in old_row.items()), (row, old_row)


def test_the_page_of_old_results_can_be_made(call, tmp_path):
    path = tmp_path / "report.html"
    call("report", "--registry", "registry.yaml", "-o", str(path))
    checks = json.loads(call("verify", str(path), "--json"))
    assert [check["faults"] for check in checks if check["faults"]] == []


@pytest.fixture
def copied(old: Path, tmp_path: Path) -> tuple[str, ...]:
    """Options of `plan` and `run` on a copy of the results, for tests that write."""
    shutil.copytree(old / "results", tmp_path / "results")
    given = ("--registry", "registry.yaml", "--data", "data", "--suite", "old", "--device", "cpu")
    return (*given, "--results", str(tmp_path / "results"))


def content(folder: Path) -> dict[str, Any]:
    """Every file by path; of a cell what is part of its identity."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found[str(path)] = path.read_bytes()
        if path.name == "cell.json":
            cell = json.loads(path.read_text())
            found[str(path)] = {key: cell[key] for key in ("id", "entry", "identity", "evaluation")}
    return found


def test_running_old_cells_again_changes_nothing_but_where_files_are(call, copied, tmp_path):
    before = content(tmp_path / "results")
    for options in ((), ("--methods", "trades,frl,frl-rw", "--seeds", "0,1")):
        call("run", *copied, *options)
    assert content(tmp_path / "results") == before


def test_a_new_attack_on_an_old_run_trains_nothing_and_keeps_what_there_was(call, copied, tmp_path):
    (folder,) = (tmp_path / "results" / "runs").glob("trades.digits.own.*")  # this one has its weights
    kept = {path: path.read_bytes() for path in (*folder.rglob("*.npy"), *folder.rglob("*.safetensors"))}
    curve = (folder / "epochs.jsonl").read_bytes()
    one = (*copied, "--methods", "trades", "--seeds", "0", "--models", "own")
    call("run", *one, "--attacks", "pgd-6")
    assert {path: path.read_bytes() for path in kept} == kept
    assert (folder / "epochs.jsonl").read_bytes() == curve
    for attack in ("pgd-4", "pgd-6", "pgd-4,pgd-6"):
        (cell,) = json.loads(call("plan", *one, "--attacks", attack, "--json"))
        assert (Path(cell["folder"]).name, cell["state"]) == (folder.name, "done")
    before, after = (
        rows_of(frame[frame.record == folder.name].to_csv(index=False))
        for frame in map(fairbench.load_records, ("results", tmp_path / "results"))
    )
    assert [row for row in after if row["attack"] != "pgd-6"] == before
    assert len([row for row in after if row["attack"] == "pgd-6"]) == 20  # 10 classes at 2 checkpoints
