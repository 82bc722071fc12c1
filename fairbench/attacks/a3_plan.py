"""What A3 does in which round: how long, on how many images, in which direction.

Constants of the authors' program (liuye6666/adaptive_auto_attack@c3650cd). It names two sets of rounds,
one for most models and one for those that already fall while an image climbs its direction.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Round:
    """One restart climbs a direction for `start_steps`, then the margin for `steps` more.

    share     of the images still robust, those with the best margins so far, that are attacked, in (0, 1]
    restarts  how often, each on a new choice of images
    """

    start_steps: int
    steps: int
    share: float = 1.0
    restarts: int = 1


OPENING = (Round(0, 8), Round(7, 15), Round(7, 15))

# Steps are those that run: the program adds the start steps to a round's nominal 25 to 60 (or 5 to 45).
BY_MARGIN = (
    Round(7, 32, 0.7),
    Round(7, 37, 0.6),
    Round(7, 37, 0.5),
    Round(7, 42, 0.4),
    Round(7, 47, 0.3),
    Round(7, 52, 0.2),
    Round(7, 57, 0.1),
    Round(7, 57, 0.1, restarts=4),
    Round(7, 62, 0.065, restarts=4),
    Round(7, 67, 0.03, restarts=50),
)
BY_DIRECTION = (
    Round(10, 15, restarts=10),
    Round(15, 20),
    Round(15, 25),
    Round(10, 20),
    Round(10, 25),
    Round(10, 28),
    Round(10, 30),
    Round(10, 35, 0.8, restarts=5),
    Round(10, 45, 0.5, restarts=5),
    Round(10, 55, 0.5, restarts=20),
)
NUM_ROUNDS = len(OPENING) + len(BY_MARGIN)

FALL_BY_DIRECTION = 0.05  # of the images robust after the first round, fallen in start steps: BY_DIRECTION
FEW = 0.1  # with a smaller share of all images robust, a round attacks all of them, FEW_RESTARTS more times
FEW_RESTARTS = 10

MIN_IMAGES = 100  # attacked in a restart, where so many are robust
MIN_IMAGES_FROM = 1000  # images in all; a tenth or more of a smaller set is no "hardest few"

MANY_CLASSES = 100  # from here, the program's CIFAR-100 branch


@dataclass
class Learnt:
    """What the images that fell have taught so far; counts of images, and sums over them.

    robust       after round 0
    in_start     fell in the start steps of later rounds
    own_pull     weight of the true class in the direction they climbed, those of round 1
    reached_pull the same of the class that they reached
    """

    robust: int = 0
    in_start: int = 0
    own_pull: float = 0.0
    reached_pull: float = 0.0

    def by_direction(self, number: int) -> bool:
        """Whether round `number` is one for models that fall while an image climbs its direction."""
        return number >= len(OPENING) and self.in_start >= FALL_BY_DIRECTION * self.robust


def plan_round(number: int, learnt: Learnt, *, few: bool) -> Round:
    """Round 0..12; `few` images are robust."""
    rounds = OPENING + (BY_DIRECTION if learnt.by_direction(number) else BY_MARGIN)
    plan = rounds[number]
    return replace(plan, share=1.0, restarts=plan.restarts + FEW_RESTARTS) if few else plan


def count_chosen(robust: int, share: float, min_images: int) -> int:
    """How many of the `robust` images a restart attacks: their share rounded down, `min_images` or more."""
    return min(max(int(robust * share), min_images), robust)


@dataclass(frozen=True)
class Lean:
    """How a direction in logit space differs from weights uniform in [-1, 1].

    own    range of the true class's weight
    rival  weight of one other class
    cycle  how many of the best-ranked other classes take turns as the rival
    """

    own: tuple[float, float]
    rival: float
    cycle: int


def plan_lean(number: int, learnt: Learnt, num_classes: int) -> Lean | None:
    """The lean of round 0..12; None in the first two, whose directions are uniform."""
    if number < 2:
        return None
    many, cycle = num_classes >= MANY_CLASSES, count_rivals(num_classes)
    rival = 0.8
    if learnt.by_direction(number):
        own = (-0.1, 0.5) if number < 11 else (0.0, 0.0)
    elif number >= 10:
        own = (-0.8, 0.1)
        cycle = cycle if many else min(4, cycle)
    else:
        own = (-0.1, 0.5) if learnt.own_pull > 0 and not many else (-0.5, 0.1)
        rival = -0.8 if learnt.reached_pull < 0 and not many else 0.8
    scale = max(num_classes / 10, 1.0)
    return Lean((scale * own[0], scale * own[1]), scale * rival, cycle)


def count_rivals(num_classes: int) -> int:
    """How many of the other classes ever act as rival."""
    return min(14 if num_classes >= MANY_CLASSES else 9, num_classes - 1)
