"""Golden numbers of the official programs: a case, its little network and its recorded draws.

The arrays come from running the official implementations on a CPU in double precision; only
numbers are kept (which program and commit: docs/fidelity.md).
"""

import functools
import json
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fairbench.api import Budget, Context, DataInfo, classes
from fairbench.data.batch import Batch
from fairbench.models.twin import FoldedTwin
from fairbench.objectives.contract import build_config
from fairbench.training.statistics import EpochTotals
from fairbench.training.step import training_step
from fairbench.training.validation import measure

FOLDER = Path(__file__).parent / "golden"
CPU = torch.device("cpu")
CFA_INPUT = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}

# The only outputs of the programs that no test compares: {file: {pattern below f64/: why}}.
AGAINST_THE_TARGET = "the program's log against the drawn target; the method uses none of it"
EXEMPT = {
    "bat": {"firstadv_shuffle": "a recorded draw, not a result"},
    "cfa_fawa": {"fawa/fawa_0/*": "the program's random initial weights; fairbench has no average yet"},
    "fairtat": {"epoch_result/*_target": AGAINST_THE_TARGET, "epoch_result/flip_score": AGAINST_THE_TARGET},
    "fairtat_epoch0": {
        "epoch_result/*_target": AGAINST_THE_TARGET,
        "epoch_result/flip_score": AGAINST_THE_TARGET,
    },
    "fairtat_state": {
        "log?/result/*_target": AGAINST_THE_TARGET,
        "log?/result/flip_score": AGAINST_THE_TARGET,
        "log?/class_eps/T-*": "radii from statistics against the target: not offered",
        "log?/class_eps/*+*": "radii from several statistics at once: not offered",
        "select/*/y": "input of the selection",
        "select/*/first_draw": "input of the selection",
        "select/*/redraws": "input of the selection",
        "select/*/redraws_unused": "fairbench draws for all samples at once, not one by one",
    },
}

CLAIMED = []  # (file, patterns) of every test, for test_golden_coverage


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
    """Draws that were recorded while the official program ran, in place of a generator.

    `integers`: random classes in the program's order, one for each sample, then one for each sample
    that still has its own label, until none has.
    """

    def __init__(self, normal=None, uniform=None, integers=()):
        self.values = {"normal": normal, "uniform": uniform}
        self.integers = integers

    def normal(self, like):
        return self.values["normal"].to(like)

    def uniform(self, like):
        return self.values["uniform"].to(like)

    def other_class(self, label, num_classes):
        first, *again = self.integers
        self.target = first.clone()
        for drawn in again:
            self.target[self.target == label] = drawn
        return self.target


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
        self.largest, self.compared = {}, set()

    def keys(self, start):
        return [key for key in self.arrays if key.startswith(start)]

    def images(self, key):
        # 1/255 in single precision, as the programs saw the images
        return torch.from_numpy(self.arrays[key].astype(np.float32) / np.float32(255)).double()

    def tensor(self, key):
        value = torch.from_numpy(np.asarray(self.arrays[key]))
        return value.double() if value.is_floating_point() else value

    def network(self, folder="state", **normalisation):
        model = Network(self.num_classes, **normalisation).double()
        keys = self.keys(f"{folder}/")
        model.load_state_dict({k.removeprefix(f"{folder}/"): torch.from_numpy(self.arrays[k]) for k in keys})
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
            lr=0.1,
            rng=lambda purpose: draws[purpose] if isinstance(draws, dict) else draws,
            log=logged.__setitem__,
        )

    def close(self, kind, value, key, rtol=1e-9, atol=1e-11, through=lambda golden: golden):
        """Assert that `value` is what `through` makes of the golden array `key`; remember the difference."""
        golden, value = through(self.tensor(key)).double(), torch.as_tensor(value).detach().double()
        assert value.shape == golden.shape, f"{self.name}: {key} has shape {tuple(golden.shape)}"
        difference = float((value - golden).abs().max()) if golden.numel() else 0.0
        self.largest[kind] = max(difference, self.largest.get(kind, 0.0))
        self.compared.add(key)
        torch.testing.assert_close(
            value, golden, rtol=rtol, atol=atol, msg=lambda found: f"{self.name}: {key}\n{found}"
        )

    def same(self, value, key, through=lambda golden: golden):
        """Assert that counts, classes or a mask are exactly the golden array `key`."""
        self.close("exact", value, key, rtol=0, atol=0, through=through)

    def close_attack(self, x_adv, key="f64/x_adv", **through):
        """Compare adversarial images."""
        self.close("attack", x_adv, key, rtol=0, atol=1e-9, **through)

    def close_parameters(self, model, where, kind="parameters"):
        """Compare all parameters, or all gradients, with the arrays of the folder `where`."""
        for name, parameter in model.named_parameters():
            value = parameter.grad if kind == "gradients" else parameter
            self.close(kind, value, f"f64/{where}/{name}", rtol=1e-7, atol=1e-10)

    def close_buffers(self, buffers, where):
        """Compare all BatchNorm buffers with the arrays of the folder `where`."""
        for name, buffer in buffers.items():
            self.close("BatchNorm", buffer, f"f64/{where}/{name}")

    def close_update(self, model, seen):
        """Compare all gradients of a step, the BatchNorm buffers at that time and all train-mode outputs."""
        self.close("losses", seen["loss"], "f64/loss_total")
        self.close_parameters(model, "grad", "gradients")
        self.close_buffers(seen["buffers"], "bn_after_loss")
        for key, output in zip(self.keys("f64/logits_train_"), seen["outputs"], strict=True):
            self.close("logits", output, key)

    def close_step(self, model, seen):
        """Compare the attack and the update of one step."""
        self.close_attack(seen["x_adv"])
        self.close_update(model, seen)

    def assert_compared(self, patterns):
        """Assert that every output matching one of `patterns` was compared, unless it is in EXEMPT."""
        exempt = matching(self.keys("f64/"), EXEMPT.get(self.name, ()))
        missing = matching(self.keys("f64/"), patterns) - exempt - self.compared
        assert not missing, f"{self.name}: not compared: {sorted(missing)}"
        assert not exempt & self.compared, f"{self.name}: compared, though exempt: {exempt & self.compared}"


