"""Every kind of figure draws in every format without a warning, and its caption names what it shows."""

import re
from xml.etree import ElementTree

import pandas as pd
import pytest

from fairbench.core.errors import ConfigError, FairbenchError, UnknownNameError
from fairbench.figures.features import features_figures
from fairbench.figures.figure import (
    SUFFIXES,
    FigureKey,
    FigureOptions,
    NothingToDrawError,
    chosen_path,
    name_parts,
    rendered,
    save_all,
)
from fairbench.figures.kinds import FEATURES, KINDS, build_figures
from fairbench.figures.style import INCHES

HOSTILE = r"$\frac{_&<script>alert(1)</script>%" + "\x1b[31m\n=1+1 \u4e2d" + "x" * 60


def build(kind, records, project, options=None, classes=()):
    options = options or FigureOptions(attack="pgd" if kind not in ("weights", "curves") else None)
    if kind == FEATURES:
        return features_figures(records, options, project, classes)
    return build_figures(kind, records, options)


def one(kind, records, project, options=None):
    (figure,) = build(kind, records, project, options)
    return figure


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_in_every_format_with_its_data_and_caption(kind, trio, project, tmp_path):
    figure = one(kind, trio, project)
    for suffix in SUFFIXES:
        files = figure.save(tmp_path / f"{kind}{suffix}")
        assert [file.suffix for file in files] == [suffix, ".csv", ".txt"]
        assert all(file.stat().st_size > 50 for file in files)
    pdf = (tmp_path / f"{kind}.pdf").read_bytes()
    assert b"/FontFile2" in pdf, "TrueType fonts are embedded"
    assert b"/Type3" not in pdf
    texts = [text.text for text in ElementTree.parse(tmp_path / f"{kind}.svg").iter() if text.text]
    for title in ("TRADES", "DAFA", "TRIX"):
        assert any(title in text for text in texts), f"{title} is not in the figure"
    frame = pd.read_csv(tmp_path / f"{kind}.csv")
    assert set(frame.columns) >= {"dataset", "model", "protocol", "attack", "method", "entry", "seeds"}
    caption = (tmp_path / f"{kind}.txt").read_text()
    assert "cnn-small, digits" in caption
    assert "quickstart v2" in caption
    assert kind == FEATURES or "2 seeds" in caption or "trades 2" in caption


@pytest.mark.parametrize("kind", ["classes", "confusion"])
@pytest.mark.parametrize("width", INCHES)
def test_a_figure_is_as_wide_as_it_was_asked_to_be(kind, width, trio, project):
    options = FigureOptions(attack="pgd", width=width)
    figure = one(kind, trio, project, options)
    assert figure.drawing.get_figwidth() == INCHES[width]


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_records_changes_nothing(kind, trio, project):
    first, again = (one(kind, some, project) for some in (trio, trio[::-1]))
    assert first.data.equals(again.data)
    assert first.caption == again.caption


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_records_give_the_same_bytes(suffix, trio, project):
    first, again = (one("front", some, project).drawing for some in (trio, trio[::-1]))
    assert rendered(first, suffix) == rendered(again, suffix)


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_are_shown_and_do_nothing(kind, results, project, tmp_path):
    results.run("trades", 0)
    names = (HOSTILE, "_nolegend_", "owl")
    for seed in (0, 1):
        results.run("trades", seed, names=names, dataset="evil")
        results.run(
            HOSTILE.replace("/", ""), seed, title=HOSTILE, names=names, dataset="evil", logged=(HOSTILE,)
        )
        results.run("_trix", seed, title="_trix$", names=names, dataset="evil")
    records = [record for record in results.records() if record.dataset == "evil"]
    figure = one(kind, records, project)
    for suffix in SUFFIXES if kind == "front" else [".svg"]:
        figure.save(tmp_path / f"figure{suffix}")
    svg = (tmp_path / "figure.svg").read_text()
    assert "<script" not in svg
    assert "\x1b" not in svg
    ElementTree.fromstring(svg)
    texts = [
        "".join(text.itertext()) for text in ElementTree.fromstring(svg).iter() if text.tag.endswith("text")
    ]
    assert any("_trix$" in text for text in texts)
    assert any(r"$\frac{_&" in text for text in texts)
    for suffix in (".csv", ".txt"):
        content = (tmp_path / "figure").with_suffix(suffix).read_text()
        assert "\x1b" not in content
        assert not re.search(r"(^|,)[=+@-][^,\d]", content, flags=re.M) or suffix == ".txt"


