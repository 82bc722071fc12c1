"""Stop in good order when somebody asks: Ctrl-C, SIGTERM, or SIGUSR1, a scheduler's early warning.

Outside of `held` the process stops at once; inside, the work notes the wish, brings its state to disk and
then raises it. A second signal always stops at once.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

REQUEUE = 75
"""Exit code of a process that was asked to stop: start it again and it continues (EX_TEMPFAIL)."""

_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")  # the last is not on every system


class Stopped(KeyboardInterrupt):
    """Somebody asked the process to stop. No error: a plugin that catches all errors lets it pass."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 130 if number == signal.SIGINT else REQUEUE


_holders = 0
_asked: int | None = None


def listen() -> None:
    """From now on, signals of this process stop it in good order. Only the main thread may ask for this."""
    for name in _SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _handle)


@contextmanager
def held() -> Iterator[None]:
    """Inside, a first signal is only noted; `raise_if_asked` raises it."""
    global _holders
    _holders += 1
    try:
        yield
    finally:
        _holders -= 1
    raise_if_asked()


def asked() -> bool:
    """Whether the process was asked to stop and has not done so yet."""
    return _asked is not None


def raise_if_asked() -> None:
    """Raise Stopped when the process was asked to stop."""
    if _asked is not None:
        _raise(_asked)


def _handle(number: int, frame: FrameType | None) -> None:
    global _asked
    if _holders and _asked is None:
        _asked = number
        os.write(2, b"\nstopping: the step at work and its state come first; once more stops at once\n")
    else:
        _raise(number)


def _raise(number: int) -> NoReturn:
    global _asked
    _asked = None
    raise Stopped(number)
