"""AutoAttack and A3 compared with the reference package on one model: verdicts, passes and time.

    python benchmarks/attacks.py CHECKPOINT --model cnn-small --dataset cifar10 --images 500 --eps 8/255

All engines attack the same block of images in turn, in an order that rotates from block to block, so that
other work on the machine slows all of them alike. Times are processor seconds of this process on one thread;
the ratio is the median over blocks. The reference runs as usual: the parameters require gradients.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pyautoattack import AutoAttack as Package

from fairbench.data.images import ImageSet, load_images, to_unit
from fairbench.data.manifest import data_root
from fairbench.evaluation.evaluate import evaluate
from fairbench.evaluation.external_checkpoint import read_checkpoint
from fairbench.models.build import build_model
from fairbench.models.checkpoints import load_weights
from fairbench.registry import A3Attack, AutoAttack, load_registry
from fairbench.registry.fields import parse_fraction

NORMS = {"linf": "Linf", "l2": "L2"}


class Counted(torch.nn.Module):
    """A model that counts images in forward passes and, if they require a gradient, one backward pass."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.forwards += len(x)
        self.backwards += len(x) * (torch.is_grad_enabled() and x.requires_grad)
        return self.model(x)


def reference(model, images: ImageSet, attack, seed: int, batch: int):
    """(correct, forwards, backwards) of the package's standard version."""
    counted = Counted(model).eval()
    x = to_unit(images.images)
    norm = NORMS[attack.norm]
    package = Package(counted, norm=norm, eps=attack.eps, version="standard", seed=seed, device="cpu")
    targets = min(attack.num_targets, images.num_classes - 1)
    package.apgd_targeted.n_target_classes = package.fab.n_target_classes = targets
    package.square.n_queries = attack.num_queries
    x_adv, _ = package.run_standard_evaluation(x, images.labels, batch_size=batch)
    with torch.no_grad():
        correct = (model(x_adv).argmax(1) == images.labels).numpy()
    return correct, counted.forwards, counted.backwards


def ours(model, images: ImageSet, attack, batch: int):
    """(correct, forwards, backwards) of fairbench's engine."""
    outcome = evaluate(model, images, attack, batch_size=batch)
    stages = outcome.about["stages"]
    return outcome.correct, *(sum(stage[k] for stage in stages) for k in ("forward", "backward"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--block", type=int, default=100)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--eps", default="8/255")
    parser.add_argument("--norm", choices=sorted(NORMS), default="linf")
    parser.add_argument("--targets", type=int, default=9, help="of AutoAttack; fewer for large networks")
    parser.add_argument("--queries", type=int, default=5000, help="of Square; fewer for large networks")
    parser.add_argument(
        "--engines",
        default="reference,autoattack,a3,reference-seed-1",
        help="of reference, autoattack, autoattack-fast, a3; NAME-seed-N sets a seed",
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    registry = load_registry()
    dataset = registry.get("dataset", given.dataset)
    everything = load_images(given.dataset, "test", root=data_root(given.data), reader=dataset.reader)
    chosen = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))[: given.images]
    images = replace(everything, images=everything.images[chosen], labels=everything.labels[chosen])
    target = registry.get("model", given.model).target
    model = build_model(target, images.num_classes, images.image_shape, seed=0)
    load_weights(model, read_checkpoint(given.checkpoint), str(given.checkpoint))
    model.eval()
    eps, norm = float(parse_fraction(given.eps)), given.norm
    common = {"eps": eps, "norm": norm}
    abridged = {"num_targets": given.targets, "num_queries": given.queries}
    exact = AutoAttack(name="autoattack", kind="autoattack", **common, **abridged)
    attacks = {
        "autoattack": exact,
        "autoattack-fast": exact.model_copy(update={"precision": "bfloat16"}),
        "a3": A3Attack(name="a3", kind="a3", **common),
    }

    def run(name: str, part: ImageSet):
        engine, _, seed = name.partition("-seed-")
        if engine == "reference":
            return reference(model, part, exact, int(seed or 0), given.batch)
        return ours(model, part, attacks[engine].model_copy(update={"seed": int(seed or 0)}), given.batch)

    names = given.engines.split(",")
    correct = {name: [] for name in names}
    work = {name: np.zeros(2) for name in names}
    seconds = {name: [] for name in names}
    for number, first in enumerate(range(0, given.images, given.block)):
        part = replace(
            images,
            images=images.images[first : first + given.block],
            labels=images.labels[first : first + given.block],
        )
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            began = time.process_time()
            verdict, *passes = run(name, part)
            seconds[name].append(time.process_time() - began)
            correct[name].append(verdict)
            work[name] += passes
        print(f"block {number + 1}: " + ", ".join(f"{n} {seconds[n][-1]:.1f} s" for n in names), flush=True)
    joined = {name: np.concatenate(correct[name]) for name in names}
    clean = evaluate(model, images, None).correct
    print(
        f"\n{given.model} on {given.dataset}: {len(clean)} images, clean {100 * clean.mean():.2f} %, "
        f"{norm} {eps:.4g}, blocks of {given.block}, one thread, torch {torch.__version__}"
    )
    first = names[0]
    row = "{:18}{:>10}{:>10}{:>10}{:>11}{:>11}{:>9}{:>8}"
    print(row.format("engine", "robust %", "only it", f"{first}", "F/image", "B/image", "CPU s", "ratio"))
    for name in names:
        here, there = joined[name], joined[first]
        ratio = statistics.median(a / b for a, b in zip(seconds[first], seconds[name], strict=True))
        numbers = [f"{100 * here.mean():.2f}", int((~here & there).sum()), int((here & ~there).sum())]
        numbers += [f"{count / len(here):.1f}" for count in work[name]]
        print(row.format(name, *numbers, f"{sum(seconds[name]):.1f}", f"{ratio:.2f}"))
    print(f"only it, {first}: images that only this engine or only {first} breaks")
    print(f"ratio: time of {first} divided by the time of the engine")


if __name__ == "__main__":
    main()
