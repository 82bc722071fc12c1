"""A printed table is held against its records: what is right passes, what was touched is named."""

import json
import re

import pytest
from outcome_files import write_outcomes

from fairbench.core.errors import ConfigError, RecordError
from fairbench.core.files import read_json, write_sealed
from fairbench.records.outcomes import read_outcomes
from fairbench.records.results_folder import scan
from fairbench.tables.formats import render
from fairbench.tables.provenance import read_stamps
from fairbench.tables.published_results import read_published, with_published
from fairbench.tables.request import VIEWS, TableRequest
from fairbench.tables.verify import verify_tables
from fairbench.tables.views import build_tables

SUFFIX = {"latex": ".tex", "markdown": ".md", "html": ".html", "csv": ".csv"}


@pytest.fixture
def runs(results):
    for seed in (0, 1):
        results.run("trades", seed, robust=((6, 5, 4 - seed),), counted=True)
        results.run("dafa", seed, robust=((6, 4 + seed, 5),), counted=True)
    return results


def printed(runs, format, **options):
    return render(build_tables(scan(runs.path)[0], TableRequest(**options)), format)


def verify(runs, text, format):
    return verify_tables(text, SUFFIX[format], scan(runs.path)[0])


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("format", SUFFIX)
def test_an_untouched_table_is_right(runs, format, view):
    text = printed(runs, format, view=view, error="sd")
    checks = verify(runs, text, format)
    assert len(checks) == (1 if view == "main" else 2)
    for check in checks:
        assert check.faults == ()
        assert check.lines > 0
        assert check.records == 4
        assert check.outcomes >= 4


@pytest.mark.parametrize("format", SUFFIX)
def test_a_number_that_was_changed_is_named(runs, format):
    text = printed(runs, format)
    number = "0.45" if format == "csv" else "45.00"
    assert number in text
    (check,) = verify(runs, text.replace(number, number.replace("45", "54"), 1), format)
    assert any("differs from the records" in fault and "54" in fault for fault in check.faults)
    assert any("missing" in fault and number in fault for fault in check.faults)


@pytest.mark.parametrize("format", ["latex", "markdown", "html"])
def test_a_row_that_was_taken_out_or_put_in_is_named(runs, format):
    text = printed(runs, format, columns=("average", "worst"))
    lines = text.splitlines()
    (place,) = [k for k, line in enumerate(lines) if re.match(r"(\| )?(<tr><th scope=.row.>)?dafa\b", line)]
    (check,) = verify(runs, "\n".join(lines[:place] + lines[place + 1 :]), format)
    assert [fault.split(":")[0] for fault in check.faults] == ["missing"]
    more = lines[place].replace("dafa", "mine")
    (check,) = verify(runs, "\n".join([*lines[:place], more, *lines[place:]]), format)
    assert [fault.split(":")[0] for fault in check.faults] == ["differs from the records"]


def test_a_caption_may_be_edited_and_more_runs_may_come(runs):
    text = printed(runs, "latex")
    runs.run("trix", 0)
    runs.run("trades", 2)
    (check,) = verify(runs, re.sub(r"\\caption\{.*\}", r"\\caption{Ours.}", text), "latex")
    assert check.faults == ()


def test_outcomes_changed_behind_the_records_back_are_found(runs):
    text = printed(runs, "latex")
    folder = next(record.folder for record in scan(runs.path)[0] if record.method == "dafa")
    file = folder / "outcomes/epoch-0005/pgd-20.npy"
    rows = read_outcomes(file)
    write_outcomes(file, rows["label"], rows["prediction"], ~rows["correct"])
    (check,) = verify(runs, text, "latex")
    assert any("digest is not the one in the record" in fault for fault in check.faults)


def test_a_record_that_counts_other_hits_than_its_outcomes_is_found(runs):
    text = printed(runs, "latex")
    folder = next(record.folder for record in scan(runs.path)[0] if record.method == "dafa")
    record = read_json(folder / "record.json")
    line = next(line for line in record["evaluations"] if line["attack"] == "pgd-20")
    line["hits"] = [9, 9, 9]
    write_sealed(folder / "record.json", record)
    (check,) = verify(runs, text, "latex")
    assert any("counts other hits than its outcomes have" in fault for fault in check.faults)
    assert folder.name not in printed(runs, "latex")


def test_a_run_with_other_outcomes_than_then_is_found(runs):
    text = printed(runs, "latex")
    folder = next(record.folder for record in scan(runs.path)[0] if record.method == "dafa")
    record = read_json(folder / "record.json")
    line = next(line for line in record["evaluations"] if line["attack"] == "pgd-20")
    file = folder / line["file"]
    rows = read_outcomes(file)
    line["digest"] = write_outcomes(file, rows["label"], rows["prediction"], ~rows["correct"])
    line["hits"] = [10 - hits for hits in line["hits"]]
    write_sealed(folder / "record.json", record)
    (check,) = verify(runs, text, "latex")
    assert any("has other outcomes than when the table was made" in fault for fault in check.faults)


def test_a_run_that_is_gone_is_named(runs, tmp_path):
    text = printed(runs, "markdown")
    folder = next(record.folder for record in scan(runs.path)[0] if record.method == "dafa")
    folder.rename(tmp_path / folder.name)
    (check,) = verify(runs, text, "markdown")
    assert f"{folder.name} is not in the results folder" in check.faults


def test_a_table_with_published_values_is_verified_with_them(runs):
    (table,) = build_tables(scan(runs.path)[0])
    text = render([with_published(table, read_published("trix"), "trix")], "latex")
    assert read_stamps(text)[0].request["claims"] == "trix"
    (check,) = verify(runs, text, "latex")
    assert check.faults == ()


def test_files_without_a_stamp_or_of_another_kind_are_refused(runs):
    with pytest.raises(ConfigError, match="records it was made from"):
        verify_tables("\\begin{table}\\end{table}", ".tex", [])
    with pytest.raises(ConfigError, match="records it was made from"):
        verify_tables("a,b\n1,2\n", ".csv", [])
    with pytest.raises(ConfigError, match="cannot be verified"):
        verify_tables(printed(runs, "text"), ".txt", [])


@pytest.mark.parametrize(
    "line",
    [
        "% fairbench-table {no json}",
        '% fairbench-record {"folder": "a"}',
        '% fairbench-record {"folder": "a", "id": "b", "digest": "c"}',
    ],
)
def test_a_damaged_stamp_is_refused(line):
    with pytest.raises(RecordError, match="was not written by fairbench"):
        read_stamps(line)


def test_unknown_options_in_a_stamp_are_a_fault_and_no_traceback(runs):
    text = printed(runs, "latex").replace('"view":"main"', '"view":"main","evil":1')
    (check,) = verify(runs, text, "latex")
    assert any("cannot be made again" in fault for fault in check.faults)


def test_no_name_in_a_stamp_ends_its_comment(results):
    results.run("--><script>alert(1)", 0)
    for format in ("html", "markdown"):
        text = printed(results, format)
        assert "<script>" not in text
        assert text.count("<!--") == text.count("-->") == 1
        legend = text.partition("-->")[2]
        assert "script" not in legend
        assert "Worst is the lowest class" in legend
    assert all(json.dumps(found.request) for found in read_stamps(printed(results, "latex")))
