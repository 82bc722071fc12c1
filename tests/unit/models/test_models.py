"""The architectures: names as in the papers' checkpoints, shapes, initial weights."""

import math

import pytest
import torch
from torch import nn

from fairbench.core.errors import ConfigError
from fairbench.models import build_model
from fairbench.models.cnn import cnn_small
from fairbench.models.preactresnet import preactresnet18
from fairbench.models.resnet import resnet18
from fairbench.models.wideresnet import WideBlock, initialise, wrn_28_10

CIFAR = (3, 32, 32)
BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def on_meta(build, num_classes=10, image_shape=CIFAR):
    """The model without memory, where nothing is computed (that would import half of torch first)."""
    with torch.device("meta"):
        return build(num_classes, image_shape)


def norm(name):
    return {f"{name}.{part}" for part in BN}


def expected_resnet18():
    names = {"conv1.weight", "linear.weight", "linear.bias"} | norm("bn1")
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            at = f"layer{stage}.{block}"
            names |= {f"{at}.conv1.weight", f"{at}.conv2.weight"} | norm(f"{at}.bn1") | norm(f"{at}.bn2")
        if stage > 1:
            names |= {f"layer{stage}.0.shortcut.0.weight"} | norm(f"layer{stage}.0.shortcut.1")
    return names


def expected_preactresnet18():
    names = {"conv1.weight", "linear.weight", "linear.bias"} | norm("bn")
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            at = f"layer{stage}.{block}"
            names |= {f"{at}.conv1.weight", f"{at}.conv2.weight"} | norm(f"{at}.bn1") | norm(f"{at}.bn2")
        if stage > 1:
            names |= {f"layer{stage}.0.shortcut.0.weight"}
    return names


def expected_wrn_28_10():
    names = {"conv1.weight", "fc.weight", "fc.bias"} | norm("bn1")
    for stage in (1, 2, 3):
        for block in range(4):
            at = f"block{stage}.layer.{block}"
            names |= {f"{at}.conv1.weight", f"{at}.conv2.weight"} | norm(f"{at}.bn1") | norm(f"{at}.bn2")
        names |= {f"block{stage}.layer.0.convShortcut.weight"}
    return names


@pytest.mark.parametrize(
    ("build", "names", "count"),
    [
        (resnet18, expected_resnet18(), 11_173_962),
        (preactresnet18, expected_preactresnet18(), 11_172_170),
        (wrn_28_10, expected_wrn_28_10(), 36_479_194),
    ],
)
def test_names_and_sizes_are_those_of_the_published_checkpoints(build, names, count):
    model = build(10, CIFAR) if build is wrn_28_10 else on_meta(build)
    assert set(model.state_dict()) == names
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("build", [resnet18, preactresnet18])
@pytest.mark.parametrize(
    ("image_shape", "inputs"), [((1, 28, 28), 512), (CIFAR, 512), ((3, 64, 64), 2048), ((2, 96, 96), 4608)]
)
def test_linear_layer_sees_the_map_pooled_with_window_4(build, image_shape, inputs):
    assert on_meta(build, 7, image_shape).linear.in_features == inputs


@pytest.mark.parametrize("build", [resnet18, preactresnet18])
def test_64x64_images_reach_the_wider_head(build):
    with torch.no_grad():
        assert build(7, (3, 64, 64)).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_wrn_gives_logits_for_32x32():
    with torch.no_grad():
        assert wrn_28_10(100, CIFAR).eval()(torch.zeros(1, *CIFAR)).shape == (1, 100)


@pytest.mark.parametrize("image_shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 33, 17)])
def test_small_network_takes_any_size(image_shape):
    assert cnn_small(5, image_shape)(torch.rand(3, *image_shape)).shape == (3, 5)


def test_small_network_trains_on_a_batch_of_one_digit():
    assert torch.isfinite(cnn_small(10, (1, 8, 8)).train()(torch.rand(1, 1, 8, 8))).all()


@pytest.mark.parametrize("build", [resnet18, preactresnet18])
@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 40, 40), (3, 32, 48)])
def test_sizes_that_pooling_cannot_tile_are_refused(build, image_shape):
    with pytest.raises(ConfigError, match="window 4 does not tile") as caught:
        on_meta(build, 10, image_shape)
    assert "cnn-small" in caught.value.hint


@pytest.mark.parametrize("image_shape", [(3, 64, 64), (1, 28, 28)])
def test_wrn_refuses_other_sizes_than_32x32(image_shape):
    with pytest.raises(ConfigError, match="takes 32x32 images"):
        on_meta(wrn_28_10, 10, image_shape)


def test_wrn_blocks_start_as_in_the_original_program():
    torch.manual_seed(0)
    block = WideBlock(160, 320, 2).apply(initialise)
    for layer in (block.conv1, block.conv2, block.convShortcut):
        fan_out = layer.kernel_size[0] ** 2 * layer.out_channels
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.02)
    assert (block.bn1.weight == 1).all()
    assert (block.bn1.bias == 0).all()
    linear = nn.Linear(4, 3).apply(initialise)
    assert (linear.bias == 0).all()
    assert linear.weight.std() > 0


def naive_preact_block(block, x):
    active = block.bn1(x).clamp(min=0)
    shortcut = x if block.shortcut is None else block.shortcut(active)
    return shortcut + block.conv2(block.bn2(block.conv1(active)).clamp(min=0))


def test_preact_model_ends_with_norm_and_relu_before_pooling():
    model = preactresnet18(4, (1, 28, 28)).eval()
    nn.init.uniform_(model.bn.bias)
    x = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        out = model.conv1(x)
        for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
            for block in stage:
                out = naive_preact_block(block, out)
        out = model.bn(out).clamp(min=0).mean((2, 3))
        assert torch.allclose(model(x), model.linear(out), atol=1e-5)


SMALL = "fairbench.models.cnn:cnn_small"


def weights(seed):
    return torch.cat([p.detach().flatten() for p in build_model(SMALL, 10, (1, 8, 8), seed).parameters()])


def test_same_seed_repeats_and_another_differs():
    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_building_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    weights(3)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_do_not_depend_on_the_default_device():
    with torch.device("meta"):
        model = build_model(SMALL, 10, (1, 8, 8), 3)
    assert model.fc.weight.device.type == "cpu"


def not_a_model(num_classes, image_shape):
    return "nothing"


@pytest.mark.parametrize(
    ("target", "num_classes", "image_shape", "message"),
    [
        ("resnet18", 10, CIFAR, "not of the form"),
        ("fairbench.models.nowhere:resnet18", 10, CIFAR, "cannot be imported"),
        ("fairbench.models.resnet:resnet19", 10, CIFAR, "has no 'resnet19'"),
        (f"{__name__}:not_a_model", 10, CIFAR, "returned str"),
        (SMALL, 1, CIFAR, "at least 2 classes"),
        (SMALL, 10, (3, 0, 32), "each at least 1"),
    ],
)
def test_bad_targets_are_refused(target, num_classes, image_shape, message):
    with pytest.raises(ConfigError, match=message):
        build_model(target, num_classes, image_shape, 0)
