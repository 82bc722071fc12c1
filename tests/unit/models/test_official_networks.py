"""Networks of official programs in the layouts that the programs save: they load, and the logits are equal.

Each network is written here a second time, as a function of a state dict, from the facts of its program.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fairbench.core.errors import CheckpointError
from fairbench.evaluation.external_checkpoint import read_checkpoint
from fairbench.registry import load_registry
from fairbench.runner.external_checkpoint import load_foreign, normalised, registered

Weights = dict[str, Tensor]
REGISTRY = load_registry()
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
slow = pytest.mark.slow


# ------------------------------------------------------------------ state dicts, by the names of the programs


def norm_shapes(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
    yield f"{name}.num_batches_tracked", ()


def resnet_shapes(num_classes: int, *, pre: bool, last: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """ResNet-18 of pytorch-cifar, or its PreActResNet-18 (`pre`) with or without the `last` BatchNorm."""
    yield "conv1.weight", (64, 3, 3, 3)
    if not pre:
        yield from norm_shapes("bn1", 64)
    inside = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in (0, 1):
            at = f"layer{stage}.{block}"
            yield from norm_shapes(f"{at}.bn1", inside if pre else width)
            yield f"{at}.conv1.weight", (width, inside, 3, 3)
            yield from norm_shapes(f"{at}.bn2", width)
            yield f"{at}.conv2.weight", (width, width, 3, 3)
            if inside != width:
                yield f"{at}.shortcut.0.weight", (width, inside, 1, 1)
                if not pre:
                    yield from norm_shapes(f"{at}.shortcut.1", width)
            inside = width
    if last:
        yield from norm_shapes("bn", 512)
    yield "linear.weight", (num_classes, 512)
    yield "linear.bias", (num_classes,)


def wide_shapes(num_classes: int, depth: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """WideResNet of TRADES: with `sub_block1`, a copy of the first stage that its forward does not use."""
    yield "conv1.weight", (16, 3, 3, 3)
    for stage, (inside, width) in {
        "block1": (16, 160), "sub_block1": (16, 160), "block2": (160, 320), "block3": (320, 640)
    }.items():  # fmt: skip
        for layer in range((depth - 4) // 6):
            at, entering = f"{stage}.layer.{layer}", inside if layer == 0 else width
            yield from norm_shapes(f"{at}.bn1", entering)
            yield f"{at}.conv1.weight", (width, entering, 3, 3)
            yield from norm_shapes(f"{at}.bn2", width)
            yield f"{at}.conv2.weight", (width, width, 3, 3)
            if entering != width:
                yield f"{at}.convShortcut.weight", (width, entering, 1, 1)
    yield from norm_shapes("bn1", 640)
    yield "fc.weight", (num_classes, 640)
    yield "fc.bias", (num_classes,)


def drawn(shapes: Iterator[tuple[str, tuple[int, ...]]]) -> Weights:
    """Random weights of these shapes, with statistics that matter."""
    draw = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes:
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(7)
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            weights[name] = torch.rand(shape, generator=draw) + 0.5
        else:
            scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.3
            weights[name] = torch.randn(shape, generator=draw) * scale
    return weights


# ------------------------------------------------------------------ the networks, as functions


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    scale = w[f"{name}.weight"] / (var + 1e-5).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + w[f"{name}.bias"][:, None, None]


def conv(w: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = w[f"{name}.weight"]
    return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)


def head(w: Weights, name: str, x: Tensor) -> Tensor:
    return x.mean((2, 3)) @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def resnet18(w: Weights, x: Tensor) -> Tensor:
    x = norm(w, "bn1", conv(w, "conv1", x)).clamp(min=0)
    for stage in range(1, 5):
        for block in (0, 1):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = norm(w, f"{at}.bn1", conv(w, f"{at}.conv1", x, stride)).clamp(min=0)
            out = norm(w, f"{at}.bn2", conv(w, f"{at}.conv2", out))
            if f"{at}.shortcut.0.weight" in w:
                x = norm(w, f"{at}.shortcut.1", conv(w, f"{at}.shortcut.0", x, stride))
            x = (out + x).clamp(min=0)
    return head(w, "linear", x)


def preact18(w: Weights, x: Tensor, from_input: bool = False) -> Tensor:
    x = conv(w, "conv1", x)
    for stage in range(1, 5):
        for block in (0, 1):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            first = norm(w, f"{at}.bn1", x).clamp(min=0)
            out = norm(w, f"{at}.bn2", conv(w, f"{at}.conv1", first, stride)).clamp(min=0)
            if f"{at}.shortcut.0.weight" in w:
                x = conv(w, f"{at}.shortcut.0", x if from_input else first, stride)
            x = conv(w, f"{at}.conv2", out) + x
    if "bn.weight" in w:
        x = norm(w, "bn", x).clamp(min=0)
    return head(w, "linear", x)


def wide(w: Weights, x: Tensor) -> Tensor:
    x = conv(w, "conv1", x)
    for stage in (1, 2, 3):
        layer = 0
        while f"block{stage}.layer.{layer}.conv1.weight" in w:
            at, stride = f"block{stage}.layer.{layer}", 2 if stage > 1 and layer == 0 else 1
            first = norm(w, f"{at}.bn1", x).clamp(min=0)
            out = norm(w, f"{at}.bn2", conv(w, f"{at}.conv1", first, stride)).clamp(min=0)
            x = conv(w, f"{at}.convShortcut", first, stride) if f"{at}.convShortcut.weight" in w else x
            x = conv(w, f"{at}.conv2", out) + x
            layer += 1
    return head(w, "fc", norm(w, "bn1", x).clamp(min=0))


def under(weights: Weights, prefix: str) -> Weights:
    return {f"{prefix}{name}": value for name, value in weights.items()}


def constants(place: str, mean_name: str, std_name: str) -> Weights:
    shape = (1, 3, 1, 1)
    return {
        f"{place}{mean_name}": torch.tensor(MEAN).view(shape),
        f"{place}{std_name}": torch.tensor(STD).view(shape),
    }


# ------------------------------------------------------------------ the table


class Official(NamedTuple):
    """A network of an official program, and how the program saves it."""

    model: str  # in the registry
    shapes: Callable[[], Iterator[tuple[str, tuple[int, ...]]]]
    forward: Callable[[Weights, Tensor], Tensor]
    layout: Callable[[Weights], object]
    normalize: str | None = None  # outside of the network: the user gives it
    inside: bool = False  # in the file


def res(num_classes: int = 10) -> Callable[[], Iterator[tuple[str, tuple[int, ...]]]]:
    return lambda: resnet_shapes(num_classes, pre=False, last=False)


def pre(last: bool) -> Callable[[], Iterator[tuple[str, tuple[int, ...]]]]:
    return lambda: resnet_shapes(10, pre=True, last=last)


def plain(w: Weights) -> object:
    return w


def parallel(w: Weights) -> object:
    return under(w, "module.")


def best(w: Weights) -> object:
    return {"state_dict": under(w, "module."), "test_robust_acc": 0.51, "epoch": 100}


def mair(w: Weights) -> object:
    return {"rmodel": under(w, "model.") | constants("", "mean", "std") | {"n_classes": torch.tensor(10)}}


def madry(w: Weights) -> object:
    model = constants("module.normalizer.", "new_mean", "new_std") | under(w, "module.model.")
    attacker = constants("module.attacker.normalize.", "new_mean", "new_std")
    return {"model": model | attacker | under(w, "module.attacker.model."), "epoch": 150}


def sequential(w: Weights) -> object:
    return constants("0.", "mean", "std") | under(w, "1.")


def lightning(w: Weights) -> object:
    return {"state_dict": under(w, "model."), "epoch": 3, "optimizer_states": [{"state": {}}]}


def averaged(w: Weights) -> object:
    return {"n_averaged": torch.tensor(5)} | under(w, "module.")


FAST = "preactresnet18-input-shortcut"
BARE = "preactresnet18-no-final-norm"
TABLE = {
    "TRADES, DAFA, BAT: ResNet-18": Official("resnet18", res(), resnet18, plain),
    "MART: ResNet-18": Official("resnet18", res(), resnet18, parallel),
    "WAT, 100 classes: ResNet-18": Official("resnet18", res(100), resnet18, plain),
    "FRL, WAT: PreActResNet-18": Official(BARE, pre(False), preact18, plain),
    "FRL on several GPUs: PreActResNet-18": Official(BARE, pre(False), preact18, parallel),
    "CFA, robust_overfitting, AWP: PreActResNet-18": Official(
        "preactresnet18", pre(True), preact18, best, normalize="cifar10"
    ),
    "fast_adversarial: PreActResNet-18": Official(
        FAST, pre(True), lambda w, x: preact18(w, x, True), plain, normalize="cifar10"
    ),
    "MAIR: ResNet-18": Official("resnet18", res(), resnet18, mair, inside=True),
    "MadryLab: ResNet-18": Official("resnet18", res(), resnet18, madry, inside=True),
    "Sequential(Normalize, ResNet-18)": Official("resnet18", res(), resnet18, sequential, inside=True),
    "Lightning: ResNet-18": Official("resnet18", res(), resnet18, lightning),
    "AveragedModel: PreActResNet-18": Official("preactresnet18", pre(True), preact18, averaged),
    "torch.compile: ResNet-18": Official("resnet18", res(), resnet18, lambda w: under(w, "_orig_mod.")),
}
TABLE["TRADES: WRN-34-10"] = Official("wrn-34-10", lambda: wide_shapes(10, 34), wide, plain)
WIDE = {
    "MART, AWP: WRN-34-10": Official("wrn-34-10", lambda: wide_shapes(10, 34), wide, best),
    "DAFA: WRN-28-10": Official("wrn-28-10", lambda: wide_shapes(10, 28), wide, parallel),
}


@pytest.mark.parametrize("name", [*TABLE, *(pytest.param(name, marks=slow) for name in WIDE)], ids=str)
def test_checkpoints_of_official_programs_load_and_give_their_logits(tmp_path, name):
    official = (TABLE | WIDE)[name]
    weights = drawn(official.shapes())
    torch.save(official.layout(weights), tmp_path / "w.pt")
    architecture = registered(REGISTRY.get("model", official.model))
    num_classes = next(len(value) for key, value in weights.items() if key in ("linear.bias", "fc.bias"))
    model = architecture.build(num_classes, (3, 32, 32))
    chosen = load_foreign(model, read_checkpoint(tmp_path / "w.pt"), architecture)
    model, _ = normalised(model, chosen, official.normalize, 3)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    z = x
    if official.normalize or official.inside:
        z = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        logits, expected = model.eval()(x), official.forward(weights, z)
    assert expected.std() > 0.1
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_the_three_preact_networks_are_told_apart():
    x = torch.rand(2, 3, 32, 32)
    weights = drawn(pre(True)())
    with torch.no_grad():
        assert not torch.allclose(preact18(weights, x), preact18(weights, x, True), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("name", ["FRL, WAT: PreActResNet-18", "MAIR: ResNet-18"])
def test_the_right_network_is_named_for_weights_of_another(tmp_path, name):
    official = TABLE[name]
    torch.save(official.layout(drawn(official.shapes())), tmp_path / "w.pt")
    architecture = registered(REGISTRY.get("model", "preactresnet18"))
    model = architecture.build(10, (3, 32, 32))
    with pytest.raises(CheckpointError, match="another architecture") as caught:
        load_foreign(model, read_checkpoint(tmp_path / "w.pt"), architecture)
    assert f"its names are those of: --model {official.model}\n" in caught.value.hint
