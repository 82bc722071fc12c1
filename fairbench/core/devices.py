"""The names of devices: auto, cpu, cuda, cuda:N. No torch."""

import re
from typing import Literal, NamedTuple, cast

from fairbench.core.errors import ConfigError, EnvironmentFault

NAMES = ("auto", "cpu", "cuda")
MPS = re.compile(r"mps(:\d+)?")
GPU = re.compile(r"cuda:(\d{1,4})", re.ASCII)


class DeviceName(NamedTuple):
    """The kind of a device, and its number; None for any GPU."""

    kind: Literal["auto", "cpu", "cuda"]
    number: int | None = None


def parse_device(text: str) -> DeviceName:
    """The device called `text`. Raises EnvironmentFault for MPS, ConfigError for another unknown name."""
    name = text.strip().lower()
    if name in NAMES:
        return DeviceName(cast(Literal["auto", "cpu", "cuda"], name))
    gpu = GPU.fullmatch(name)
    if gpu is not None:
        return DeviceName("cuda", int(gpu[1]))
    if MPS.fullmatch(name):
        raise EnvironmentFault(
            f"--device {text}: fairbench does not compute on MPS, which has no float64; attacks are checked "
            "and statistics are summed in float64.",
            hint="use --device cpu",
        )
    known = ", ".join(repr(name) for name in NAMES)
    raise ConfigError(f"--device {text}: no such device.", hint=f"one of: {known}, or 'cuda:N' for GPU N")
