"""All errors that are shown to the user.

Each error has a `message` (what happened, and where) and a `hint` (what was expected, and what to type
next). The command line prints both without a traceback and exits with `exit_code`: 1 some cells failed,
2 usage or configuration, 3 environment, 4 the output cannot be written.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches


class FairbenchError(Exception):
    """Base of all errors with a message for the user."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{indent(self.hint)}" if self.hint else self.message


LISTED = ("method", "dataset", "model", "attack", "protocol", "suite")
"""The kinds of names that `fairbench list` shows."""


class UnknownNameError(FairbenchError):
    """A name that is not among the known ones. `see`: the command that lists them, where there is one."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, asked_by: str = "", see: str = ""
    ) -> None:
        known = sorted(known)
        see = see or (f"fairbench list {kind}s" if kind in LISTED else "")
        lines = [f"asked for by: {asked_by}"] if asked_by else []
        close = suggest(name, known)
        lines += [f"did you mean: {close}"] if close else []
        lines += [] if close and see else [f"known: {', '.join(known) or 'none'}"]
        lines += [f"see all:      {see}"] if see else []
        super().__init__(f"no {kind} called {name!r}.", hint="\n".join(lines))
        self.name = name


class ConfigError(FairbenchError):
    """An invalid registry file, override or option."""


class ContractError(FairbenchError):
    """A method plugin violated the contract of `AdversarialObjective`."""

    exit_code = 1


class PluginError(FairbenchError):
    """A method plugin that cannot be loaded."""


class DataError(FairbenchError):
    """Images or labels that do not match the description of the data set."""


class DataMissingError(DataError):
    """A data set that is not prepared on this machine."""

    exit_code = 3


class EmptyClassError(DataError):
    """A class without any example: its accuracy is undefined."""


class CheckpointError(FairbenchError):
    """A checkpoint that cannot be read or does not fit the model."""


class RecordError(FairbenchError):
    """A record on disk that is damaged or has another schema."""


class SchemaError(RecordError):
    """A record that was written by another version of fairbench and cannot be read; never overwritten."""


class ResultsError(FairbenchError):
    """A results folder that cannot be used."""

    exit_code = 3


class LeaseHeldError(FairbenchError):
    """A run folder that another live process is working on."""

    exit_code = 1


class DivergedError(FairbenchError):
    """Training produced a loss that is not finite."""

    exit_code = 1

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss is not finite in epoch {epoch}.")
        self.epoch = epoch


class EnvironmentFault(FairbenchError):
    """The machine lacks something: a device, an optional package."""

    exit_code = 3


class OutputFault(FairbenchError):
    """Standard output that cannot be written, on a full disk for instance."""

    exit_code = 4


def suggest(name: str, known: Iterable[str]) -> str:
    """The known name closest to `name`, or "" when none is close. Case, hyphens and spaces do not count."""
    plain = {plain_name(each): each for each in known}
    close = get_close_matches(plain_name(name), plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else ""


def plain_name(name: str) -> str:
    """`name` in lower case and without hyphens, underscores, points and spaces."""
    return re.sub(r"[-_.\s]", "", name).casefold()


def indent(text: str) -> str:
    """`text` with each line indented by two spaces."""
    return "\n".join(f"  {line}" if line else line for line in text.splitlines())
