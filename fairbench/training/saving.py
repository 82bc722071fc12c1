"""Checkpoints written beside training, in a thread of their own."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Snapshot = Callable[[], dict[str, Tensor]]
"""Gives tensors on the CPU, with the values of when it was made."""


class Saver:
    """Does one piece of writing at a time while training goes on; at most one more waits to be handed over.

    What goes wrong is raised by the next `write`, or at the end of the `with` block, behind which everything
    that was handed over is written and the thread is gone.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        self._last: Future[None] | None = None

    def write(self, work: Callable[[], None]) -> None:
        """Hand over `work`, after what was handed over before is done. Raises what that raised."""
        self._finish()
        self._last = self._thread.submit(work)

    def _finish(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        try:
            self._finish()
        except Exception:
            if error is None:
                raise
            logger.warning("a checkpoint was not written either", exc_info=True)


def snapshot(tensors: Mapping[str, Tensor]) -> Snapshot:
    """The values of now. They are copied on their device at once, and to the CPU by whoever asks.

    The device is not waited for; to ask from another thread is safe.
    """
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    device = next((copy.device for copy in copies.values() if copy.is_cuda), None)
    if device is None:
        return lambda: copies
    copied = torch.cuda.Event()
    copied.record()

    def on_cpu() -> dict[str, Tensor]:
        with torch.cuda.stream(torch.cuda.Stream(device)):  # not behind what training has asked for since
            copied.synchronize()
            return {name: copy.cpu() for name, copy in copies.items()}

    return on_cpu
