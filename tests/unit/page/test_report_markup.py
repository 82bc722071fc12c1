"""HTML from parts: texts of records are escaped."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.page.heat_map import DARK, LEVELS, LIGHT, _between, contrast
from fairbench.page.markup import (
    Anchors,
    Markup,
    joined,
    paper_link,
    program_link,
    prose,
    script_data,
    tag,
)

HOSTILE = "\"'><script>alert(1)</script>&amp;"


def test_children_and_attributes_are_escaped_and_markup_is_not():
    link = tag("a", HOSTILE, Markup("<b>x</b>"), href=HOSTILE, data_table=3, hidden=True, title=None)
    assert link.count("<") == 4
    assert "<b>x</b>" in link
    assert 'data-table="3" hidden>' in link
    assert "title" not in link


def test_joined_parts_are_escaped_one_by_one():
    assert joined(["<", Markup("<br>"), None, ">"], "\n") == "&lt;\n<br>\n&gt;"


@pytest.mark.parametrize("arxiv", ["2401.12532", "1706.06083v4", "cs/0112017", "math.GT/0309136"])
def test_an_arxiv_number_becomes_a_link(arxiv: str):
    assert f'href="https://arxiv.org/abs/{arxiv}"' in str(paper_link(arxiv))


@pytest.mark.parametrize(
    "arxiv", ["javascript:alert(1)", "2401.12532?x", "//evil.example", '2401.12532" onclick="x', "../../x"]
)
def test_what_is_no_arxiv_number_is_text(arxiv: str):
    assert "href" not in str(paper_link(arxiv)).replace("&quot;", "")
    assert "<" not in str(paper_link(arxiv))


def test_a_program_becomes_a_link_at_its_commit():
    assert 'href="https://github.com/rucy74/DAFA/tree/c60ba83"' in str(program_link("rucy74/DAFA", "c60ba83"))
    assert 'href="https://github.com/rucy74/DAFA"' in str(program_link("rucy74/DAFA", "main"))


@pytest.mark.parametrize(
    "repo", ["javascript:alert(1)//a", "a/b/c", "../b", "a/<b>", "https://evil.example/a"]
)
def test_what_is_no_repository_is_text(repo: str):
    assert "<" not in str(program_link(repo, "c60ba83"))


def test_backticks_are_code_and_an_odd_one_is_text():
    assert prose("set `a<b` or") == "set <code>a&lt;b</code> or"
    assert prose("a ` b") == "a ` b"


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_script_data_reads_back_and_never_ends_its_element(value: object):
    text = script_data(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_script_data_refuses_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_data(float("nan"))


def test_ids_are_safe_and_unique():
    anchors = Anchors()
    ids = [anchors.of("method", name) for name in ("a b", "A-B", "<x>", "", "a b")]
    assert ids == ["method-a-b", "method-a-b-2", "method-x", "method-", "method-a-b"]


@pytest.mark.parametrize("stops", [LIGHT, DARK])
def test_numbers_on_every_colour_can_be_read(stops):
    for k in range(LEVELS + 1):
        colour = _between(stops, k / LEVELS)
        assert max(contrast(colour, (0, 0, 0)), contrast(colour, (255, 255, 255))) >= 4.5
