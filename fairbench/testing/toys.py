"""Toy network, images and contexts for tests of methods. A training step takes milliseconds."""

import copy
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fairbench.attacks.budget import Budget
from fairbench.attacks.draws import Draws
from fairbench.core.seeds import derive_seed
from fairbench.core.teachers import TEACHERS
from fairbench.data.batch import Batch
from fairbench.objectives.contract import AdversarialObjective, Context, DataInfo, build_config
from fairbench.objectives.losses import cross_entropy
from fairbench.objectives.teachers import Ask, Teachers
from fairbench.training.epoch import Contexts, EpochProgress
from fairbench.training.statistics import EpochTotals
from fairbench.training.step import training_step

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)
BUDGET = Budget(eps=0.1, step_size=0.04, num_steps=3)


class ToyNetwork(nn.Module):
    """Two convolutions with BatchNorm. The last maps are 4x4, so that a batch of one image can be trained."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))


def network(num_classes: int = 4, seed: int = 0, spread: float = 4.0) -> ToyNetwork:
    """A network in train mode; with a larger `spread` its predictions differ more between images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ToyNetwork(num_classes)
    with torch.no_grad():
        model.fc.weight.mul_(spread)
    return model


def settled(num_classes: int = 4, seed: int = 0) -> ToyNetwork:
    """A network whose predictions in eval mode vary: BatchNorm has statistics, outputs are centred."""
    model, given = network(num_classes, seed), batch(64, num_classes)
    with torch.no_grad():
        for _ in range(30):
            model(given.x)
        model.fc.bias.sub_(model.eval()(given.x).mean(0))
    return model.train()


def teachers(
    num_classes: int = 4,
    names: Iterable[str] = TEACHERS,
    *,
    permutation: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device = CPU,
) -> Teachers:
    """Toy networks to learn from, each another one; `permutation` (C,) renames their classes."""
    networks = {}
    for name in names:
        teacher = _teacher(num_classes, 1 + TEACHERS.index(name))
        networks[name] = renamed(copy.deepcopy(teacher), permutation).to(device, dtype)
    return Teachers(networks)


@functools.cache
def _teacher(num_classes: int, seed: int) -> ToyNetwork:
    return settled(num_classes, seed)


def renamed(model: ToyNetwork, permutation: Tensor | None) -> ToyNetwork:
    """The network with output c moved to `permutation[c]`; changed in place."""
    if permutation is not None:
        with torch.no_grad():
            for parameter in (model.fc.weight, model.fc.bias):
                parameter.copy_(parameter[permutation.argsort()])
    return model


@functools.cache
def _capable(num_classes: int) -> ToyNetwork:
    model = settled(num_classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for seed in range(60):
        given = batch(48, num_classes, seed)
        optimizer.zero_grad()
        cross_entropy(model(given.x), given.y).mean().backward()
        optimizer.step()
    return model


def capable(num_classes: int = 4) -> ToyNetwork:
    """A network that was trained on toy images and classifies most of them correctly, in eval mode."""
    return copy.deepcopy(_capable(num_classes)).eval()


def batch(size: int = 12, num_classes: int = 4, seed: int = 0, labels: Tensor | None = None) -> Batch:
    """Images whose brightness depends on the class; by default the labels 0, 1, ... in turn."""
    draws = Draws(derive_seed(seed, "toy"), CPU)
    y = torch.arange(size) % num_classes if labels is None else labels
    x = draws.uniform(torch.empty(len(y), *SHAPE))
    x = 0.7 * x + 0.3 * (y / max(num_classes - 1, 1)).view(-1, 1, 1, 1)
    return Batch(x=x, y=y, index=torch.arange(len(y)))


def mixed(share: float | Tensor, given: Batch | None = None) -> Batch:
    """The images of a batch, each mixed with one of another class; `share`, or (B,) of them, is its own."""
    given = batch() if given is None else given
    other = torch.arange(len(given)).roll(5)
    lam = torch.as_tensor(share, dtype=given.x.dtype).expand(len(given)).clone()
    x = torch.lerp(given.x[other], given.x, lam.view(-1, 1, 1, 1))
    return replace(given, x=x, y2=given.y[other], lam=lam)


def context(
    epoch: int = 1,
    step: int = 0,
    seed: int = 0,
    budget: Budget = BUDGET,
    logged: dict[str, Any] | None = None,
    *,
    num_epochs: int = 3,
    num_steps: int = 3,
    draws: Callable[[int], Draws] = lambda seed: Draws(seed, CPU),
    teacher: Callable[[str], Ask] | None = None,
) -> Context:
    """The context of a step in training. `draws` makes the random draws of a seed.

    `teacher` gives the teachers, by default those for 4 classes.
    """
    contexts = Contexts(seed, num_epochs, budget, learning_rate, draws, teacher or teachers())
    ctx = contexts.at(EpochProgress(epoch), step, num_steps)
    return ctx if logged is None else replace(ctx, log=logged.__setitem__)


def configured(
    cls: type[AdversarialObjective], num_classes: int = 4, device: torch.device = CPU, **options: object
) -> AdversarialObjective:
    """The method with its default settings, of which `options` replaces some."""
    return cls(build_config(cls, options), info(num_classes), device)


def info(num_classes: int, permutation: Tensor | None = None) -> DataInfo:
    """The facts about the toy images: 16 of each class."""
    old_names = range(num_classes) if permutation is None else permutation.argsort().tolist()
    return DataInfo(num_classes, tuple(16 + c % 3 for c in old_names), SHAPE)


def learning_rate(epoch: int) -> float:
    """The rate of toy training; it falls before the third epoch."""
    return 0.05 if epoch < 3 else 0.005


def sgd(model: nn.Module, lr: float = 0.05) -> torch.optim.SGD:
    """The optimiser of toy training."""
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, nesterov=True)


def totals(method: AdversarialObjective, device: torch.device = CPU) -> EpochTotals:
    """Empty class statistics of the kinds that the method needs."""
    needs = method.resolved_needs()
    return EpochTotals(method.info.num_classes, needs.epoch_stats, device, watched=needs.watched)


def one_step(
    method: AdversarialObjective,
    model: nn.Module,
    given: Batch | None = None,
    ctx: Context | None = None,
    *,
    lr: float = 0.05,
    check: bool = True,
) -> Tensor:
    """The loss of one training step."""
    given = batch(num_classes=method.info.num_classes) if given is None else given
    return training_step(model, method, sgd(model, lr), given, ctx or context(), totals(method), check=check)


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of tensors by name."""
    return {name: value.detach().clone() for name, value in tensors.items()}


def identical(first: Tensor, second: Tensor) -> bool:
    """Whether both are equal bit for bit, including shape and dtype; NaN equals NaN."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())


def differences(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> list[str]:
    """The names under which two collections differ in any bit."""
    if first.keys() != second.keys():
        return sorted(first.keys() ^ second.keys())
    return [name for name in first if not identical(first[name], second[name])]
