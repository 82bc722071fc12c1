"""The report in a browser, opened as a file: it requests nothing, logs no error, and can be used."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_files import write_run, write_three_methods

from fairbench.page import collect_content, render_page
from fairbench.records.results_folder import scan
from fairbench.registry import load_registry

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BOARD = ".setting:first-child table[data-table='0']"
ROBUST_WORST = 6  # its column, counted from 0 without the methods' names
EVIL = "<img src=x onerror=alert(1)>"  # the name of a run folder has no slash
EVIL_CLASS = f"{EVIL}</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two settings: three methods and a hostile one on digits, two methods on 25 classes."""
    folder = tmp_path_factory.mktemp("report")
    write_three_methods(folder / "results", names=[EVIL_CLASS, "b", "c"])
    for seed in range(2):
        write_run(
            folder / "results",
            EVIL,
            seed,
            (90, 80, 70),
            (60, 50, 20),
            size=100,
            names=[EVIL_CLASS, "b", "c"],
        )
        many = tuple((7 * k + seed) % 10 for k in range(25))
        other = {"name": "pgd-50", "id": "fifty", "kind": "pgd", "num_steps": 50}
        for method in ("trades", "dafa"):
            write_run(folder / "results", method, seed, many, many, dataset="many", attack=other)
    records, problems = scan(folder / "results")
    text = render_page(collect_content(records, load_registry(()), problems=problems, results="a b"))
    (folder / "a report.html").write_text(text, encoding="utf-8")
    return folder / "a report.html"


class Visit:
    """A page of the browser, with its requests and its errors."""

    def __init__(self, browser: Any, file: Path, place: str = "", width: int = 1280, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(5000)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("dialog", lambda dialog: self.errors.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri() + place)

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, *exception: object) -> None:
        self.context.close()
        assert self.errors == []
        assert self.requests
        assert all(url.startswith("file:") for url in self.requests)


def methods(page: Any, table: str = BOARD) -> list[str]:
    return page.locator(f"{table} tbody tr:visible > th").all_inner_texts()


def column(page: Any, k: int) -> list[str]:
    return page.locator(f"{BOARD} tbody tr:visible > td:nth-child({k + 2})").all_inner_texts()


def header(page: Any, k: int) -> Any:
    return page.locator(f"{BOARD} thead tr:last-child > th").nth(k + 1)


def test_a_click_sorts_by_numbers_best_first_then_worst_first_then_as_it_was(browser: Any, report: Path):
    with Visit(browser, report) as page:
        before = methods(page)
        assert before[:3] == ["trades", EVIL, "dafa"]
        head = header(page, ROBUST_WORST)
        assert head.get_attribute("aria-sort") is None
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert methods(page) == ["dafa", "trades", EVIL, "trix"]
        assert column(page, ROBUST_WORST)[-1].startswith("10.00")  # as texts, 10.00 would not be the lowest
        head.get_by_role("button").press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert methods(page) == ["trix", EVIL, "trades", "dafa"]
        head.get_by_role("button").press("Enter")
        assert head.get_attribute("aria-sort") is None
        assert methods(page) == before
        header(page, -1).get_by_role("button").click()
        assert methods(page)[1:] == ["dafa", "trades", "trix"]


def test_missing_numbers_stay_last_in_both_directions(browser: Any, report: Path, tmp_path: Path):
    text = report.read_text()
    match = re.search(r'(<script type="application/json" id="data">)(.*?)(</script>)', text, flags=re.S)
    data = json.loads(match[2])
    row = next(row for row in data["tables"][0]["rows"] if row["n"] == "trades")
    row["c"][ROBUST_WORST][0] = None
    changed = json.dumps(data).replace("<", "\\u003c")
    (tmp_path / "missing.html").write_text(text[: match.start(2)] + changed + text[match.end(2) :])
    with Visit(browser, tmp_path / "missing.html") as page:
        button = header(page, ROBUST_WORST).get_by_role("button")
        button.click()
        assert methods(page)[-1] == "trades"
        button.click()
        assert methods(page)[-1] == "trades"


def test_filters_keep_the_methods_and_settings_asked_for(browser: Any, report: Path):
    with Visit(browser, report) as page:
        page.get_by_role("searchbox", name="method").fill("DAF")
        assert methods(page) == ["dafa"]
        assert page.locator("#filters output").inner_text() == "1 method in 2 settings"
        page.locator("#filters").get_by_label("attack").select_option("pgd-50")
        assert page.locator(".setting:visible").count() == 1
        assert page.locator("#filters output").inner_text() == "1 method in 1 setting"
        heads = page.locator(".setting:visible .heat.down").first.locator("thead th:visible")
        assert heads.all_inner_texts() == ["class", "dafa"]
        page.get_by_role("searchbox", name="method").fill("")
        page.locator("#filters").get_by_label("attack").select_option("")
        page.locator("#filters").get_by_label("data set").select_option("digits")
        assert page.locator(".setting:visible").count() == 1
        assert len(methods(page)) == 4


