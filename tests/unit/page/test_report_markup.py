"""HTML from parts: texts of records are escaped."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.page import heat_map
from fairbench.page.heat_map import LEVELS
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


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2 of "#rrggbb"."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_numbers_on_every_colour_can_be_read_in_light_and_dark_mode():
    css = Path(heat_map.__file__).with_name("page.css").read_text()
    rules = re.findall(r"\.h(\d+)\{background:(#\w{6});color:(#\w{6})\}", css)
    assert [int(level) for level, *_ in rules] == [*range(LEVELS + 1)] * 2
    for _, *colours in rules:
        dark, light = sorted(map(luminance, colours))
        assert (light + 0.05) / (dark + 0.05) >= 4.5
