"""A table stays right whatever else comes into the results folder, and however the file was saved."""

import shutil

import numpy as np
import pytest
from outcome_files import write_outcomes
from results_builder import PGD

from fairbench.core.files import read_json, write_sealed
from fairbench.records.results_folder import scan
from fairbench.tables.formats import render
from fairbench.tables.request import VIEWS, TableRequest
from fairbench.tables.verify import verify_tables
from fairbench.tables.views import build_tables

SUFFIX = {"latex": ".tex", "markdown": ".md", "html": ".html", "csv": ".csv"}
LONGER = {**PGD, "id": "longer", "num_steps": 40}
OTHER = {**PGD, "id": "other", "name": "other"}


def fill(results, **options):
    return [
        results.run(method, seed, counted=True, **options) for method in ("trades", "dafa") for seed in (0, 1)
    ]


def evaluate(results, attack):
    """Every run under one more attack, which breaks every image."""
    for record in scan(results.path)[0]:
        cell, content = read_json(record.folder / "cell.json"), read_json(record.folder / "record.json")
        cell["evaluation"].append(attack)
        for line in [line for line in content["evaluations"] if line["attack"] == "clean"]:
            rows = record.outcomes("clean", line["epoch"])
            file = line["file"].replace("clean", attack["id"])
            lost = np.zeros(len(rows), bool)
            sha = write_outcomes(record.folder / file, rows["label"], rows["prediction"], lost)
            told = {"attack": attack["name"], "id": attack["id"], "file": file, "digest": sha}
            content["evaluations"].append({**line, **told, "hits": [0, 0, 0]})
        write_sealed(record.folder / "cell.json", cell)
        write_sealed(record.folder / "record.json", content)


def stays_right(results, later=lambda: None):
    """Every table of every view in every format, printed now and verified after `later`."""
    made = {
        (view, format): render(build_tables(scan(results.path)[0], TableRequest(view=view)), format)
        for view in VIEWS
        for format in SUFFIX
    }
    later()
    for (view, format), text in made.items():
        checks = verify_tables(text, SUFFIX[format], scan(results.path)[0])
        assert [check.faults for check in checks] == [()] * len(checks), (view, format)
        assert any(check.lines for check in checks)


def test_two_variants_of_a_protocol(results):
    fill(results)
    fill(results, protocol_content={"epochs": 7}, overrides={"protocol.epochs": 7}, clean=((8, 8, 6),))
    stays_right(results)


def test_a_variant_of_the_protocol_that_came_later(results):
    fill(results)
    stays_right(results, lambda: fill(results, protocol_content={"epochs": 7}))


def test_one_attack_with_two_settings_in_different_runs(results):
    for seed in (0, 1):
        results.run("trades", seed, counted=True)
        results.run("dafa", seed, counted=True, attack=LONGER)
    stays_right(results)


def test_one_attack_with_two_settings_in_each_run(results):
    fill(results)
    evaluate(results, LONGER)
    stays_right(results)


@pytest.mark.parametrize("attack", [LONGER, OTHER])
def test_an_attack_that_was_evaluated_later(results, attack):
    fill(results)
    stays_right(results, lambda: evaluate(results, attack))


def test_an_attack_that_was_evaluated_after_a_table_without_any(results):
    fill(results, attack=None)
    stays_right(results, lambda: evaluate(results, PGD))


def test_one_method_twice_of_which_one_is_unfinished(results):
    fill(results)
    results.run("dafa", 0, config={"beta": 7}, state=None)
    stays_right(results)
    fill(results, config={"beta": 8})
    stays_right(results)
    (table,) = build_tables(scan(results.path)[0])
    assert len({row.label for row in table.rows}) == 4


def test_a_method_that_shares_no_seed_with_the_baseline(results):
    fill(results)
    results.run("trix", 7, counted=True)
    stays_right(results)


def test_a_copied_folder_changes_nothing_and_a_renamed_one_is_named_with_the_way_back(results):
    folders = fill(results)
    stays_right(results, lambda: shutil.copytree(folders[1], folders[1].with_name("copy")))
    (problem,) = scan(results.path)[1]
    assert f"the folder copy holds the run {folders[1].name}" in problem.message
    text = render(build_tables(scan(results.path)[0]), "csv")
    folders[0].rename(folders[0].with_name('my "best" run\'s'))
    (check,) = verify_tables(text, ".csv", scan(results.path)[0])
    assert f"{folders[0].name} is not in the results folder" in check.faults


def test_names_that_look_like_stamps_or_markup(results):
    for name in ('fairbench-table {"x":1}', "-->", "a|b", "<table><tr>", "%\\iffalse", "=1", "\n\n|-|-|"):
        results.run(name, 0, counted=True, names=["<!--", "d|-\\", "-->"])
    results.run("trades", 0, counted=True, names=["<!--", "d|-\\", "-->"])
    stays_right(results)


@pytest.mark.parametrize("format", SUFFIX)
def test_a_file_with_other_line_ends(results, format):
    fill(results)
    text = render(build_tables(scan(results.path)[0]), format).replace("\n", "\r\n")
    (check,) = verify_tables(text, SUFFIX[format], scan(results.path)[0])
    assert check.faults == ()
