"""Files are whole or absent, and a folder that cannot be used says so."""

import json
import math

import pytest

from fairbench.core.errors import RecordError, ResultsError
from fairbench.core.files import make_folder, read_json, write_atomic, write_json


@pytest.fixture
def blocked(tmp_path):
    """A path below a regular file: nobody, not even root, can write there."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "below"


def test_written_content_is_there_and_nothing_else(tmp_path):
    write_atomic(tmp_path / "a", lambda file: file.write(b"one"))
    write_atomic(tmp_path / "a", lambda file: file.write(b"two"))
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"two")]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_a_failure_half_way_leaves_the_old_file(tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomic(tmp_path / "a", fail)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


def test_a_full_disk_leaves_the_old_file_and_is_an_error_with_advice(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    def full(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(ResultsError, match="No space left on device") as error:
        write_atomic(tmp_path / "a", full)
    assert "--results DIR" in error.value.hint
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_folder_that_cannot_be_written_is_an_error(blocked):
    with pytest.raises(ResultsError, match="cannot write"):
        write_atomic(blocked, lambda file: file.write(b""))
    with pytest.raises(ResultsError, match="cannot create the folder"):
        make_folder(blocked)
    with pytest.raises(ResultsError, match="cannot create the folder"):
        make_folder(blocked.parent)


def test_a_missing_folder_is_an_error_and_a_made_one_is_not(tmp_path):
    folder = tmp_path / "a" / "b"
    with pytest.raises(ResultsError):
        write_json(folder / "x.json", {})
    assert make_folder(folder) == make_folder(folder) == folder
    write_json(folder / "x.json", {})


def test_json_comes_back_as_it_was(tmp_path):
    value = {"a": [1, 2.5, None, True], "b": {"é": "ü"}, "tiny": 5e-324}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_refuses_what_is_not_a_number_and_keeps_the_old_file(tmp_path, value):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": value})
    assert read_json(tmp_path / "x.json") == {"a": 1}


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe"])
def test_damaged_json_is_an_error_with_its_path(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"x\.json is not valid JSON"):
        read_json(tmp_path / "x.json")


def test_missing_json_is_an_error_with_its_path(tmp_path):
    with pytest.raises(RecordError, match=r"cannot read .*x\.json"):
        read_json(tmp_path / "x.json")


def test_every_prefix_of_a_record_is_damaged(tmp_path):
    text = json.dumps({"a": [1, 2], "b": "c"})
    for length in range(len(text)):
        (tmp_path / "x.json").write_text(text[:length])
        with pytest.raises(RecordError):
            read_json(tmp_path / "x.json")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_not_json(tmp_path, constant):
    (tmp_path / "cell.json").write_text(f'{{"eps": {constant}}}')
    with pytest.raises(RecordError, match=f"{constant} is not JSON"):
        read_json(tmp_path / "cell.json")
