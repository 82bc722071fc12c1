"""The toy network and images of tests/contract/toys.py."""

from toys import one_thread  # noqa: F401 (a fixture)
