"""The time that an ensemble attack still takes, from the passes and seconds that were measured so far.

Parts of an ensemble cost differently and run on the images that are still robust, so the time left does not
follow from the share of the work that is done. What remains is counted in passes of single images, with the
number of images that are expected to be robust by then, and each part has its own seconds per pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

SMALL = 32  # images; fewer take about as long (measured on a CPU with a small network)
RECENT = 0.1  # share of a block by which the number of its images still under attack is estimated
OWN = 0.05  # share of its own passes from which a part's measured pace counts more than the others'


@dataclass(frozen=True)
class Work:
    """A planned search: its key "part" or "part.number", and the passes of an image that it does not break.

    `images` is the number of images that it attacks when so many are robust.
    """

    key: str
    passes: float
    images: Callable[[float], float] = lambda robust: robust

    @property
    def part(self) -> str:
        return self.key.split(".")[0]


@dataclass
class Measured:
    """Images, passes and seconds of finished blocks, and how many of the images were broken."""

    images: int = 0
    broken: int = 0
    passes: float = 0.0
    seconds: float = 0.0

    def add(self, images: int, broken: int, passes: float, seconds: float) -> None:
        self.images += images
        self.broken += broken
        self.passes += passes
        self.seconds += seconds


def padding(images: int) -> float:
    """By how much passes on so few images count more than those on many."""
    return max(1.0, SMALL / max(images, 1))


@dataclass
class TimeLeft:
    """Estimates the time left from finished blocks (`block`) and from the block at work (`left`).

    `num_images`: robust images before the attack.
    `paces`: seconds per pass of each part in a short trial; where a part has none, 1.0. Only their ratio
    counts, and only until the part itself is measured.
    """

    plan: Sequence[Work]
    num_images: int
    paces: Mapping[str, float] = field(default_factory=dict)
    keys: dict[str, Measured] = field(default_factory=dict)  # finished blocks
    recent: tuple[str, float, float] = ("", 0.0, 0.0)  # key, share of a block, passes: where `active` begins
    active: float = 1.0  # share of the images of the block at work that is still attacked

    def block(self, key: str, images: int, broken: int, passes: float, seconds: float) -> None:
        """A block of a search is finished."""
        self.keys.setdefault(key, Measured()).add(images, broken, passes * padding(images), seconds)
        self.recent = ("", 0.0, 0.0)

    def left(
        self, key: str, *, share: float, size: int, later: int, robust: int, passes: float, seconds: float
    ) -> float | None:
        """Seconds for the rest of the attack; None for a search that is not planned.

        share: what is done of the block at work, of `size` images, which took `passes` and `seconds`.
        later: images in the search's blocks after it. robust: images that no finished block has broken.
        """
        position = next((i for i, work in enumerate(self.plan) if work.key == key), None)
        if position is None or passes <= 0 or seconds <= 0:
            return None
        work, done = self.plan[position], self.keys.get(key, Measured())
        passes *= padding(size)
        full = work.passes * max(size, SMALL)  # of the block, if no image were broken
        self._update_active(key, share, passes, full)
        block_left = (1 - share) * full * self.active
        if done.images:
            per_image, broken = done.passes / done.images, done.broken / done.images
        else:
            per_image, broken = (passes + block_left) / size, 1 - self.active
        here = Measured(passes=passes, seconds=seconds)
        total = self._seconds_per_pass(work, here) * (block_left + later * per_image)
        expected = robust - broken * (size + later)
        for coming in self.plan[position + 1 :]:
            pace = self._seconds_per_pass(coming, here, work.part)
            total += pace * coming.passes * max(coming.images(expected), SMALL)
        return total

    def _update_active(self, key: str, share: float, passes: float, full: float) -> None:
        """Measure how many images of the block are still attacked, by the passes of its last part."""
        before, since, counted = self.recent
        if before != key or share < since:
            self.active, since, counted = 1.0, 0.0, 0.0
            self.recent = (key, since, counted)
        if share - since >= RECENT or (since == 0.0 and share > 0):
            self.active = min(1.0, (passes - counted) / ((share - since) * full))
            if share - since >= RECENT:
                self.recent = (key, share, passes)

    def _seconds_per_pass(self, work: Work, here: Measured, part_here: str | None = None) -> float:
        """Measured for the part of `work`, and from the other parts as long as little of it was done.

        `here`: the block at work, which is of part `part_here`, by default that of `work`.
        """
        blocks = [(key.split(".")[0], each) for key, each in self.keys.items()]
        blocks.append((part_here or work.part, here))
        usual = sum(each.seconds for _, each in blocks) / sum(
            each.passes * self.paces.get(part, 1.0) for part, each in blocks
        )
        own = [each for part, each in blocks if part == work.part]
        planned = sum(
            each.passes * each.images(self.num_images) for each in self.plan if each.part == work.part
        )
        weight = OWN * planned
        passes, seconds = sum(each.passes for each in own), sum(each.seconds for each in own)
        return (seconds + usual * self.paces.get(work.part, 1.0) * weight) / (passes + weight)
