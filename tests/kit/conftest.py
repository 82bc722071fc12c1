"""The kit's tests compute on one thread."""

from toys import one_thread  # noqa: F401 (a fixture)
