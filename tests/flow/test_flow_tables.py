"""From a run to a table that somebody else checks."""

import json

import numpy as np
import pytest

from fairbench.metrics.classwise import class_hits
from fairbench.records.outcomes import read_outcomes
from fairbench.tables.formats import latex, markdown


@pytest.fixture
def done(bench):
    bench.run()
    return bench


def test_a_finished_run_counts_the_hits_of_its_outcomes(done):
    record, folder = done.record("trades"), done.folder_of("trades")
    count = np.array(record["class_count"])
    for line in record["evaluations"]:
        rows = read_outcomes(folder / line["file"], line["digest"])
        assert line["hits"] == class_hits(rows["correct"], rows["label"], len(count)).tolist()
        assert np.array_equal(np.bincount(rows["label"], minlength=len(count)), count)
    cell = json.loads((folder / "cell.json").read_text())
    assert cell["titles"] == {"method": "TRADES", "dataset": "Digits", "model": "CNN-small"}


@pytest.mark.parametrize(("format", "suffix"), [("latex", "tex"), ("markdown", "md"), ("csv", "csv")])
def test_a_printed_table_is_verified_and_a_forged_one_is_not(done, format, suffix):
    results = ["--results", str(done.results)]
    out, _ = done.call("table", "--format", format, *results)
    path = done.folder / f"table.{suffix}"
    path.write_text(out)
    said, _ = done.call("verify", str(path), *results)
    assert "all as in the records" in said
    row = {"tex": latex.printed_lines, "md": markdown.printed_lines, "csv": lambda text: text.splitlines()}[
        suffix
    ](out)[-1]
    digits = [k for k, char in enumerate(row) if char.isdigit()]
    forged = next(
        row[:k] + str((int(row[k]) + 1) % 10) + row[k + 1 :] for k in digits if row[k - 1 : k] == "."
    )
    path.write_text(out.replace(row, forged))
    said, _ = done.call("verify", str(path), *results, code=1)
    assert "differs from the records" in said
    as_json, _ = done.call("verify", str(path), *results, "--json", code=1)
    assert json.loads(as_json)[0]["faults"]
    path.write_bytes(b"\xef\xbb\xbf" + out.replace("\n", "\r\n").encode())  # as some editors save it
    done.call("verify", str(path), *results)


def test_a_report_says_that_only_its_tables_were_checked(done):
    path = done.folder / "report.html"
    done.call("report", "--results", str(done.results), "-o", str(path))
    said, noted = done.call("verify", str(path), "--results", str(done.results))
    assert "all as in the records" in said
    assert "only the tables with numbers were checked" in noted


def test_a_text_table_says_how_to_get_one_that_can_be_verified(done):
    path = done.folder / "table.txt"
    path.write_text(done.call("table", "--results", str(done.results))[0])
    _, error = done.call("verify", str(path), code=2)
    assert "--format latex" in error
    (done.folder / "bytes.tex").write_bytes(b"\xff\xfe\x00")
    done.call("verify", str(done.folder / "bytes.tex"), code=2)


def test_a_dry_run_prices_the_cells_and_starts_nothing(bench):
    out, _ = bench.run("--dry-run")
    assert "missing" in out
    assert "on one device" in out
    assert not bench.results.exists()
    out, _ = bench.run("--dry-run", "--json")
    assert [item["state"] for item in json.loads(out)] == ["missing"] * len(json.loads(out))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rho", "printed"], "--rho printed is for --published"),
        (["--published", "trixx"], "did you mean: trix"),
        (["--published", "trix:7"], "no table called '7'"),
        (["--claims", "nobody"], "no source called 'nobody'"),
        (["--columns", "averag"], "did you mean: average"),
        (["--columns", " , "], "--columns is empty"),
        (["--view", "classes", "--columns", "worst"], "has columns of its own"),
    ],
)
def test_options_of_a_table_that_cannot_be_are_exit_code_2(bench, options, said):
    _, error = bench.call("table", "--results", str(bench.results), *options, code=2)
    assert said in error


def test_published_tables_need_no_results(bench):
    out, _ = bench.call("table", "--published", "trix:2")
    assert "TRIX-Uniform" in out
    assert "30.70" in out
