"""TRADES and TRIX written like the program of a paper: the reference for the speed of fairbench.

A DataLoader transforms image by image; everything is eager, in PyTorch's default precision and the contiguous
layout; classes are visited in Python loops; numbers are read from the device whenever they are needed. The
mathematics is that of the registered methods in their defaults: a test compares both.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2  # type: ignore[import-untyped]

from fairbench.attacks.budget import Budget

NOISE = 0.001
BETA = 6.0
REFERENCES = ("trades", "trix")


class Images(Dataset[tuple[Tensor, int]]):
    """uint8 images (N, channels, H, W) with labels; each is augmented when it is read."""

    def __init__(self, images: Tensor, labels: Tensor, *, padding: int, flip: bool) -> None:
        self.images, self.labels = images, labels
        steps: list[Any] = [v2.ToPILImage()]
        steps += [v2.RandomCrop(images.shape[-1], padding=padding)] if padding else []
        steps += [v2.RandomHorizontalFlip()] if flip else []
        steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        self.transform = v2.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


class PlainLoop:
    """Trains `model`; each call of `step` does one step."""

    def __init__(
        self,
        method: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: Images,
        *,
        batch_size: int,
        num_classes: int,
        budget: Budget,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self.method, self.model, self.optimizer, self.device = method, model, optimizer, device
        self.num_classes, self.budget = num_classes, budget
        context = "forkserver" if workers else None
        self.loader = DataLoader(
            data,
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            multiprocessing_context=context,
            persistent_workers=workers > 0,
        )
        self.batches = self._endless()
        self.correct = [0] * num_classes
        self.robust = [0] * num_classes
        self.seen = [0] * num_classes

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def step(self) -> float:
        """One training step; its loss."""
        x, y = next(self.batches)
        x, y = x.to(self.device), y.to(self.device)
        noise = torch.randn_like(x)
        others = torch.randint(1, self.num_classes, (len(y),)).tolist()
        target = [(int(label) + other) % self.num_classes for label, other in zip(y, others, strict=True)]
        x_adv = self.attack(x, y, noise, torch.tensor(target, device=self.device))
        return self.update(x, y, x_adv)

    def attack(self, x: Tensor, y: Tensor, noise: Tensor, target: Tensor) -> Tensor:
        """Adversarial images from start noise; TRIX attacks strong classes towards `target` (B,)."""
        self.model.eval()
        with torch.no_grad():
            clean = F.softmax(self.model(x), dim=1)
        targeted = self.strong(clean, y) if self.method == "trix" else torch.zeros_like(y, dtype=torch.bool)
        x_adv = x + NOISE * noise
        for _ in range(self.budget.num_steps):
            x_adv = x_adv.detach().requires_grad_()
            logits = self.model(x_adv)
            divergence = F.kl_div(F.log_softmax(logits, dim=1), clean, reduction="none").sum(1)
            value = torch.where(targeted, -F.cross_entropy(logits, target, reduction="none"), divergence)
            gradient = torch.autograd.grad(value.sum(), x_adv)[0]
            x_adv = x_adv.detach() + self.budget.step_size * gradient.sign()
            x_adv = torch.min(torch.max(x_adv, x - self.budget.eps), x + self.budget.eps).clamp(0, 1)
        return x_adv.detach()

    def strong(self, probability: Tensor, y: Tensor) -> Tensor:
        """Which images (B,) are of classes that are strong in this batch."""
        classes = range(self.num_classes)
        probability = probability.double()
        rows = []
        for c in classes:
            mine = probability[y == c]
            rows.append(mine.mean(0) if len(mine) else torch.zeros_like(probability[0]))
            rows[c][c] += 1e-8
        table = torch.stack(rows).tolist()
        weight = [1.0] * self.num_classes
        for i in classes:
            for j in classes:
                if i == j:
                    continue
                if table[i][i] < table[j][j]:
                    weight[i] += table[i][j] * table[j][j]
                else:
                    weight[i] -= table[j][i] * table[i][i]
        mean = sum(weight[int(label)] for label in y) / len(y)
        return torch.tensor([weight[int(label)] < mean - 1e-12 for label in y], device=y.device)

    def update(self, x: Tensor, y: Tensor, x_adv: Tensor) -> float:
        """Loss, update and class statistics; returns the loss."""
        self.model.train()
        logits_adv = self.model(x_adv)
        logits = self.model(x)
        log_p_adv, p = F.log_softmax(logits_adv, dim=1), F.softmax(logits, dim=1)
        divergence = F.kl_div(log_p_adv, p, reduction="batchmean")
        loss = F.cross_entropy(logits, y) + BETA * divergence
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        for c in range(self.num_classes):
            mine = y == c
            self.seen[c] += int(mine.sum().item())
            self.correct[c] += int((logits[mine].argmax(1) == c).sum().item())
            self.robust[c] += int((logits_adv[mine].argmax(1) == c).sum().item())
        return loss.item()
