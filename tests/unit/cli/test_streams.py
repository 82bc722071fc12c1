"""Streams that fail at any moment: what is dropped, and what is raised."""

import errno
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.cli.streams import Dropping, Results
from fairbench.core.errors import OutputFault


class Failing(io.StringIO):
    """Takes `room` characters, then raises an error of this number."""

    def __init__(self, room, number):
        super().__init__()
        self.room, self.number = room, number

    def write(self, text):
        if len(self.getvalue()) + len(text) > self.room:
            raise OSError(self.number, "cannot write")
        return super().write(text)


texts = st.lists(st.text(max_size=5))
numbers = st.sampled_from([errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG])


@given(texts, st.integers(0, 20), numbers)
def test_what_cannot_be_written_is_dropped(parts, room, number):
    stream = Dropping(Failing(room, number))
    assert [stream.write(part) for part in parts] == [len(part) for part in parts]
    stream.flush()
    assert len(stream.getvalue()) <= room


@given(texts, st.integers(0, 20), numbers)
def test_results_that_cannot_be_written_are_raised(parts, room, number):
    stream = Results(Failing(room, number))
    try:
        for part in parts:
            stream.write(part)
    except BrokenPipeError:
        assert number == errno.EPIPE
    except OutputFault:
        assert number != errno.EPIPE
    else:
        assert stream.getvalue() == "".join(parts)


def test_a_stream_keeps_its_other_attributes():
    assert Dropping(io.StringIO()).isatty() is False
    with pytest.raises(AttributeError):
        Results(io.StringIO()).no_such_thing  # noqa: B018
