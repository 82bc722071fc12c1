"""The page has the numbers of the tables, and no text of a record becomes HTML."""

import base64
import hashlib
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest
from report_files import PROVENANCE, write_run, write_three_methods

from fairbench.cli.main import cli, main
from fairbench.core.errors import UnknownNameError
from fairbench.page import PageContent, collect_content, render_page
from fairbench.page.heat_map import CLASSES_ACROSS, class_grid
from fairbench.page.markup import number_range
from fairbench.page.tables import epoch_range
from fairbench.page.training_curves import draw, training_curve
from fairbench.records.read import Record
from fairbench.records.results_folder import scan
from fairbench.registry import Registry, describe, load_registry
from fairbench.registry.schema import MethodEntry
from fairbench.tables.formats import html
from fairbench.tables.formats.numbers import shown
from fairbench.tables.published_results import read_published
from fairbench.tables.request import TableRequest
from fairbench.tables.verify import verify_tables
from fairbench.tables.views import build_tables

EVIL = "</script><script>alert(1)</script>"
NOTHING = Registry()


class Reader(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.scripts[-1] += data


def report_of(folder: Path, **options) -> PageContent:
    records, problems = scan(folder)
    return collect_content(records, options.pop("registry", NOTHING), problems=problems, **options)


def page_of(folder: Path, **options) -> str:
    return render_page(report_of(folder, **options))


def tables_of(text: str) -> list[dict]:
    return json.loads(Reader(text).scripts[0])["tables"]


def test_every_number_is_that_of_the_table_to_the_last_digit(tmp_path: Path):
    write_three_methods(tmp_path)
    report = report_of(tmp_path)
    text = render_page(report)
    records = scan(tmp_path)[0]
    (board,) = build_tables(records, TableRequest(columns=("average", "worst", "floor", "gap", "rho")))
    fairness = build_tables(records, TableRequest(view="fairness"))
    for table in (board, *fairness):
        for line in html.rows(table):
            assert f"\n{line}\n" in text
    data = tables_of(text)[0]
    for row, row_data in zip(board.rows, data["rows"], strict=True):
        for cell, column, item in zip(row.cells, board.columns, row_data["c"], strict=True):
            value, full, *each = item
            assert value == cell.value
            assert full == shown(cell, column, board).plain()
            if cell.values:
                assert [float(x) for x in each[0].split()] == pytest.approx(
                    [v if column.unit == "rho" else 100 * v for _, v in cell.values], abs=0.005
                )


def test_verify_finds_the_tables_of_the_page_as_the_records_say(tmp_path: Path):
    write_three_methods(tmp_path)
    text = page_of(tmp_path, published=read_published("all"), sources="all")
    checks = verify_tables(text, ".html", scan(tmp_path)[0])
    assert len(checks) == 5
    assert [check.faults for check in checks] == [()] * 5
    forged = re.sub(r"(<strong>)\d\d\.\d\d", r"\g<1>99.99", text, count=1)
    assert any(check.faults for check in verify_tables(forged, ".html", scan(tmp_path)[0]))


def test_the_same_records_give_the_same_page(tmp_path: Path):
    write_three_methods(tmp_path)
    assert page_of(tmp_path) == page_of(tmp_path)


def test_the_page_allows_its_own_script_and_style_only(tmp_path: Path):
    write_run(tmp_path)
    text = page_of(tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#x27;", "'")
    script = Reader(text).scripts[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"<\w[^>]* (src|style|on\w+)=", text)


def test_hostile_names_stay_text_everywhere(tmp_path: Path):
    for method in ("trades", EVIL, '" onmouseover="alert(1)', "javascript:alert(1)"):
        for seed in range(2):
            write_run(
                tmp_path,
                method,
                seed,
                names=["<img src=x onerror=alert(1)>", "a'b\"c", "--><b>"],
                overrides={"<i>": EVIL} if method == EVIL else None,
                warnings=(EVIL,),
                title=f"{method}<svg/onload=alert(1)>",
                provenance={**PROVENANCE, "commit": EVIL, "device": {EVIL: EVIL}, "earlier": 3},
                command=["fairbench", EVIL, "$(rm -rf /)"],
            )
    (tmp_path / "runs" / "<b>damaged&").mkdir()
    text = page_of(tmp_path, results=EVIL, made_with=EVIL)
    reader = Reader(text)
    assert len(reader.scripts) == 2
    names = {name for name, _ in reader.elements}
    assert not names & {"img", "svg/onload", "iframe", "object"}
    for name, attributes in reader.elements:
        assert not [key for key in attributes if key.startswith("on") or key in ("style", "src")], name
        assert attributes.get("href", "#").startswith("#")
    assert "&lt;/script&gt;" in text
    assert EVIL not in re.sub(r"<script.*?</script>", "", text, flags=re.S)


def test_links_of_a_registry_go_to_known_places_only(tmp_path: Path):
    write_run(tmp_path, "mine", provenance=None)
    file = tmp_path / "mine.py"
    file.write_text(
        '"""MINE: <b>bold</b>.\n\nIdea       Do `x<y`.\n"""\n'
        '@method("mine")\nclass Mine(AdversarialObjective):\n'
        "    class Config:\n        beta: float = 6.0  # <u>weight</u>\n"
    )
    entry = {
        "name": "mine",
        "paper": {"title": "<h1>", "arxiv": "javascript:alert(1)"},
        "official": {"repo": "javascript:alert(1)//x", "commit": "0123abc"},
    }
    registry = Registry({"mine": MethodEntry.model_validate(entry)}, plugins={"mine": describe(file)})
    text = page_of(tmp_path, registry=registry)
    hrefs = [a["href"] for name, a in Reader(text).elements if name == "a"]
    assert all(href.startswith("#") for href in hrefs)
    assert "<code>x&lt;y</code>" in text
    assert "file has changed since" in text
    for raw in ("<b>bold", "<u>", "<h1><"):
        assert raw not in text


def test_a_method_page_has_the_docstring_and_the_links_of_the_registry(tmp_path: Path):
    write_three_methods(tmp_path)
    text = page_of(tmp_path, registry=load_registry(()))
    assert 'href="https://arxiv.org/abs/2401.12532"' in text
    assert 'href="https://github.com/rucy74/DAFA/tree/c60ba8352d712c6108480a2ce7e7fa7abf30b48a"' in text
    for name in ("Idea", "Objective", "Deviates", "Source", "Cost"):
        assert f"<dt>{name}</dt>" in text


def test_a_method_that_the_registry_does_not_have_still_has_its_runs(tmp_path: Path):
    folder = write_run(tmp_path, "elsewhere")
    text = page_of(tmp_path)
    assert "fairbench report --registry FILE" in text
    assert f"fairbench verify {folder.name}" in text


@pytest.mark.parametrize(("content", "word"), [(None, "missing"), ("{", "damaged"), ("[1]", "damaged")])
def test_a_run_without_provenance_says_so(tmp_path: Path, content: str | None, word: str):
    write_run(tmp_path, provenance=content)
    assert f"provenance.json is {word}" in page_of(tmp_path)


def test_provenance_of_a_run_is_on_the_page(tmp_path: Path):
    folder = write_run(tmp_path, seed=7)
    text = page_of(tmp_path, results="else where")
    evaluations = json.loads((folder / "record.json").read_text())["evaluations"]
    for text_on_page in (
        folder.name,
        f"fairbench verify {folder.name} --results &#x27;else where&#x27;",
        "type: cpu, threads: 2",
        "torch 2.11.0, numpy 2.4.0",
        "0123456789abcdef with changes that were not committed",
        "fairbench run --seeds 0..2",
        "2026-11-22T09:00:00Z",
        "a" * 64,
        "b" * 64,
        *(e["digest"] for e in evaluations),
    ):
        assert text_on_page in text


def test_damaged_and_unfinished_runs_are_named(tmp_path: Path):
    write_run(tmp_path)
    write_run(tmp_path, "dafa", state="diverged")
    broken = write_run(tmp_path, "trix")
    (broken / "record.json").write_text("{")
    text = page_of(tmp_path)
    assert "Runs that could not be read" in text
    assert broken.name in text
    assert "diverged: the loss was not finite" in text
    assert "Only <a" in text


def test_without_a_finished_run_there_is_still_a_page(tmp_path: Path):
    write_run(tmp_path, state="failed")
    text = page_of(tmp_path)
    assert "No run is done yet." in text
    assert "<tbody>" not in text.partition('class="options"')[0]


def test_the_summary_of_one_seed_names_the_missing_spread(tmp_path: Path):
    write_run(tmp_path)
    write_run(tmp_path, "dafa", robust=(6, 5, 5))
    text = page_of(tmp_path)
    assert "No method is called best: one seed does not show the spread over seeds." in text
    assert "has the highest" not in text


def test_without_an_attack_the_summary_compares_clean_accuracy(tmp_path: Path):
    for method, lowest in (("trades", 6), ("dafa", 7)):
        for seed in (0, 1):
            write_run(tmp_path, method, seed, clean=(9, 8, lowest), robust=None)
    text = page_of(tmp_path)
    assert "has the highest clean worst class" in text
    assert 'data-attack="none"' in text


def test_an_undefined_number_is_null_and_a_dash(tmp_path: Path):
    for method in ("trades", "dafa"):
        write_run(tmp_path, method, robust=(5, 5, 0))  # rho against a worst class of 0
    cells = [row["c"] for row in tables_of(page_of(tmp_path))[0]["rows"]]
    assert cells[1][-1] == [None, "not defined"]


def test_an_unknown_attack_is_refused_and_a_known_one_kept_alone(tmp_path: Path):
    other = {"name": "pgd-50", "id": "other", "kind": "pgd", "num_steps": 50}
    write_run(tmp_path)
    write_run(tmp_path, attack=other, dataset="stl10")
    assert [s.leaderboard.table.attack for s in report_of(tmp_path).sections] == ["pgd-20", "pgd-50"]
    (section,) = report_of(tmp_path, attack="pgd-50").sections
    assert [traced.table.attack for traced in section.classes] == ["", "pgd-50"]
    with pytest.raises(UnknownNameError):
        report_of(tmp_path, attack="pgd-3")


def test_each_row_leads_to_its_own_runs(tmp_path: Path):
    write_three_methods(tmp_path)
    report = report_of(tmp_path)
    (section,) = report.sections
    for traced in (section.leaderboard, *section.classes):
        for label, seeds in traced.seeds.items():
            assert list(seeds) == [0, 1, 2]
            assert all(seed.record.folder.name.startswith(f"{label}.") for seed in seeds.values())
            assert all(seed.epochs == (4,) for seed in seeds.values())
    ids = {a.get("id") for _, a in Reader(render_page(report)).elements}
    for data in tables_of(render_page(report)):
        for owner in (*data["rows"], *data["cols"]):
            assert all(place in ids for _, place, _ in owner.get("u", ()))


@pytest.mark.parametrize("num_classes", [2, CLASSES_ACROSS + 1])
def test_every_class_of_every_method_is_in_the_map_in_rows_or_in_columns(tmp_path: Path, num_classes: int):
    hits = tuple(k % 11 for k in range(num_classes))
    for method in ("trades", "dafa", "trix"):
        for seed in range(2):
            write_run(tmp_path, method, seed, hits, hits)
    (section,) = report_of(tmp_path).sections
    for traced in section.classes:
        grid = class_grid(traced.table)
        assert grid.labels == ("trades", "dafa", "trix")
        assert grid.columns[0].header == "average"
        values = [cell.value for cell in grid.cells[2][1:]]
        assert values == pytest.approx([hit / 10 for hit in hits])
    kind = "down" if num_classes > CLASSES_ACROSS else "across"
    assert page_of(tmp_path).count(f'class="heat {kind}"') == 2


def test_published_values_stand_in_rows_of_their_own(tmp_path: Path):
    for seed in range(2):
        write_run(tmp_path, "trades", seed, dataset="cifar10", model="resnet18")
    published = [c for c in read_published("all") if (c.dataset, c.method) == ("cifar10", "trades")][:1]
    assert published
    placed = [replace(published[0], model="", attack="pgd-20 0.1 step 0.02")]
    text = page_of(tmp_path, published=placed, sources="all")
    rows = tables_of(text)[0]["rows"]
    assert [bool(row.get("source")) for row in rows] == [False, True]
    assert '<tr class="published">' in text
    assert text.count('<ul class="lines"') == 1
    assert text.count('class="name"') == 1


def test_a_curve_has_gaps_where_an_epoch_has_no_number():
    rows = [
        {"epoch": 1, "loss": 2.0, "train_clean_accuracy": [0.5, 0.1], "train_robust_accuracy": []},
        {"epoch": 2, "loss": float("nan"), "train_clean_accuracy": [0.5, None]},
        {"epoch": 3, "loss": "x", "train_clean_accuracy": [[1]], "train_robust_accuracy": [True, False]},
    ]
    curve = training_curve(rows)
    assert curve.loss == (2.0, None, None)
    assert curve.clean_mean == (0.3, None, None)
    assert curve.clean_worst == (0.1, None, None)
    assert curve.robust_mean == (None, None, None)
    assert "nan" not in draw({0: curve})
    assert draw({0: training_curve([])}) == ""


@pytest.mark.parametrize("loss", [5e-324, 0.0, -1.0, 1e308, 10**400, True, [], "x"])
def test_any_loss_can_be_drawn_or_left_out(loss: object):
    rows = [{"epoch": k, "loss": loss, "train_clean_accuracy": [0.5, 2.0]} for k in (1, 2)]
    assert "training accuracy, clean" in draw({0: training_curve(rows)})


def test_a_long_training_keeps_its_last_epoch():
    rows = [{"epoch": k, "loss": 1.0} for k in range(1, 1001)]
    curve = training_curve(rows)
    assert len(curve.epochs) <= 101
    assert curve.epochs[-1] == 1000


def test_commands_make_the_runs_again(tmp_path: Path):
    for seed in range(3):
        write_run(tmp_path, "trades", seed)
        write_run(tmp_path, "dafa", seed, overrides={"strength": 1.5, "protocol.epochs": 4})
    write_run(tmp_path, "trix", 5)
    commands = report_of(tmp_path, results="my results", registry_files=["own.yaml"]).commands
    assert len(commands) == 3
    for line in commands:
        name, *words = shlex.split(line)[1:]
        context = cli.get_command(click.Context(cli), name).make_context(name, words)
        assert str(context.params["results"]) == "my results"
    assert sorted(re.search(r"--methods (\w+)", line)[1] for line in commands) == ["dafa", "trades", "trix"]
    assert any("--set protocol.epochs=4 --set methods.dafa.strength=1.5" in line for line in commands)
    assert any("--seeds 0..2" in line for line in commands)


def test_ranges_are_short():
    assert number_range([0, 1, 2], "..", ",") == "0..2"
    assert number_range([0, 1, 2, 5], "..", ",") == "0,1,2,5"
    assert epoch_range((10, 11, 12)) == "10-12"
    assert epoch_range((4, 8)) == "4, 8"


def test_the_command_writes_one_file_and_says_what_is_in_it(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_three_methods(tmp_path / "results")
    with pytest.raises(SystemExit) as stopped:
        main(["report", "-o", "out.html", "--methods", "dafa"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("out.html: 2 methods, 1 setting, 6 runs, 0.1 MB")
    text = (tmp_path / "out.html").read_text()
    assert "fairbench report -o out.html --methods dafa" in text
    assert "fairbench verify out.html" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--results", "empty"], "no runs in empty"),
        (["-o", "nowhere/out.html"], "there is no folder nowhere"),
        (["--datasets", "cifar11"], "no dataset called 'cifar11'"),
        (["--attack", "pgd-3"], "no attack called 'pgd-3'"),
    ],
)
def test_a_mistake_is_a_message(tmp_path: Path, capsys, monkeypatch, words: list[str], message: str):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "results")
    with pytest.raises(SystemExit) as stopped:
        main(["report", *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_record_is_only_read(tmp_path: Path):
    folder = write_run(tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    page_of(tmp_path)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert isinstance(report_of(tmp_path).runs[0].record, Record)


def test_with_very_many_classes_the_summary_compares_the_tail(tmp_path: Path):
    hits = tuple(k % 11 for k in range(200))
    for method in ("trades", "dafa"):
        for seed in (0, 1):
            write_run(tmp_path, method, seed, clean=hits, robust=hits)
    text = page_of(tmp_path)
    assert re.search(
        r"</a> and <a [^>]*>\w+</a> tie for the highest robust mean over the worst 20 % of classes: ", text
    )
    assert "worst class:" not in text


def test_methods_without_a_significant_difference_are_named(tmp_path: Path):
    for seed in range(3):
        for k, method in enumerate("abcdefg"):
            write_run(tmp_path, method, seed, robust=(9, 8, 4 + (k == 0 or (k + seed) % 2)))
    text = page_of(tmp_path, baseline="a")
    link = r"<a [^>]*>\w</a>"
    assert re.search(
        rf"On these seeds, the difference from ({link}, ){{3}}{link} and 2 others is not significant\.", text
    )
