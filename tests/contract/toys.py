"""The toys of `fairbench.testing`, and the registered methods on them."""

from collections.abc import Iterator

import pytest
import torch

from fairbench.objectives.contract import AdversarialObjective
from fairbench.objectives.load import load_plugin
from fairbench.planning.resolve import import_target
from fairbench.registry import load_registry
from fairbench.testing.toys import (  # noqa: F401 (the names that tests know)
    BUDGET,
    CPU,
    SHAPE,
    ToyNetwork,
    adversary,
    assert_same,
    batch,
    configured,
    context,
    copied,
    images,
    loss_of,
    mixed,
    network,
    one_step,
    settled,
    sgd,
    stats,
    totals,
    weigh,
)
from fairbench.testing.training import train  # noqa: F401

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
    """The class behind a registered method, found as the house finds it."""
    return load_plugin(import_target(REGISTRY.get("method", name), REGISTRY.plugin(name)), name)


def objective(name: str, num_classes: int = 4, **options: object) -> AdversarialObjective:
    """A registered method with its registered settings, and `options` on top."""
    return configured(plugin(name), num_classes, **{**REGISTRY.method_config(name), **options})


def stacked(found: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor:
    """What `perturb` returned as one tensor (..., B, C, H, W): several kinds of image come first."""
    return found if isinstance(found, torch.Tensor) else torch.stack(list(found.values()))
