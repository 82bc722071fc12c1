"""A campaign: several searches in sequence, each on the images that are still robust.

A search runs on blocks of images. The result of each block is checked by the verdict, stored in the journal
and never computed again. Results depend on images, seed and settings only, not on blocks, batches or
interruptions.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from fairbench.attacks.budget import Norm
from fairbench.attacks.network import Network, Passes, cost_of
from fairbench.attacks.search import BATCH_SIZE, Rows, Search, SearchResult, run_search
from fairbench.data.images import ImageSet, to_unit
from fairbench.evaluation.adversarial_examples import AdversarialExamples
from fairbench.evaluation.journal import Journal
from fairbench.evaluation.time_left import TimeLeft
from fairbench.evaluation.verdicts import fooled_by, logits_of_set
from fairbench.records.progress import Progress

BLOCK = 4  # batches per block: enough for regrouping, and little work lost after an interruption

Attempt = Callable[[Tensor, Tensor, Tensor, Callable[[float], None]], SearchResult]
"""A function of x, y, index and a callback for the share done; its result has the row `x_adv`."""


@dataclass
class Stage:
    """Counts of one part of an attack: images tried, broken, and adversarial only before the verdict."""

    name: str
    tried: int = 0
    broken: int = 0
    unconfirmed: int = 0
    forward: int = 0
    backward: int = 0
    seconds: float = 0.0


@dataclass
class Campaign:
    """The state of an attack on all images of a set.

    `model` decides the verdicts. `network` is attacked: the same model, possibly folded or in another dtype.
    Both are frozen and in eval mode.
    """

    model: nn.Module
    network: Network
    images: ImageSet
    eps: float
    norm: Norm
    seed: int
    journal: Journal = Journal(None)
    batch_size: int = BATCH_SIZE
    progress: Callable[[Progress], None] = lambda progress: None
    stages: dict[str, Stage] = field(default_factory=dict)
    survived: dict[str, Tensor] = field(default_factory=dict)  # (N,) bool, robust after each stage
    time_left: TimeLeft | None = None  # None: not estimated

    def __post_init__(self) -> None:
        self.label = self.images.labels.cpu()
        self.clean_logits = logits_of_set(self.model, self.images)
        self.prediction = self.clean_logits.argmax(1).cpu()
        self.robust = self.prediction == self.label
        self.broken: list[tuple[Tensor, Tensor]] = []  # positions and images, in order of success

    @property
    def num_classes(self) -> int:
        return self.images.num_classes

    def robust_positions(self) -> Tensor:
        """Positions of the images that are still robust, ascending."""
        return self.robust.nonzero().flatten()

    def attack(
        self,
        search: Search,
        index: Tensor,
        key: str,
        *,
        target: Tensor | None = None,
        keep: tuple[str, ...] = (),
    ) -> SearchResult:
        """Search around the images at `index`, and count those with a confirmed success as broken.

        `key` names the work, "stage" or "stage.part", for the journal and the draws. `target` (n,) belongs to
        `index`. The result has the confirmed successes, and the rows to `keep`.
        """

        def attempt(x: Tensor, y: Tensor, block: Tensor, tick: Callable[[float], None]) -> SearchResult:
            aims = None if target is None else target[torch.searchsorted(index, block)].to(x.device)
            return run_search(
                search,
                self.network,
                x,
                y,
                block,
                seed=self.seed,
                purpose=key,
                target=aims,
                keep=("x_adv", *keep),
                batch_size=self.batch_size,
                tick=tick,
            )

        return self.attempt(attempt, index, key)

    def attempt(self, attempt: Attempt, index: Tensor, key: str) -> SearchResult:
        """As `attack`, for any function that finds adversarial images."""
        stage, parts = key.split(".")[0], []
        for number, block in enumerate(index.split(self.batch_size * BLOCK)):
            before = number * self.batch_size * BLOCK
            began, passes = time.perf_counter(), self.network.passes.cost

            def tick(
                share: float,
                before: int = before,
                size: int = len(block),
                began: float = began,
                passes: float = passes,
            ) -> None:
                left = None
                if self.time_left is not None:
                    left = self.time_left.left(
                        key,
                        share=share,
                        size=size,
                        later=len(index) - before - size,
                        robust=int(self.robust.sum()),
                        passes=self.network.passes.cost - passes,
                        seconds=time.perf_counter() - began,
                    )
                done = (before + share * size) / max(len(index), 1)
                self.progress(Progress(key, done, float(self.robust.float().mean()), left))

            parts.append(self._run_block(attempt, block, key, number, tick))
        self.survived[stage] = self.robust.clone()
        if not parts:
            return SearchResult(torch.zeros(0, dtype=torch.bool), {})
        rows = {name: torch.cat([part.rows[name] for part in parts]) for name in parts[0].rows}
        return SearchResult(torch.cat([part.success for part in parts]), rows)

    def _run_block(
        self, attempt: Attempt, index: Tensor, key: str, number: int, tick: Callable[[float], None]
    ) -> SearchResult:
        """The result of a block, from the journal or computed and written there; updates the state."""
        block = f"{key}.block{number}"
        saved = self.journal.read(block, index)
        if saved is None:
            began, before = time.perf_counter(), Passes(**asdict(self.network.passes))
            x, y = self._x(index), self.images.labels[index.to(self.images.device)]
            result = attempt(x, y, index, tick)
            tried = result.success.nonzero().flatten()
            x_adv = result.rows["x_adv"][tried]
            fooled, prediction = fooled_by(self.model, x[tried], y[tried], x_adv, self.eps, self.norm)
            confirmed = torch.zeros_like(result.success).index_put_((tried,), fooled)
            kept = {name: value.cpu() for name, value in result.rows.items() if name != "x_adv"}
            # "found" and "row." are keys of journals on disk
            tensors = {"found": confirmed, "x_adv": x_adv[fooled], "prediction": prediction[fooled]}
            tensors |= {f"row.{name}": value for name, value in kept.items()}
            about = {
                "unconfirmed": int((~fooled).sum()),
                "forward": self.network.passes.forward - before.forward,
                "backward": self.network.passes.backward - before.backward,
                "seconds": time.perf_counter() - began,
            }
            saved = {name: value.cpu() for name, value in tensors.items()}, about
            self.journal.write(block, index, *saved)
        tensors, about = saved
        success = tensors["found"]
        self.robust[index[success]] = False
        self.prediction[index[success]] = tensors["prediction"]
        self.broken.append((index[success], tensors["x_adv"]))
        if self.time_left is not None:
            passes = cost_of(about["forward"], about["backward"])
            self.time_left.block(key, len(index), int(success.sum()), passes, about["seconds"])
        part = key.split(".")[0]
        stage = self.stages.setdefault(part, Stage(part))
        stage.tried += len(index)
        stage.broken += int(success.sum())
        for name in ("unconfirmed", "forward", "backward", "seconds"):
            setattr(stage, name, getattr(stage, name) + about[name])
        rows: Rows = {n.removeprefix("row."): v for n, v in tensors.items() if n.startswith("row.")}
        return SearchResult(success, rows)

    def adversarial_examples(self) -> AdversarialExamples:
        """All broken images, by ascending position."""
        shape = self.images.image_shape
        index = torch.cat([index for index, _ in self.broken] or [torch.zeros(0, dtype=torch.int64)])
        x_adv = torch.cat([x_adv for _, x_adv in self.broken] or [torch.zeros(0, *shape)])
        order = index.argsort()
        return AdversarialExamples(index[order], x_adv[order])

    def _x(self, index: Tensor) -> Tensor:
        return to_unit(self.images.images[index.to(self.images.device)])