@pytest.mark.parametrize("kind", ["classes", "eps", "confusion", "weights", "success"])
def test_figures_of_a_hundred_classes_do_not_name_them_all(kind, results, project):
    names = tuple(f"class number {c}" for c in range(100))
    for method in ("trades", "trix"):
        results.run(method, 0, names=names, size=4)
    svg = rendered(one(kind, results.records(), project).drawing, ".svg").decode()
    texts = re.findall(r"class number \d+", svg)
    assert len(texts) < 30, "names of very many classes cover each other"


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_draws_too(kind, results, project):
    for method in ("trades", "trix"):
        results.run(method, 0)
    assert len(one(kind, results.records(), project).data)


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_that_no_run_was_evaluated_under_is_an_error_with_a_proposal(kind, trio, project):
    with pytest.raises(UnknownNameError, match="no attack called 'pdg'"):
        build(kind, trio, project, FigureOptions(attack="pdg"))


@pytest.mark.parametrize("kind", KINDS)
def test_runs_without_anything_to_draw_say_what_to_run(kind, results, project):
    results.run("trades", 0, attacks={}, logged=(), curves=False)
    options = FigureOptions(side="robust")
    if kind == FEATURES:
        options = FigureOptions()
    with pytest.raises(NothingToDrawError) as error:
        build(kind, results.records(), project, options)
    assert "run" in error.value.hint


@pytest.mark.parametrize("kind", ["classes", "eps", "forest", "success", "curves", FEATURES])
def test_a_method_without_the_attack_leaves_the_others_in_the_figure(kind, three, project):
    three.run("cfa", 0, attacks={"pgd-weak": ATTACKS_WEAK}, logged=())
    figure = one(kind, three.records(), project)
    assert set(figure.data["method"]) >= (
        {"dafa", "trix"} if kind == "forest" else {"trades", "dafa", "trix"}
    )
    if kind not in ("curves", "weights", "eps"):
        assert "cfa" not in set(figure.data["method"])


ATTACKS_WEAK = {"kind": "pgd", "version": 1, "eps": 0.05, "step_size": 0.00625, "num_steps": 20}


def test_several_settings_give_several_files_with_distinct_names(three, project, tmp_path):
    three.run("trades", 0, dataset="cifar10")
    figures = build("classes", three.records(), project, FigureOptions(attack="pgd"))
    files = [files[0].name for _, files in save_all(figures, tmp_path / "f.pdf")]
    assert files == ["f.cifar10.pdf", "f.digits.pdf"]
    everything = build("classes", three.records(), project, FigureOptions())
    names = name_parts([figure.key for figure in everything])
    assert len(set(names)) == len(names) == 6
    assert ".digits.pgd-weak" in names


def test_figures_of_equal_names_get_different_files():
    key = FigureKey("a", "b", "c", "d")
    assert len(set(name_parts([key, key, FigureKey("../a", "b", "c", "d", "1234")]))) == 3
    assert all("/" not in name for name in name_parts([key, FigureKey("../a", "b", "c", "d")]))


@pytest.mark.parametrize("name", ["figure.jpg", "figure", "figure.pdf.exe"])
def test_other_files_are_refused(name, tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        chosen_path("front", tmp_path / name)


def test_a_folder_or_nothing_gives_a_pdf_of_the_kinds_name(tmp_path):
    assert chosen_path("front", tmp_path) == tmp_path / "front.pdf"
    assert str(chosen_path("front", None)) == "front.pdf"


def test_features_of_several_attacks_ask_for_one(trio, project):
    with pytest.raises(ConfigError) as error:
        build(FEATURES, trio, project, FigureOptions())
    assert "--attacks pgd or pgd-targeted or pgd-weak" in error.value.hint


@pytest.mark.parametrize(("classes", "error"), [(("cat", "dog"), UnknownNameError), (("cat",), ConfigError)])
def test_features_are_of_two_classes_of_the_data_set(trio, project, classes, error):
    with pytest.raises(error):
        build(FEATURES, trio, project, FigureOptions(attack="pgd"), classes)


def test_features_are_of_cat_and_horse_unless_others_are_asked_for(trio, project):
    figures = build(FEATURES, trio, project, FigureOptions(attack="pgd"), ("owl", "cat"))
    assert list(figures[0].data["class"].unique()) == ["owl", "cat"]
    assert list(one(FEATURES, trio, project).data["class"].unique()) == ["cat", "horse"]


def test_nothing_to_draw_is_an_error_of_fairbench():
    assert issubclass(NothingToDrawError, FairbenchError)
