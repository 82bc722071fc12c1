"""Wait for a held lease; stop when the parent closes standard input."""

import os
import signal
import threading
import time
from collections.abc import Callable

from fairbench.core.errors import LeaseHeldError
from fairbench.core.lease import LeaseWatch
from fairbench.core.stopping import REQUEUE
from fairbench.records.run_folder import RunFolder
from fairbench.records.status import Status

PAUSE = 1.0  # seconds between two looks at a lease
GRACE = 60.0  # seconds to save the state once the parent is gone
STANDARD_INPUT = 0


def with_patience(run: RunFolder, wait: bool, work: Callable[[], Status]) -> Status:
    """What `work` gives; with `wait` tried again while other processes hold `run`, or the run it starts from.

    Raises LeaseHeldError at once without `wait`.
    """
    watch = LeaseWatch()
    while True:
        try:
            return work()
        except LeaseHeldError:
            if not wait:
                raise
            watch.remove_dead(run.lease_file)
            time.sleep(PAUSE)


def stop_at_eof() -> None:
    """Stop this process, as SIGTERM does, once its standard input ends."""

    def watch() -> None:
        while os.read(STANDARD_INPUT, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(REQUEUE)

    threading.Thread(target=watch, name="until-eof", daemon=True).start()
