"""Signs of masked gradients in an evaluation's numbers: a weaker attack that looks like robustness.

Source     The flag of AutoAttack (Croce and Hein, ICML 2020, arXiv 2003.01690). The gap between PGD and
           AutoAttack is what gave GAIRAT (Zhang et al., ICLR 2021, arXiv 2010.01736) away.
"""

from dataclasses import dataclass

BLACK_BOX_MARGIN = 0.002  # 0.2 points, the threshold of AutoAttack's own flag
GAP = 0.05  # between PGD and the strongest attack; 2 to 4 points are usual on CIFAR-10
_ROUNDING = 1e-9  # 0.502 - 0.5 is a little more than 0.002


@dataclass(frozen=True)
class Finding:
    """Something that a reader of the numbers must know; `name` is for programs, `text` for people."""

    name: str
    text: str


def black_box_wins(best_white_box: float, after_square: float) -> Finding | None:
    """A finding when Square, which sees no gradients, takes over 0.2 points off the best white-box result.

    Robust accuracies in [0, 1]: the lowest after any attack by gradients, and after Square on top of them.
    """
    lost = best_white_box - after_square
    if lost <= BLACK_BOX_MARGIN + _ROUNDING:
        return None
    return Finding(
        "black-box-wins",
        f"Square, without gradients, takes {100 * lost:.2f} points off the white-box attacks' "
        f"{100 * best_white_box:.2f} %: gradients may be masked",
    )


def masking_gap(pgd: float, strongest: float, threshold: float = GAP) -> Finding | None:
    """A finding when robust accuracy under PGD is over `threshold` above that under the strongest attack.

    All in [0, 1]; of one class or of all, on the same images and with the same radius.
    """
    gap = pgd - strongest
    if gap <= threshold + _ROUNDING:
        return None
    return Finding(
        "masking-gap",
        f"PGD reads {100 * pgd:.2f} %, the strongest attack {100 * strongest:.2f} %: "
        f"a gap of {100 * gap:.2f} points, so gradients may be masked",
    )
