"""Stop cleanly on Ctrl-C, SIGTERM, SIGHUP (a closed terminal) or SIGUSR1 (early warning of a scheduler).

Outside of `defer_signals` the first signal stops the process at once. Inside, it only sets a flag; training
saves its state and then calls `raise_if_requested`. A second signal always stops the process at once.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

REQUEUE = 75
"""Exit code of a process stopped by a signal other than SIGINT: started again, it continues (EX_TEMPFAIL)."""

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")  # the last two do not exist on Windows


_NOTICE = b"\nstopping after this step and after saving the state; a second signal stops at once\n"


class Stopped(KeyboardInterrupt):
    """A signal stopped the process. Not an Exception: `except Exception` in a plugin does not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 130 if number == signal.SIGINT else REQUEUE


_num_deferring = 0  # `defer_signals` blocks that are active
_requested: int | None = None  # number of the signal that was deferred


def install_handlers() -> None:
    """Install the signal handlers of this module. Main thread only (a rule of Python).

    A SIGHUP that is ignored stays ignored, as `nohup` asks for it.
    """
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        ignored = name == "SIGHUP" and number is not None and signal.getsignal(number) == signal.SIG_IGN
        if number is not None and not ignored:
            signal.signal(number, _handle)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Inside the block a first signal only sets a flag; the end of the block raises Stopped if it is set."""
    global _num_deferring
    _num_deferring += 1
    try:
        yield
    finally:
        _num_deferring -= 1
    raise_if_requested()


def stop_requested() -> bool:
    """Whether a deferred signal waits to be raised."""
    return _requested is not None


def raise_if_requested() -> None:
    """Raise Stopped when a deferred signal waits."""
    if _requested is not None:
        _raise(_requested)


def _handle(number: int, frame: FrameType | None) -> None:
    global _requested
    if _num_deferring and _requested is None:
        _requested = number
        with suppress(OSError):  # standard error may be closed
            os.write(2, _NOTICE)
    else:
        _raise(number)


def _raise(number: int) -> NoReturn:
    global _requested
    _requested = None
    raise Stopped(number)
