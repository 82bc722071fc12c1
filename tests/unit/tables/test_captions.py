"""Captions of three lines: what is in them, that they fit, and that what does not fit is not lost."""

import itertools
import re
import shutil
import subprocess
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_builder import ResultsBuilder

from fairbench.records.results_folder import scan
from fairbench.tables.captions import LINES, WIDTH, fitted
from fairbench.tables.formats import render
from fairbench.tables.request import VIEWS, TableRequest
from fairbench.tables.views import build_tables

AUTOATTACK = {
    "name": "aa", "id": "a", "kind": "autoattack", "version": 2, "eps": 8 / 255, "precision": "float32",
    "attacks": "standard", "num_steps": 100, "num_targets": 9, "num_queries": 5000,
}  # fmt: skip
PGD = {"name": "pgd-20-mine", "id": "p", "kind": "pgd", "version": 1, "eps": 0.031, "num_steps": 20}
TITLES = {"method": "FAIR-TAT (PGD-AT)", "model": "PreActResNet-18", "dataset": "Tiny-ImageNet"}
HITS = ((30, 20, 10), (30, 20, 11))
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def tables(results, **options):
    return build_tables(scan(results.path)[0], TableRequest(**options))


def test_a_caption_names_what_a_paper_names(results):
    names = {"dataset": "CIFAR-10", "model": "ResNet-18", "method": "TRADES"}
    for seed in range(3):
        results.run("trades", seed, HITS, HITS, size=50, attack=AUTOATTACK, titles=names, protocol="trix-5")
    (table,) = tables(results)
    assert table.title == "ResNet-18, CIFAR-10, trix-5 v2, AutoAttack, 8/255"
    assert table.caption[0] == "Mean \u00b1 95 % t interval over 3 seeds, epochs 4-5."
    assert not any("bound" in sentence for sentence in table.caption)


def test_what_changes_the_meaning_of_a_number_is_in_the_caption(results):
    tuned = {"fine_tune": {"epochs": 2}}
    content = {"precision": "bf16"}
    for seed in (0, 1):
        results.run("trades", seed, HITS, HITS, size=50, attack=PGD, protocol_content=content)
    results.run("dafa", 0, HITS[:1], HITS[:1], size=(50, 60, 70), attack=PGD, protocol_content=content,
                titles={"reconstructed": "yes", "method": "DAFA"}, components=tuned)  # fmt: skip
    (table,) = tables(results)
    assert table.title.endswith("PGD-20, 0.031")
    assert table.caption == (
        "Mean \u00b1 95 % t interval over 1 to 2 seeds, unequal last epochs.",
        "Upper bound by PGD, not AutoAttack.",
        "Trained in bfloat16.",
        "Fine-tuned: DAFA.",
        "Reconstructed: DAFA.",
        "rho is against trades.",
        "50-70 images per class.",
    )


@quick
@given(st.lists(st.text("abcdefgh ", min_size=1, max_size=60), max_size=12), st.text("abc ", max_size=120))
def test_sentences_that_fit_are_in_three_lines_and_the_others_are_left_over(sentences, before):
    kept, left_out = fitted(sentences, before)
    assert sorted([*kept, *left_out]) == sorted(sentences)
    if len(kept) > 1:
        assert len(textwrap.wrap(" ".join([before, *kept]), WIDTH)) <= LINES


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Tables of many kinds: attacks, precisions, seeds, views, methods that change the meaning."""
    results = ResultsBuilder(tmp_path_factory.mktemp("many"))
    choices = itertools.product((AUTOATTACK, PGD, {**PGD, "norm": "l2", "eps": 0.5}), ("fp32", "tf32-conv"))
    for k, (attack, precision) in enumerate(choices):
        for method, seeds in (("trades", (0, 1, 2)), ("fairtat", (0, 1)), ("cfa", (2,))):
            for seed in seeds:
                hits = HITS[: 1 + (method == "cfa")]
                results.run(
                    method, seed, hits, hits, size=(50, 60, 70 + k), attack=attack,
                    protocol=f"a-protocol-with-a-long-name-{k}", titles=TITLES | {"reconstructed": "yes"},
                    protocol_content={"precision": precision}, components={"fine_tune": {"epochs": 2}},
                )  # fmt: skip
    records = scan(results.path)[0]
    requests = [TableRequest(view=view) for view in VIEWS]
    requests += [TableRequest(error="sd", convention="trix"), TableRequest(baseline="cfa")]
    return [table for request in requests for table in build_tables(records, request)]


def test_captions_have_at_most_three_lines_of_eighty_columns(many):
    assert len(many) > 40
    for table in many:
        text = render([table])
        caption = re.search(r"\n\n((?:(?!note:|Made).+\n)+)(?:note:|Made)", text)[1]
        assert len(caption.splitlines()) <= LINES
        assert max(map(len, caption.splitlines())) <= WIDTH
        full = " ".join(render([table], full_captions=True).split())
        assert " ".join(table.description) in full
        left = " ".join(text.split())
        assert all(sentence in left for sentence in table.caption)


def test_definitions_stand_once(many):
    for format in ("text", "markdown", "html", "latex"):
        text = " ".join(render(many, format).replace("\n% ", " ").split())
        assert text.count("Worst is the lowest class accuracy of each checkpoint") == 1
        full = " ".join(render(many, format, full_captions=True).split())
        assert full.count("Worst is the lowest class accuracy of each checkpoint") > 10


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (texlive-latex-recommended)")
def test_captions_have_at_most_three_lines_in_an_article(many, tmp_path):
    captions = re.findall(r"\\caption\[\{.*\}\]\{(.*)\}\n", render(many, "latex"))
    assert len(captions) > 40
    body = "".join(
        rf"\setbox0\vbox{{\hsize=345pt Table 10: {text}\par\global\count1=\prevgraf}}"
        r"\typeout{LINES \the\count1}"
        for text in captions
    )
    paper = rf"\documentclass{{article}}\begin{{document}}\small {body} \end{{document}}"
    (tmp_path / "lines.tex").write_text(paper)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "lines.tex"], cwd=tmp_path, capture_output=True, text=True
    )
    lines = [int(number) for number in re.findall(r"LINES (\d+)", done.stdout)]
    assert len(lines) == len(captions)
    assert max(lines) <= LINES
