"""The toys of `fairbench.testing`, and the registered methods on them."""

from collections.abc import Iterable, Iterator

import pytest
import torch

from fairbench.data.batch import Batch
from fairbench.objectives.contract import AdversarialObjective, Context, LossTerms, ValidationStats
from fairbench.objectives.load import load_plugin
from fairbench.plan.cells import import_target
from fairbench.registry import load_registry
from fairbench.testing.toys import (  # the names that tests know
    BUDGET as BUDGET,
    CPU as CPU,
    SHAPE as SHAPE,
    Network as Network,
    adversary as adversary,
    assert_same as assert_same,
    batch as batch,
    configured as configured,
    context as context,
    copied as copied,
    images as images,
    loss_of as loss_of,
    network as network,
    one_step as one_step,
    settled as settled,
    sgd as sgd,
    stats as stats,
    totals as totals,
    weigh as weigh,
)
from fairbench.testing.training import train as train
from fairbench.training.validation import measure

REGISTRY = load_registry()
METHODS = tuple(REGISTRY.names("method"))
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


def held_out(method: AdversarialObjective, model: torch.nn.Module, epoch: int) -> list[torch.Tensor]:
    """All numbers of `validate` on a batch; `on_validation` is told of made-up class means instead."""
    ctx, found = context(epoch), []

    def validate(model: torch.nn.Module, given: Batch, ctx: Context) -> LossTerms:
        terms = method.validate(model, given, ctx)
        logits = [value for value in (terms.logits, terms.logits_adv) if value is not None]
        found.extend([*terms.terms.values(), *logits])
        return terms

    measured = measure(model, validate, [(batch(seed=100 + epoch), ctx)], num_classes=4, batch_size=12)
    method.on_validation(validation_stats(epoch, measured.terms), ctx)
    return found


def validation_stats(epoch: int = 1, terms: Iterable[str] = ()) -> ValidationStats:
    """Unequal classes of which one is clearly the worst under attack, from the second epoch on."""
    return ValidationStats(
        count=torch.tensor([5.0, 6.0, 5.0, 4.0], dtype=torch.float64),
        clean_accuracy=torch.tensor([0.9, 0.8, 0.6, 0.9], dtype=torch.float64),
        robust_accuracy=torch.tensor([0.6, 0.5, 0.3 if epoch == 1 else 0.0, 0.6], dtype=torch.float64),
        terms={name: torch.arange(1, 5, dtype=torch.float64) for name in terms},
        batch_size=8,
    )


def stacked(adversary: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor:
    """What `perturb` returned as one tensor (..., B, C, H, W): several kinds of image come first."""
    return adversary if isinstance(adversary, torch.Tensor) else torch.stack(list(adversary.values()))