def matching(keys, patterns):
    """Those of `keys` that match one of `patterns`, which leave out the f64/."""
    return {key for key in keys if any(fnmatchcase(key, f"f64/{pattern}") for pattern in patterns)}


def validated(case, objective, model, draws, budget=None):
    """fairbench's measurements on the recorded held-out batches, one draw each, and the attacked images."""
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


def watch(model, objective):
    """A list that gets, for each step, what it computes: adversary, terms, buffers and train-mode outputs.

    Outputs and buffers are those of the last `loss` of the step, at the time of backward, and the
    outputs after it; the attack's own are left out.
    """
    steps, perturb, loss = [], objective.perturb, objective.loss

    def watched_perturb(model, batch, ctx):
        steps.append({})
        steps[-1]["x_adv"] = perturb(model, batch, ctx)
        return steps[-1]["x_adv"]

    def watched_loss(model, batch, x_adv, ctx):
        steps[-1]["outputs"] = []
        steps[-1]["terms"] = loss(model, batch, x_adv, ctx)
        steps[-1]["buffers"] = {name: buffer.clone() for name, buffer in model.named_buffers()}
        return steps[-1]["terms"]

    def watched_forward(module, inputs, output):
        if module.training and steps and "outputs" in steps[-1]:
            steps[-1]["outputs"].append(output.detach())

    objective.perturb, objective.loss = watched_perturb, watched_loss
    model.register_forward_hook(watched_forward)
    return steps


def one_step(case, objective, model, ctx, lr=0.0, weight_decay=0.0, awp=None):
    """Run fairbench's training step and hand back what it saw, with the loss and the statistics.

    As in training, an attack in eval mode meets the folded twin of the network.
    """
    attacked = None
    if objective.resolved_needs().attack_bn == "eval":
        twin = FoldedTwin(model, case.x)
        twin.refresh()
        attacked = twin.network
    steps = watch(model, objective)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    totals = EpochTotals(case.num_classes, objective.resolved_needs().epoch_stats, CPU)
    loss = training_step(
        model, objective, optimizer, case.batch(), ctx, totals, check=True, awp=awp, attacked=attacked
    )
    (seen,) = steps
    return {**seen, "loss": loss, "stats": totals.stats()}


def given_weights(case):
    """DAFA's class weights from the recorded predictions, by fairbench's rule."""
    similarity = classes.class_means(
        case.tensor("given/memory_probs"), case.tensor("given/memory_labels").long(), case.num_classes
    )
    case.close("class values", similarity, "f64/class_similarity")
    return classes.distance_aware_weights(similarity, case.hyper["lambda"])


def golden(*names, covers=("*",)):
    """Run a test once for each of these golden files, as its argument `case`.

    The test has to compare every output of the file that matches one of the patterns in `covers`.
    """

    def marked(test):
        @functools.wraps(test)
        def complete(*, case, **others):
            test(case=case, **others)
            case.assert_compared(covers)

        CLAIMED.extend((name, covers) for name in names)
        return pytest.mark.parametrize("case", names, indirect=True)(complete)

    return marked
