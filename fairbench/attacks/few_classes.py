"""How many classes the parts of AutoAttack need. No torch: plans ask before anything is loaded."""

from collections.abc import Sequence

MIN_CLASSES = 4  # the targeted DLR loss uses the four largest logits


def classes_needed(parts: Sequence[str]) -> int:
    """The fewest classes for these parts of AutoAttack; without any, for the standard version."""
    return MIN_CLASSES if "apgd-t" in parts or not parts else 2
