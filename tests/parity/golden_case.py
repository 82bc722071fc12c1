"""Golden numbers of the official programs: a case, its little network and its recorded draws.

The arrays come from running the official implementations on a CPU in double precision; only
numbers are kept (which program and commit: docs/fidelity.md).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fairbench.api import Budget, Context, DataInfo, classes
from fairbench.data.batch import Batch
from fairbench.objectives.contract import build_config
from fairbench.training.statistics import EpochTotals
from fairbench.training.step import training_step
from fairbench.training.validation import measure

FOLDER = Path(__file__).parent / "golden"
CPU = torch.device("cpu")


class Network(nn.Module):
    """The network of all golden files; with `mean` and `std` it normalises its input."""

    def __init__(self, num_classes, mean=None, std=None):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, num_classes)
        self.normalise = None
        if mean is not None:
            self.normalise = tuple(torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (mean, std))

    def forward(self, x):
        if self.normalise is not None:
            x = (x - self.normalise[0]) / self.normalise[1]
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


class Recorded:
    """Draws that were recorded while the official program ran, in place of a generator."""

    def __init__(self, normal=None, uniform=None, other=None):
        self.values = {"normal": normal, "uniform": uniform, "other": other}  # other: a target per sample

    def normal(self, like):
        return self.values["normal"].to(like)

    def uniform(self, like):
        return self.values["uniform"].to(like)

    def other_class(self, label, num_classes):
        return self.values["other"]

    def choice(self, weight):
        return self.values["other"]


class Case:
    """One golden file in float64."""

    def __init__(self, name):
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
            self.arrays = {key: file[key] for key in file.files}
        self.name = name
        self.hyper = json.loads(str(self.arrays["hyper"]))
        step = "x" in self.arrays  # else a file about the method's state, which has held-out images only
        if "state/fc.bias" in self.arrays:  # else no images at all
            self.x = torch.cat([self.images(key) for key in (["x"] if step else self.keys("given/val_x_"))])
            self.y = torch.cat([self.tensor(key) for key in (["y"] if step else self.keys("given/val_y_"))])
            self.num_classes = len(self.arrays["state/fc.bias"])
        self.largest = {}

    def keys(self, start):
        return sorted(key for key in self.arrays if key.startswith(start))

    def images(self, key):
        # 1/255 in single precision, as the programs saw the images
        return torch.from_numpy(self.arrays[key].astype(np.float32) / np.float32(255)).double()

    def tensor(self, key):
        value = torch.from_numpy(np.asarray(self.arrays[key]))
        return value.double() if value.is_floating_point() else value

    def network(self, **normalisation):
        model = Network(self.num_classes, **normalisation).double()
        model.load_state_dict(
            {k[6:]: torch.from_numpy(v) for k, v in self.arrays.items() if k.startswith("state/")}
        )
        return model

    def objective(self, cls, **options):
        counts = tuple(torch.bincount(self.y, minlength=self.num_classes).tolist())
        return cls(
            build_config(cls, options), DataInfo(self.num_classes, counts, tuple(self.x.shape[1:])), CPU
        )

    def batch(self, index=None):
        index = torch.arange(len(self.y)) if index is None else index
        return Batch(x=self.x[index], y=self.y[index], index=index)

    def budget(self, scale=1.0):
        step = self.hyper.get("step_size", self.hyper.get("alpha"))
        steps = self.hyper.get("num_steps", self.hyper.get("attack_iters"))
        return Budget(self.hyper["epsilon"] * scale, step * scale, steps)

    def context(self, draws, budget=None, epoch=1, logged=None):
        logged = {} if logged is None else logged
        return Context(
            epoch=epoch,
            num_epochs=3,
            step=0,
            num_steps=1,
            budget=budget or self.budget(),
            rng=lambda purpose: draws[purpose] if isinstance(draws, dict) else draws,
            log=logged.__setitem__,
        )

    def close(self, what, value, key, rtol=1e-9, atol=1e-11):
        """Assert that `value` is the golden array `key`, and remember the difference."""
        golden = self.tensor(key)
        value = torch.as_tensor(value).detach()
        difference = float((value.double() - golden.double()).abs().max()) if golden.numel() else 0.0
        self.largest[what] = max(difference, self.largest.get(what, 0.0))
        torch.testing.assert_close(
            value.to(golden.dtype), golden, rtol=rtol, atol=atol, msg=f"{self.name}: {key}"
        )

    def close_step(self, model, x_adv):
        """Compare the attack, all gradients and all BatchNorm buffers of one step."""
        self.close("x_adv", x_adv, "f64/x_adv", rtol=0, atol=1e-9)
        self.close_update(model)

    def close_update(self, model):
        """Compare all gradients and all BatchNorm buffers of one step."""
        for name, parameter in model.named_parameters():
            self.close("gradients", parameter.grad, f"f64/grad/{name}", rtol=1e-7, atol=1e-10)
        for name, buffer in model.named_buffers():
            self.close("BatchNorm", buffer, f"f64/bn_after_loss/{name}")


def validated(case, objective, model, draws, budget=None):
    """What the house measures on the recorded held-out batches, one draw each, and the images attacked."""
    batches, attacked = [], []
    for number, drawn in enumerate(draws):
        x, y = case.images(f"given/val_x_{number}"), case.tensor(f"given/val_y_{number}")
        batches.append((Batch(x=x, y=y, index=torch.arange(len(y))), case.context(drawn, budget=budget)))

    def validate(model, batch, ctx):
        def watch(module, inputs):
            if not torch.is_grad_enabled() and not torch.equal(inputs[0], batch.x):
                attacked.append(inputs[0])  # neither an iterate of the attack nor the clean images

        with model.register_forward_pre_hook(watch):
            return objective.validate(model, batch, ctx)

    size = len(batches[0][0].y)
    stats = measure(model, validate, batches, num_classes=case.num_classes, batch_size=size)
    return stats, attacked


def one_step(case, objective, model, ctx, lr=0.0, weight_decay=0.0):
    """Run the house's training step and hand back what it saw: adversary, terms, statistics."""
    seen = {}
    perturb, loss = objective.perturb, objective.loss

    def watched_perturb(model, batch, ctx):
        seen["x_adv"] = perturb(model, batch, ctx)
        return seen["x_adv"]

    def watched_loss(model, batch, x_adv, ctx):
        seen["terms"] = loss(model, batch, x_adv, ctx)
        return seen["terms"]

    objective.perturb, objective.loss = watched_perturb, watched_loss
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    totals = EpochTotals(case.num_classes, objective.resolved_needs().epoch_stats, CPU)
    seen["loss"] = training_step(model, objective, optimizer, case.batch(), ctx, totals, check=True)
    seen["stats"] = totals.stats()
    return seen


def given_weights(case):
    """DAFA's class weights from the recorded predictions, by the house's own rule."""
    similarity = classes.class_means(
        case.tensor("given/memory_probs"), case.tensor("given/memory_labels").long(), case.num_classes
    )
    case.close("class weights", similarity, "f64/class_similarity")
    weight = classes.distance_aware_weights(similarity, case.hyper["lambda"])
    case.close("class weights", weight, "f64/class_weights_given")
    return weight


def golden(*names):
    """Run a test once for each of these golden files, as its argument `case`."""
    return pytest.mark.parametrize("case", names, indirect=True)
