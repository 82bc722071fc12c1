"""Identities, seeds and error texts depend on what they should and on nothing else."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import (
    ConfigError,
    DataMissingError,
    DivergedError,
    FairbenchError,
    LeaseHeldError,
    UnknownNameError,
    suggest,
)
from fairbench.core.identity import canonical_json, digest, digest_bytes
from fairbench.core.seeds import derive_seed

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=5), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_identity_does_not_depend_on_the_order_of_keys(value, random):
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(value)
    assert digest(dict(items)) == digest(value)


def test_identity_depends_on_order_of_lists_types_and_the_last_bit():
    values = [[1, 2], [2, 1], ["1", 2], {"a": 1}, {"a": "1"}, {"a": None}, 0.031, 8 / 255]
    values += [math.nextafter(0.031, 1), 1, "1", True]
    assert len({digest(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [{"a": math.nan}]])
def test_identity_of_what_is_not_a_number_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_identity_of_what_json_cannot_hold_is_refused(value):
    with pytest.raises(TypeError):
        digest(value)


def test_digests_are_the_published_hash():
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest_bytes(b"") == empty
    assert digest_bytes(b"", 12) == empty[:12]
    assert len(digest({})) == 12
    assert canonical_json({"b": [1.0, "é"], "a": None}) == '{"a":null,"b":[1.0,"\\u00e9"]}'


def test_seeds_differ_by_purpose_type_part_and_order():
    names = [(1,), ("1",), (1, 2), (12,), ("1", "2"), ("12",), (2, 1), (0, "attack", 1, 1)]
    names += [(0, "attack", 11), (0, "target", 1, 1), (0, "attack", 1, 2), (1, "attack", 1, 1), ()]
    assert len({derive_seed(*name) for name in names}) == len(names)


@given(st.lists(st.integers() | st.text()))
@settings(deadline=None, max_examples=40)
def test_seeds_are_repeatable_and_fit_any_generator(parts):
    assert derive_seed(*parts) == derive_seed(*parts)
    assert 0 <= derive_seed(*parts) < 2**63


def test_seeds_never_change_between_versions():
    assert derive_seed(0, "attack", 1, 0) == 7439474747332368305


# Errors


@pytest.mark.parametrize(
    ("name", "close"),
    [("trixx", "trix"), ("dfaa", "dafa"), ("TRADES", "trades"), ("MART", ""), ("resnet", ""), ("", "")],
)
def test_suggestions_are_close_or_none(name, close):
    assert suggest(name, ["trix", "dafa", "trades"]) == close
    assert suggest(name, []) == ""


def test_an_unknown_name_says_who_asked_and_what_to_type():
    error = UnknownNameError("method", "trixx", ["trix", "dafa"], asked_by="--methods trixx")
    assert str(error).splitlines() == [
        "no method called 'trixx'.",
        "  asked for by: --methods trixx",
        "  did you mean: trix",
        "  see all:      fairbench list methods",
    ]
    assert "known: dafa, trix" in str(UnknownNameError("method", "zzz", ["trix", "dafa"]))
    assert "known: none" in str(UnknownNameError("method", "zzz", []))


def test_errors_carry_their_hint_and_exit_code():
    assert str(ConfigError("what")) == "what"
    assert str(ConfigError("what", hint="one\n\ntwo")) == "what\n  one\n\n  two"
    assert [kind.exit_code for kind in (FairbenchError, LeaseHeldError, DataMissingError)] == [2, 1, 3]
    assert DivergedError(7).epoch == 7
    assert "epoch 7" in str(DivergedError(7))
