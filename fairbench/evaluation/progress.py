"""Progress of an evaluation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Progress of one attack on one checkpoint.

    stage   the part that is running, "" for an attack with one part
    done    share of the stage's work that is done, in [0, 1]
    robust  share of all test images that no part has broken so far, None if unknown
    left    seconds for the rest of the attack if no more images are broken, None if unknown
    """

    stage: str
    done: float
    robust: float | None = None
    left: float | None = None
