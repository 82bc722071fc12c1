"""Signs of masked gradients in the numbers of an evaluation.

Masked gradients mislead attacks that follow the gradient, so a network looks more robust than it is.

Source     The warning of AutoAttack (Croce and Hein, ICML 2020, arXiv 2003.01690). A gap between PGD and
           AutoAttack is how the masked gradients of GAIRAT (Zhang et al., ICLR 2021, arXiv 2010.01736) were
           detected.
"""

from dataclasses import dataclass

BLACK_BOX_MARGIN = 0.002  # 0.2 percentage points, the threshold of AutoAttack's warning
GAP = 0.05  # between PGD and the strongest attack; 2 to 4 percentage points are usual on CIFAR-10
_ROUNDING = 1e-9  # in floating point, 0.502 - 0.5 is a little more than 0.002


@dataclass(frozen=True)
class Finding:
    """A warning about an evaluation: `name` identifies it for programs, `text` explains it to the reader."""

    name: str
    text: str


def black_box_wins(best_white_box: float, after_square: float) -> Finding | None:
    """Finding when Square, which uses no gradients, lowers robust accuracy by more than 0.2 points.

    best_white_box: robust accuracy in [0, 1] after all attacks that use gradients; after_square: the same
    after Square on the images that are left. None when the difference is smaller.
    """
    lost = best_white_box - after_square
    if lost <= BLACK_BOX_MARGIN + _ROUNDING:
        return None
    return Finding(
        "black-box-wins",
        f"Square, which uses no gradients, lowers the {100 * best_white_box:.2f} % of the white-box attacks "
        f"by {100 * lost:.2f} points: gradients may be masked",
    )


def masking_gap(pgd: float, strongest: float, threshold: float = GAP) -> Finding | None:
    """Finding when robust accuracy under PGD is more than `threshold` above that under the strongest attack.

    All in [0, 1]; of one class or of all, on the same images and with the same radius. None when the
    difference is smaller.
    """
    gap = pgd - strongest
    if gap <= threshold + _ROUNDING:
        return None
    return Finding(
        "masking-gap",
        f"robust accuracy is {100 * pgd:.2f} % under PGD and {100 * strongest:.2f} % under the strongest "
        f"attack, a gap of {100 * gap:.2f} points: gradients may be masked",
    )
