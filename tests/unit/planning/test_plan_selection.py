"""The selection grammar: names, seeds, overrides."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.core.errors import ConfigError, FairbenchError, UnknownNameError
from fairbench.planning.overrides import parse_overrides
from fairbench.planning.selection import parse_names, parse_seeds
from fairbench.registry import load_registry

REGISTRY = load_registry([])


def found_or_refused(parse: Callable[[Any], Any], given: Any) -> Any:
    """What `parse` makes of what is given, None when it says what is wrong with it; no other error."""
    try:
        return parse(given)
    except FairbenchError as error:
        return None if error.message else error


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        (None, ()),
        ("3", (3,)),
        ("0..4", (0, 1, 2, 3, 4)),
        ("0,1,7", (0, 1, 7)),
        (" 0 .. 2 , 5", (0, 1, 2, 5)),
        ("2,0..3,2", (2, 0, 1, 3)),
        ("7..7", (7,)),
        ("2147483647", (2147483647,)),
    ],
)
def test_seeds_are_numbers_and_ranges_with_both_ends_each_once(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", " ", ",", "1,", "a", "1.5", "-1", "3..1", "0..1000", "2147483648", "1..2..3"]
)
def test_what_is_no_seed_is_an_error_that_shows_how_to_write_one(text):
    with pytest.raises(ConfigError, match="--seeds") as caught:
        parse_seeds(text)
    assert "0..4" in caught.value.hint


@given(st.text(alphabet="0123456789., -x٣", max_size=30) | st.text(max_size=20))
def test_any_text_is_seeds_or_an_error(text):
    seeds = found_or_refused(parse_seeds, text)
    if seeds is not None:
        assert len(set(seeds)) == len(seeds) > 0
        assert all(0 <= seed < 2**31 for seed in seeds)


@given(st.lists(st.sampled_from(REGISTRY.names("method")), min_size=1))
def test_names_keep_their_order_and_lose_repeats(names):
    text = " , ".join(names)
    assert parse_names("method", text, REGISTRY, option="--methods") == tuple(dict.fromkeys(names))


def test_all_means_every_name():
    assert parse_names("dataset", "all", REGISTRY, option="--datasets") == tuple(REGISTRY.names("dataset"))
    assert parse_names("dataset", None, REGISTRY, option="--datasets") == ()


@given(st.sampled_from(("method", "dataset", "model", "attack")), st.text(max_size=30))
def test_any_text_is_names_or_an_error(kind, text):
    names = found_or_refused(partial(parse_names, kind, registry=REGISTRY, option=f"--{kind}s"), text)
    if names is not None:
        assert len(names) > 0
        assert set(names) <= set(REGISTRY.names(kind))


def test_an_unknown_name_says_who_asked_and_what_is_close():
    with pytest.raises(UnknownNameError) as caught:
        parse_names("method", "dafa,trixx", REGISTRY, option="--methods")
    assert "asked for by: --methods dafa,trixx" in caught.value.hint
    assert "did you mean: trix" in caught.value.hint


def test_overrides_are_typed_and_sorted_into_sections():
    items = ("methods.trix.strength=3/2", "protocol.subset.train_per_class=100", "protocol.epochs=30")
    assert parse_overrides(items, REGISTRY) == {
        "methods.trix": {"strength": 1.5},
        "protocol": {"subset.train_per_class": 100, "epochs": 30},
    }


def test_the_last_override_of_an_option_wins():
    items = ("methods.trix.beta=1", "methods.trix.beta=2")
    assert parse_overrides(items, REGISTRY) == {"methods.trix": {"beta": 2.0}}


PATHS = st.sampled_from(
    ("protocol.", "methods.", "methods.trix.", "methods.trix.beta", "protocol.epochs", "=")
)


@given(st.lists(PATHS | st.text(max_size=12), max_size=5).map("".join))
def test_any_text_is_an_override_or_an_error(text):
    overrides = found_or_refused(partial(parse_overrides, registry=REGISTRY), [text])
    assert overrides is None or len(overrides) == 1
