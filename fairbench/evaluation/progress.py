"""How far an evaluation is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One attack at one checkpoint.

    stage     the part at work, "" for an attack of one part
    done      share of the stage's work that is done, in [0, 1]
    standing  share of all test images that no part has broken so far, None while unknown
    left      seconds that the rest of the attack takes if nothing more falls, None while unknown
    """

    stage: str
    done: float
    standing: float | None = None
    left: float | None = None
