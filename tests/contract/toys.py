"""The toys of `fairbench.testing`, and the registered methods on them."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fairbench.data.batch import Batch
from fairbench.data.images import ImageSet
from fairbench.objectives.contract import AdversarialObjective, Context, EpochStats
from fairbench.objectives.load import load_plugin
from fairbench.objectives.loss_terms import LossTerms
from fairbench.planning.resolve import import_target
from fairbench.registry import load_registry
from fairbench.testing.toys import (  # noqa: F401 (the names that tests know)
    BUDGET,
    CPU,
    SHAPE,
    ToyNetwork,
    batch,
    configured,
    context,
    copied,
    differences,
    mixed,
    network,
    one_step,
    settled,
    sgd,
    teachers,
    totals,
)
from fairbench.testing.training import Training

REGISTRY = load_registry()
METHODS = tuple(
    name for name in REGISTRY.names("method") if REGISTRY.get("method", name).augment is None
)  # with it a method is the same, on other images
PLUGINS = tuple(name for name in METHODS if REGISTRY.get("method", name).extends is None)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plugin(name: str) -> type[AdversarialObjective]:
    """The class behind a registered method, found as fairbench finds it."""
    return load_plugin(import_target(REGISTRY.get("method", name), REGISTRY.plugin(name)), name)


def objective(name: str, num_classes: int = 4, **options: object) -> AdversarialObjective:
    """A registered method with its registered settings, and `options` on top."""
    return configured(plugin(name), num_classes, **{**REGISTRY.method_config(name), **options})


def stacked(found: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor:
    """What `perturb` returned as one tensor (..., B, C, H, W): several kinds of image come first."""
    return found if isinstance(found, torch.Tensor) else torch.stack(list(found.values()))


def images(size: int = 24, num_classes: int = 4, seed: int = 0) -> ImageSet:
    """The images of `batch` as a data set."""
    found = batch(size, num_classes, seed)
    pixels = (found.x * 255).round().to(torch.uint8)
    return ImageSet(pixels, found.y, num_classes, tuple(map(str, range(num_classes))))


def adversary(method: AdversarialObjective, model: nn.Module, given: Batch, ctx: Context) -> Any:
    """What `perturb` gives with the model in eval mode."""
    model.eval()
    found = method.perturb(model, given, ctx)
    model.train()
    return found


def loss_of(method: AdversarialObjective, model: nn.Module, given: Batch, x_adv: Any) -> LossTerms:
    """The loss terms of a batch."""
    return method.loss(model, given, x_adv, context())


def stats(similarity: Tensor, count: Tensor | None = None) -> EpochStats:
    """The statistics of an epoch with this table of mean robust probabilities."""
    size = len(similarity)
    count = torch.full((size,), 6.0, dtype=torch.float64) if count is None else count
    accuracy = torch.full((size,), 0.5, dtype=torch.float64)
    confusion = torch.eye(size, dtype=torch.float64)
    return EpochStats(count, accuracy, accuracy, similarity.double(), confusion)


def weigh(method: AdversarialObjective, *weight: float) -> AdversarialObjective:
    """The method with these class weights, where it has any."""
    if hasattr(method.state, "weight"):
        method.state.weight = torch.tensor(weight, dtype=torch.float64)
    return method


def assert_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    """Equal bit for bit."""
    assert differences(first, second) == []


def train(method: AdversarialObjective, epochs: int = 3, steps: int = 2) -> dict[str, Tensor]:
    """Losses, weights and BatchNorm statistics after training; the draws depend on epoch and step alone."""
    training = Training(method, epochs=epochs, steps=steps).run()
    return {"losses": torch.stack(training.losses), **training.model.state_dict()}
