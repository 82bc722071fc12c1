"""Names that an option chooses: names, `all`, patterns, tags and exclusions."""

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import ConfigError, FairbenchError, UnknownNameError
from fairbench.planning.selection import parse_attacks, parse_names, parse_selection
from fairbench.registry import load_registry
from fairbench.registry.names import names_of

REGISTRY = load_registry([])
KINDS = ("method", "dataset", "model", "attack")
PATTERNS = ("*", "t*", "*-*", "[a-d]*", "?????")


def tags(kind: str) -> list[str]:
    return sorted({tag for name in REGISTRY.names(kind) for tag in REGISTRY.tags(kind, name)})


@st.composite
def selections(draw):
    """A kind and terms of it as they are typed."""
    kind = draw(st.sampled_from(KINDS))
    term = st.one_of(
        st.sampled_from(REGISTRY.names(kind)),
        st.just("all"),
        st.sampled_from(PATTERNS),
        st.sampled_from(tags(kind)).map("tag:{}".format),
    )
    terms = draw(
        st.lists(st.tuples(st.sampled_from(("", "", "-")), term).map("".join), min_size=1, max_size=5)
    )
    return kind, terms


def meant(kind: str, term: str) -> set[str]:
    """The names of one term, by another way."""
    body = term.removeprefix("-")
    if body.startswith("tag:"):
        return {name for name in REGISTRY.names(kind) if body[4:] in REGISTRY.tags(kind, name)}
    pattern = "*" if body == "all" else body
    return {name for name in REGISTRY.names(kind) if fnmatchcase(name, pattern)}


@settings(deadline=None)
@given(selections(), st.randoms())
def test_terms_choose_a_set_in_whichever_order_they_are(selection, random):
    kind, terms = selection
    taken = {name for term in terms if term.startswith("-") for name in meant(kind, term)}
    given_terms = [term for term in terms if not term.startswith("-")] or ["all"]
    expected = {name for term in given_terms for name in meant(kind, term)} - taken
    shuffled = random.sample(terms, len(terms))
    for each in (terms, shuffled, [*terms, *terms]):
        text = ",".join(each)
        if not expected or any(not meant(kind, term) for term in each):
            with pytest.raises(ConfigError, match=r"nothing is left|matches"):
                parse_names(kind, text, REGISTRY, option=f"--{kind}s")
            continue
        names = parse_names(kind, text, REGISTRY, option=f"--{kind}s")
        assert set(names) == expected
        assert len(set(names)) == len(names)


@settings(deadline=None)
@given(selections())
def test_names_are_in_the_order_of_the_terms_and_then_of_the_registry(selection):
    kind, terms = selection
    try:
        names = parse_names(kind, ",".join(terms), REGISTRY, option=f"--{kind}s")
    except ConfigError:
        return
    included = [term for term in terms if not term.startswith("-")] or ["all"]
    order = REGISTRY.names(kind)
    first = {name: next(i for i, term in enumerate(included) if name in meant(kind, term)) for name in names}
    assert list(names) == sorted(names, key=lambda name: (first[name], order.index(name)))


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.text(alphabet="abcdt-*?[]:, @!rix", max_size=20))
def test_any_text_is_a_choice_or_an_error_that_names_the_option(kind, text):
    error: Any = None
    try:
        names = names_of(REGISTRY, kind).choose(text, f"--{kind}s")
    except FairbenchError as raised:
        error = raised
    assert f"--{kind}s" in str(error) if error else names


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("method", "trix,-trix", ("--methods trix,-trix: nothing is left", "fairbench list methods")),
        ("method", "trx-*", ("no method matches 'trx-*'", "trix")),
        ("method", "tag:reweigting", ("no method has the tag 'reweigting'", "did you mean: tag:reweighting")),
        ("attack", "tag:pgdd", ("did you mean: tag:pgd", "targeted")),
        ("attack", "a3@first", ("no checkpoints called 'first'", "a3@last")),
        ("attack", "all,-a3@last", ("takes a3 away at all checkpoints", "write -a3")),
        ("model", "", ("--models is empty", "fairbench list models")),
    ],
)
def test_an_error_says_what_to_type(kind, text, words):
    with pytest.raises(ConfigError) as caught:
        parse_names(kind, text, REGISTRY, option=f"--{kind}s")
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("kind", "typed", "close"),
    [
        ("method", "TRIX", "trix"),
        ("method", "trix_basic", "trix-basic"),
        ("dataset", "CIFAR-10", "cifar10"),
        ("dataset", "TinyImageNet", "tiny-imagenet"),
        ("model", "ResNet-18", "resnet18"),
        ("attack", "PGD20", "pgd-20"),
    ],
)
def test_a_name_as_papers_write_it_is_recognised(kind, typed, close):
    with pytest.raises(UnknownNameError) as caught:
        parse_names(kind, typed, REGISTRY, option=f"--{kind}s")
    assert f"did you mean: {close}" in caught.value.hint.splitlines()


def test_a_written_name_keeps_its_checkpoints_whatever_a_pattern_says():
    for text in ("a3@last,tag:*", "tag:*,a3@last", "all,pgd-20,a3@last"):
        attacks = {item.attack: item.at for item in parse_attacks(text, REGISTRY, option="--attacks")}
        assert attacks["a3"] == "last"
        assert set(attacks) == set(REGISTRY.names("attack"))
        assert {at for name, at in attacks.items() if name != "a3"} == {"selected"}
    pgd = parse_attacks("pgd-*@last", REGISTRY, option="--attacks")
    assert len(pgd) > 5
    assert {item.at for item in pgd} == {"last"}


def test_exclusions_alone_take_away_from_what_would_run():
    assert parse_selection(REGISTRY, methods="-dafa").methods == ("trades", "trix")
    table1 = REGISTRY.get("suite", "table1")
    chosen = parse_selection(
        REGISTRY, suite="table1", methods="-frl,-b*", datasets="-stl10", attacks="-pgd-20"
    )
    assert chosen.methods == tuple(name for name in table1.methods if name not in ("frl", "bat"))
    assert chosen.datasets == ("cifar10", "cifar100")
    assert [item.attack for item in chosen.attacks] == ["autoattack"]
    assert not chosen.by_pattern  # the suite names them


@pytest.mark.parametrize(
    ("option", "text"),
    [("methods", "-frl"), ("datasets", "-cifar10"), ("models", "-cnn-small"), ("attacks", "-a3")],
)
def test_exclusions_of_what_would_not_run_say_how_to_take_away_from_all(option, text):
    with pytest.raises(ConfigError) as caught:
        parse_selection(REGISTRY, **{option: text})
    assert f"--{option} all,{text}" in caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_has_a_tag_and_tags_change_no_setting(kind):
    assert all(REGISTRY.tags(kind, name) for name in REGISTRY.names(kind))


def test_tags_say_what_a_method_does():
    for tag, some in {
        "reweighting": {"frl", "dafa", "wat", "cfol-reweight"},
        "sampling": {"cfol"},
        "margin": {"frl", "cfa", "dafa"},
        "distillation": {"rslad"},
        "targeted": {"trix", "fairtat", "targeted-trades"},
        "augmentation": {"trix-cutout", "dafa-mixup"},
        "averaging": {"cfa", "fairtat"},
        "awp": {"faal-awp"},
        "fine-tuning": {"frl", "faal"},
    }.items():
        assert some <= set(parse_names("method", f"tag:{tag}", REGISTRY, option="--methods"))
