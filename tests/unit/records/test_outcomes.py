"""Outcomes files: what goes in comes out, and a damaged file is refused."""

import io

import numpy as np
import pytest
from outcome_files import write_outcomes

from fairbench.core.errors import DataError, RecordError, ResultsError
from fairbench.core.identity import digest_bytes
from fairbench.records.outcomes import outcome_dtype, read_outcomes

LABEL = np.array([0, 1, 2, 2])
PREDICTION = np.array([0, 2, 2, 1])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clean.npy"


def write(path, **columns):
    return write_outcomes(path, LABEL, PREDICTION, LABEL == PREDICTION, **columns)


def test_what_was_written_is_read(path):
    every_step = np.array([True, False, False, False])
    digest = write(path, correct_every_step=every_step)
    rows = read_outcomes(path, digest)
    assert rows.dtype == outcome_dtype("correct_every_step")
    assert rows["label"].tolist() == LABEL.tolist()
    assert rows["prediction"].tolist() == PREDICTION.tolist()
    assert rows["correct"].tolist() == [True, False, True, False]
    assert rows["correct_every_step"].tolist() == every_step.tolist()


def test_any_numpy_reads_the_file_without_pickle(path):
    write(path)
    assert np.array_equal(np.load(path, allow_pickle=False), read_outcomes(path))


def test_equal_outcomes_give_equal_bytes_and_the_digest_of_the_file(path, tmp_path):
    assert write(path) == write(tmp_path / "again.npy") == digest_bytes(path.read_bytes())


def test_rows_that_were_read_cannot_be_changed(path):
    write(path)
    with pytest.raises(ValueError, match="read-only"):
        read_outcomes(path)["label"][0] = 1


def test_no_example_is_an_empty_file_of_rows(path):
    write_outcomes(path, np.array([], int), np.array([], int), np.array([], bool))
    assert len(read_outcomes(path)) == 0


def test_every_truncation_is_refused(path):
    write(path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(RecordError, match="damaged"):
            read_outcomes(path)


def test_a_longer_file_is_refused(path):
    write(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(RecordError, match="bytes of rows"):
        read_outcomes(path)


def test_one_changed_bit_does_not_pass_the_digest(path):
    digest = write(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecordError, match="digest"):
        read_outcomes(path, digest)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(3),
        np.zeros((2, 2), outcome_dtype()),
        np.zeros(2, [("label", "<u2"), ("prediction", "<u2")]),
        np.zeros(2, [("label", "<i8"), ("prediction", "<u2"), ("correct", "?")]),
        np.zeros(2, [("label", "<u2"), ("prediction", "<u2"), ("correct", "?"), ("loss", "<f4")]),
    ],
)
def test_another_layout_is_refused(path, array):
    np.save(path, array)
    with pytest.raises(RecordError, match="columns"):
        read_outcomes(path)


def test_a_pickle_is_refused_and_never_opened(path):
    np.save(path, np.array([{"run": "me"}], dtype=object), allow_pickle=True)
    with pytest.raises(RecordError):
        read_outcomes(path)


def test_another_format_version_is_refused(path):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.zeros(1, outcome_dtype()), version=(2, 0))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(RecordError):
        read_outcomes(path)


def test_a_missing_file_is_said(path):
    with pytest.raises(RecordError, match="cannot read"):
        read_outcomes(path)


def test_a_folder_that_is_missing_is_said(tmp_path):
    with pytest.raises(ResultsError):
        write(tmp_path / "absent" / "clean.npy")


@pytest.mark.parametrize(
    ("label", "prediction", "correct"),
    [
        ([-1, 0], [0, 0], [True, True]),
        ([65536, 0], [0, 0], [True, True]),
        ([0.0, 1.0], [0, 0], [True, True]),
        ([0, 1], [0], [True, True]),
        ([0, 1], [0, 1], [1, 0]),
        ([[0, 1]], [[0, 1]], [[True, True]]),
    ],
)
def test_columns_that_do_not_fit_are_refused_and_nothing_is_written(path, label, prediction, correct):
    with pytest.raises(DataError):
        write_outcomes(path, label, prediction, correct)
    assert not path.exists()
