"""Seeds as they are written: 3, "0..4", [0, 1, "5..7"]."""

import re
from typing import Any

MAX_SEED = 2**31 - 1
MOST = 1000  # seeds in one range

_PART = re.compile(r"\s*(\d{1,10})\s*(?:\.\.\s*(\d{1,10})\s*)?")


def read_seeds(written: Any) -> tuple[int, ...]:
    """The seeds of a number, a text or a list of both, each once; a range includes both ends.

    Raises ValueError with what is wrong in a sentence without its full stop.
    """
    parts = written if isinstance(written, list | tuple) else [written]
    texts = [text for part in parts for text in str(part).split(",")]
    seeds: list[int] = []
    for text in texts:
        match = _PART.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a seed (a whole number of at least 0) or a range")
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first or last > MAX_SEED or last - first >= MOST:
            raise ValueError(
                f"{text!r} is not a range of at most {MOST} seeds in 0..{MAX_SEED}, smaller end first"
            )
        seeds += range(first, last + 1)
    return tuple(dict.fromkeys(seeds))
