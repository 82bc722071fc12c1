"""The rounds of A3: how many steps, on how many images, in which direction.

Constants of the authors' program (liuye6666/adaptive_auto_attack@c3650cd). It has two lists of rounds: one
for most models, and one for models that are already broken often in the start steps along the direction.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Round:
    """The settings of one round.

    start_steps  steps along the direction
    steps        steps up the margin, after them
    share        share of the robust images that is attacked, those with the highest margins; in (0, 1]
    restarts     number of restarts, each on a new choice of images
    """

    start_steps: int
    steps: int
    share: float = 1.0
    restarts: int = 1


OPENING = (Round(0, 8), Round(7, 15), Round(7, 15))

# The number of steps that run: the program adds the start steps to a round's nominal 25 to 60 (or 5 to 45).
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

BROKEN_IN_START = 0.05  # share of the images robust after round 0; from here on the rounds BY_DIRECTION
FEW = 0.1  # with a smaller share of all images robust, a round attacks all of them, FEW_RESTARTS more times
FEW_RESTARTS = 10

MIN_IMAGES = 100  # images attacked in a restart, if as many are robust
MIN_IMAGES_FROM = (
    1000  # smallest data set with this minimum; of a smaller one, 100 images are a tenth or more
)

MANY_CLASSES = 100  # from this number of classes on, the program's CIFAR-100 branch


@dataclass
class AttackStatistics:
    """Counts of images, and sums over the images broken so far, that later rounds depend on.

    robust              images that are robust after round 0
    in_start            images broken in the start steps of rounds 1, 2, ...
    own_weight_sum      over the images broken in round 1: the direction's weight of the true class
    reached_weight_sum  the same for the class that they are misclassified as
    """

    robust: int = 0
    in_start: int = 0
    own_weight_sum: float = 0.0
    reached_weight_sum: float = 0.0

    def by_direction(self, number: int) -> bool:
        """Whether round `number` is taken from BY_DIRECTION."""
        return number >= len(OPENING) and self.in_start >= BROKEN_IN_START * self.robust


def plan_round(number: int, statistics: AttackStatistics, *, few: bool) -> Round:
    """The settings of round `number` (0..12); `few`: whether few images are robust."""
    rounds = OPENING + (BY_DIRECTION if statistics.by_direction(number) else BY_MARGIN)
    plan = rounds[number]
    return replace(plan, share=1.0, restarts=plan.restarts + FEW_RESTARTS) if few else plan


def count_chosen(robust: int, share: float, min_images: int) -> int:
    """Number of the `robust` images that a restart attacks: the share rounded down, at least `min_images`."""
    return min(max(int(robust * share), min_images), robust)


@dataclass(frozen=True)
class DirectionBias:
    """How the weights of a direction in logit space differ from uniform in [-1, 1].

    own    range of the weight of the true class
    rival  weight of one wrong class, the rival
    cycle  number of highest-ranked wrong classes that are the rival in turn
    """

    own: tuple[float, float]
    rival: float
    cycle: int


def plan_bias(number: int, statistics: AttackStatistics, num_classes: int) -> DirectionBias | None:
    """The bias of round `number` (0..12); None in the first two rounds, whose directions are uniform."""
    if number < 2:
        return None
    many, cycle = num_classes >= MANY_CLASSES, count_rivals(num_classes)
    rival = 0.8
    if statistics.by_direction(number):
        own = (-0.1, 0.5) if number < 11 else (0.0, 0.0)
    elif number >= 10:
        own = (-0.8, 0.1)
        cycle = cycle if many else min(4, cycle)
    else:
        own = (-0.1, 0.5) if statistics.own_weight_sum > 0 and not many else (-0.5, 0.1)
        rival = -0.8 if statistics.reached_weight_sum < 0 and not many else 0.8
    scale = max(num_classes / 10, 1.0)
    return DirectionBias((scale * own[0], scale * own[1]), scale * rival, cycle)


def count_rivals(num_classes: int) -> int:
    """Number of wrong classes that are ever used as the rival."""
    return min(14 if num_classes >= MANY_CLASSES else 9, num_classes - 1)
