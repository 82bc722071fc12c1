"""Errors about settings name the words that the user typed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from fairbench.core.errors import FairbenchError

RESOLVED = ("asked for by: methods.", "set with: --set")
"""Lines of hints that only repeat the resolved name of a setting, or how settings are written."""


@contextmanager
def blamed(typed: Mapping[str, str]) -> Iterator[None]:
    """Add to an error about a setting the words that the user typed for it; `typed`: these words by path.

    Settings are resolved, scaled and checked under other names and in other places than they are typed.
    """
    try:
        yield
    except FairbenchError as error:
        text = str(error)
        words = [each for path, each in typed.items() if _is_about(text, path)]
        if words and not any(each in text for each in words):
            lines = [line for line in error.hint.splitlines() if not line.startswith(RESOLVED)]
            error.hint = "\n".join((f"asked for by: {' '.join(words)}", *lines))
        raise


def _is_about(text: str, path: str) -> bool:
    """Whether an error is about the setting at a path such as methods.trix.strength or protocol.epochs."""
    if re.search(rf"{re.escape(path)}\b", text):
        return True
    section, _, rest = path.partition(".")
    name, _, option = rest.partition(".")
    if section == "protocol":  # an option inside of another one
        return re.search(rf"\bprotocol\.{re.escape(name)}\b", text) is not None
    component, _, last = option.rpartition(".")
    if component and re.search(rf"\bmethods\.{re.escape(name)}\.{re.escape(component)}\b", text):
        return True
    about_method = re.search(rf"'{re.escape(name)}'|\bmethods\.{re.escape(name)}\b", text)
    return bool(about_method and re.search(rf"\b{re.escape(last)}\b", text))


def typed_settings(overrides: Sequence[str], **schedule: object) -> dict[str, str]:
    """The words of `--set` and of --epochs and --batch-size, by the path of the setting."""
    words = {item.partition("=")[0].strip(): f"--set {item}" for item in overrides}
    options = {f"protocol.{name}": (name, value) for name, value in schedule.items() if value is not None}
    return words | {path: f"--{name.replace('_', '-')} {value}" for path, (name, value) in options.items()}
