import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.core.errors import ConfigError
from fairbench.registry.faults import Fault, fault_error
from fairbench.registry.source import MAX_DEPTH, parse_source, read_scalar, read_source


def messages(text):
    return [str(fault) for fault in parse_source(text, "r.yaml").faults]


def test_every_key_and_item_knows_its_line():
    source = parse_source("a:\n  b: 1\n  c:\n    - x\n    - y\n", "r.yaml")
    assert source.data == {"a": {"b": 1, "c": ["x", "y"]}}
    assert source.lines[("a", "b")] == 2
    assert source.lines[("a", "c", 1)] == 5
    assert source.line(("a", "c", 1, "deeper")) == 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("-3", -3),
        ("012", 12),
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("~", None),
        ("8/255", "8/255"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("190:20:30", "190:20:30"),
    ],
)
def test_scalars_mean_what_they_look_like(text, value):
    read = parse_source(f"key: {text}\n", "r.yaml").data["key"]
    assert read == value
    assert type(read) is type(value)
    assert read_scalar(text) == value


def test_quotes_keep_text():
    assert parse_source("a: '5'\nb: \"true\"\nc: |\n  7\n", "r.yaml").data == {
        "a": "5",
        "b": "true",
        "c": "7\n",
    }


def test_whole_number_keys_are_kept():
    assert parse_source("{140: 0.1}", "r.yaml").data == {140: 0.1}


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: 1\na: 2\n", 2, "duplicate key 'a', first given in line 1"),
        ("x:\n  a: !!python/object:os.system ls\n", 2, "tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("a: !foo 1\n", 1, "tag '!foo'"),
        ("a: ! 1\n", 1, "tag '!'"),
        ("a: &x [1]\nb: *x\n", 1, "anchor '&x'"),
        ("a: &x [1]\nb: *x\n", 2, "alias '*x'"),
        ("1.5: a\n", 1, "a key must be text or a whole number"),
        ("true: a\n", 1, "a key must be text or a whole number"),
        ("? [a]\n: b\n", 1, "a key must be text or a whole number"),
        ("a: 1\n---\nb: 2\n", 2, "a second YAML document"),
        ("a: [1\nb: 2\n", 2, "not valid YAML"),
        ("a: \x00\n", 1, "not valid YAML"),
        ("a: *nowhere\n", 1, "alias '*nowhere'"),
        ("[" * (MAX_DEPTH + 2), 1, "nested deeper"),
    ],
)
def test_what_is_not_plain_data_is_a_fault_with_its_line(text, line, part):
    assert any(f"r.yaml:{line}" in message and part in message for message in messages(text))


def test_all_faults_of_a_file_are_collected():
    assert len(messages("a: !x 1\na: 2\nb: &y 3\n")) == 3


def test_a_billion_laughs_is_not_expanded():
    lines = ["a0: &a0 [lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    assert len(messages("\n".join(lines))) == 30 + 29 * 9


def test_the_duplicate_does_not_replace_the_first():
    assert parse_source("a: 1\na: 2\n", "r.yaml").data == {"a": 1}


def test_an_empty_file_is_none():
    assert parse_source("# nothing\n", "r.yaml").data is None


def test_unreadable_and_undecodable_files_are_config_errors(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_source(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_source(tmp_path / "latin.yaml")


def test_a_fault_reads_as_in_the_house_style():
    source = parse_source("methods:\n  dafa:\n    stength: 1\n", "registry.yaml")
    fault = source.fault(("methods", "dafa", "stength"), "unknown key 'stength'")
    assert str(fault_error([fault])) == "registry.yaml:3  methods.dafa.stength\n  unknown key 'stength'"


@given(st.text())
def test_any_text_ends_in_data_or_faults(text):
    parse_source(text, "r.yaml")


@given(st.floats(allow_nan=False))
def test_numbers_survive(value):
    read = parse_source(f"x: {value!r}" if math.isfinite(value) else "x: .inf", "r.yaml").data["x"]
    assert read == value or not math.isfinite(value)


def test_twenty_thousand_faults_are_a_screen(tmp_path):
    faults = [Fault("mine.yaml", line, (), "unknown key") for line in range(20_000)]
    text = str(fault_error(faults))
    assert text.count("unknown key") == 20
    assert text.endswith("and 19980 more faults")


def test_a_registry_file_of_many_megabytes_is_refused_at_once(tmp_path):
    (tmp_path / "mine.yaml").write_text("version: 1\n" + "#" * (9 << 20))
    with pytest.raises(ConfigError, match="more than the 8388608 that are read"):
        read_source(tmp_path / "mine.yaml")