def test_a_click_opens_the_runs_behind_a_number(browser: Any, report: Path):
    with Visit(browser, report) as page:
        number = page.locator(f"{BOARD} tbody tr", has_text="dafa").locator("td").nth(ROBUST_WORST)
        number.hover()
        hint = page.get_by_role("tooltip").inner_text()
        assert "seed 0: 45.00\nseed 1: 44.00\nseed 2: 43.00" in hint
        number.click()
        dialog = page.get_by_role("dialog")
        assert dialog.get_by_role("heading", name="dafa, robust, worst").is_visible()
        text = dialog.inner_text()
        assert "44.00 ± 2.48" in text
        assert "seed 1: 44.00 (epochs 4)" in text
        for text_of_run in (
            "dafa.digits.cnn-small.quickstart.seed1.",
            "--results 'a b'",
            "torch 2.11.0",
            "a" * 64,
        ):
            assert text_of_run in text
        assert text.count("fairbench verify ") == 3
        dialog.get_by_role("button", name="Close").click()
        assert not dialog.is_visible()


def test_the_keyboard_reaches_every_number_and_its_runs(browser: Any, report: Path):
    with Visit(browser, report) as page:
        first = page.locator(f"{BOARD} td button").first
        assert page.locator(f"{BOARD} td button[tabindex='0']").count() == 1
        first.focus()
        for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        assert dialog.get_by_role("heading", level=2).inner_text() == f"{EVIL}, clean, worst"
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        assert page.evaluate("document.activeElement.textContent").startswith("70.00")


def test_rho_leads_to_the_baselines_runs_too(browser: Any, report: Path):
    with Visit(browser, report) as page:
        page.locator(f"{BOARD} tbody tr", has_text="dafa").locator("td").last.click()
        text = page.get_by_role("dialog").inner_text()
        assert "Runs of the baseline" in text
        assert text.count("trades.digits") == 6


def test_a_class_of_many_leads_to_its_methods_runs(browser: Any, report: Path):
    with Visit(browser, report, "#setting-2") as page:
        heat = page.locator("#setting-2 .heat.down").last
        heat.locator("tbody tr").nth(2).locator("td").nth(1).click()
        dialog = page.get_by_role("dialog")
        assert dialog.get_by_role("heading", level=2).inner_text() == "dafa, robust, class 1"
        assert dialog.inner_text().count("fairbench verify dafa") == 2
        page.keyboard.press("Escape")
        page.locator("#setting-2").get_by_label("lowest accuracy first").check()
        values = [float(text) for text in heat.locator("tbody td:nth-child(2)").all_inner_texts()]
        assert values[1:] == sorted(values[1:])
        assert heat.locator("tbody th").first.inner_text() == "average"
        page.locator("#setting-2").get_by_label("as in the data set").check()
        assert heat.locator("tbody th").all_inner_texts()[1:3] == ["class 0", "class 1"]


def test_classes_across_are_put_in_order_in_both_maps(browser: Any, report: Path):
    with Visit(browser, report) as page:
        maps = page.locator("#setting-1 .heat.across")
        assert maps.last.locator("thead th").all_inner_texts()[2] == EVIL_CLASS
        page.locator("#setting-1").get_by_label("lowest accuracy first").check()
        for k in range(2):
            assert maps.nth(k).locator("thead th").all_inner_texts()[1:] == ["average", "c", "b", EVIL_CLASS]


def test_each_method_has_a_page_with_its_curves_and_runs(browser: Any, report: Path):
    with Visit(browser, report) as page:
        page.locator(BOARD).get_by_role("link", name="dafa").click()
        assert page.locator(".method:visible").count() == 1
        assert not page.locator("#settings").is_visible()
        shown = page.locator("#method-dafa")
        assert shown.get_by_role("heading", level=2).inner_text() == "DAFA"
        assert shown.locator("svg path.curve").count() == 3 * 5 + 2 * 5  # lines of seeds, in two settings
        assert shown.get_by_role("link", name="arXiv 2401.12532").is_visible()
        page.go_back()
        assert page.locator("#settings").is_visible()
        run = page.evaluate("document.querySelector('#method-trix details.run').id")
        page.evaluate(f"location.hash = '#{run}'")
        assert page.locator(f"[id='{run}'] dl").is_visible()
        page.evaluate("location.hash = '#%E0%A4%A'")  # not a place
        assert page.locator("#settings").is_visible()


@pytest.mark.parametrize("place", ["", "#method-dafa"])
def test_a_phone_shows_it_without_scrolling_sideways(browser: Any, report: Path, place: str):
    with Visit(browser, report, place, width=360) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate("document.body.scrollWidth") <= 360


def test_without_javascript_everything_is_there(browser: Any, report: Path):
    with Visit(browser, report, java_script_enabled=False) as page:
        assert methods(page) == ["trades", EVIL, "dafa", "trix"]
        assert page.locator("#method-dafa").is_visible()
        assert page.locator(".heat.across:visible").count() == 2
        assert not page.locator("#filters").is_visible()
        assert page.locator("fieldset:visible").count() == 0
        page.locator("#method-trix details.run summary").first.click()
        assert page.locator("#method-trix details.run dl").first.is_visible()


def test_print_shows_every_section_open_and_light(browser: Any, report: Path):
    with Visit(browser, report, color_scheme="dark") as page:
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        assert page.locator("details:not([open])").count() == 0
        assert page.locator(".method:visible").count() == 4
        assert not page.locator("#filters").is_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details[open]").count() == 0


def test_an_injected_script_does_not_run(browser: Any, report: Path, tmp_path: Path):
    """The page's policy stops a script even if a name became HTML."""
    text = report.read_text().replace("<main>", "<main><script>document.title = 'taken'</script>")
    (tmp_path / "injected.html").write_text(text)
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "injected.html").as_uri())
    assert page.title() != "taken"
    assert page.evaluate("document.documentElement.classList.contains('js')")
    context.close()
