"""The number of classes that the parts of AutoAttack need. Imports no torch, for planning."""

from collections.abc import Sequence

MIN_CLASSES = 4  # the targeted DLR loss uses the four largest logits


def classes_needed(parts: Sequence[str]) -> int:
    """The smallest number of classes for these parts of AutoAttack; no parts: the standard version."""
    return MIN_CLASSES if "apgd-t" in parts or not parts else 2
