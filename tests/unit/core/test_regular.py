"""Only regular files of a limited size are read, whatever lies in their place."""

import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import RecordError
from fairbench.core.files import MAX_DEPTH, parse_json, read_json
from fairbench.core.regular import append_regular, odd_files, read_end, read_regular


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may have 100 characters
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


ODD = {
    "a symbolic link": lambda path: path.symlink_to("/etc/passwd"),
    "a symbolic link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": make_socket,
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "x.json"
    ODD[kind](path)
    for read in (read_regular, read_end, lambda path: append_regular(path, b"x")):
        with pytest.raises(OSError):  # noqa: PT011 (many kinds)
            read(path)
    with pytest.raises(RecordError, match=r"cannot read .*x\.json"):
        read_json(path)
    expected = [] if kind == "a folder" else [(path, kind.removesuffix(" to a device"))]
    assert list(odd_files(tmp_path)) == expected


def test_a_device_is_no_file_even_through_an_allowed_link():
    with pytest.raises(OSError, match="it is a device"):
        read_regular("/dev/zero", links=True)


def test_a_file_over_the_limit_is_not_read_and_its_end_can_be(tmp_path):
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(10**13)
    with pytest.raises(OSError, match="it has 10000000000000 bytes"):
        read_regular(path)
    assert read_end(path, 5) == (bytes(5), False)
    (tmp_path / "y").write_bytes(b"123")
    assert read_end(tmp_path / "y", 3) == (b"123", True)


JSON = st.recursive(
    st.none() | st.integers() | st.text('[]{}"\\ax'),
    lambda part: st.lists(part) | st.dictionaries(st.text('[]{}"\\a'), part),
)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(JSON, st.integers(0, 2 * MAX_DEPTH), st.booleans())
def test_json_is_read_when_it_is_not_nested_too_deep(value, levels, mappings):
    for _ in range(levels):
        value = {'[{"': value} if mappings else [value, "]"]
    text = json.dumps(value).encode()

    def depth(value: object) -> int:
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if items is None else 1 + max(map(depth, items), default=0)

    if depth(value) <= MAX_DEPTH - 1:
        assert parse_json(text) == value
    elif depth(value) > MAX_DEPTH:
        with pytest.raises(ValueError, match="nested more than 40 deep"):
            parse_json(text)


@pytest.mark.parametrize("levels", [41, 900, 3000, 10**6])
@pytest.mark.parametrize("text", ['{"a":', "[", '["]",'])
def test_a_value_nested_a_million_deep_is_damaged_json(tmp_path, text, levels):
    close = {"{": "}", "[": "]"}[text[0]]
    (tmp_path / "x.json").write_text(text * levels + "0" + close * levels)
    with pytest.raises(RecordError, match="nested more than 40 deep"):
        read_json(tmp_path / "x.json")
