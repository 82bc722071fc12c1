"""The twin that attacks meet: the function of the network in eval mode, with less arithmetic."""

import copy

import pytest
import torch
import toys
from torch import nn

from fairbench.models import twin as twin_module
from fairbench.models.build import build_model
from fairbench.models.twin import FoldedTwin, SkippingConv2d, WideConv2d
from fairbench.registry import load_registry

REGISTRY = load_registry()
SHAPE = (3, 32, 32)


def network(name):
    """A registered network in float64 whose BatchNorms have seen images."""
    model = build_model(REGISTRY.get("model", name).target, 5, SHAPE, seed=0).double()
    model.train()(images(1))
    return model


def images(seed, size=2):
    return torch.rand(size, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_same_function(one, other, x):
    """Logits, and the gradient with respect to the images, agree up to rounding in float64."""
    x = x.clone().requires_grad_()
    logits = [one(x), other(x)]
    torch.testing.assert_close(*logits, rtol=1e-9, atol=1e-11)
    gradients = [torch.autograd.grad(out.square().sum(), x)[0] for out in logits]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("on_gpu", [False, True], ids=["plain", "for tensor cores"])
@pytest.mark.parametrize(
    ("name", "folded"), [("cnn-small", "all"), ("resnet18", "all"), ("preactresnet18", "some")]
)
def test_a_twin_is_its_network_after_each_update(monkeypatch, name, folded, on_gpu):
    model = network(name)
    if on_gpu:  # the exchanges made for a GPU are the same function anywhere
        monkeypatch.setattr(twin_module, "suits_tensor_cores", lambda example: True)
    twin = FoldedTwin(model, images(0))
    for seed in (2, 3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.05)
            model.train()(images(seed))  # moves the statistics
        twin.refresh()
        assert_same_function(twin.network, model.eval(), images(seed + 10))
    left = sum(isinstance(module, nn.BatchNorm2d) for module in twin.network.modules())
    assert (left == 0) == (folded == "all")
    kinds = {type(module) for module in twin.network.modules()}
    assert (WideConv2d in kinds) == on_gpu
    assert (SkippingConv2d in kinds) == (on_gpu and name != "cnn-small")
    assert not any(parameter.requires_grad for parameter in twin.network.parameters())


def test_a_twin_leaves_its_network_alone():
    model = network("cnn-small")
    before = toys.copied(model.state_dict())
    FoldedTwin(model, images(0)).refresh()
    toys.assert_same(before, model.state_dict())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.training


class Undecided(nn.Module):
    """A network that cannot be traced."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = self.norm(self.conv(x))
        if x.mean() > 100:
            x = x / 2
        return self.fc(x.mean((2, 3)))


def test_what_cannot_be_traced_is_copied_as_it_is():
    model = Undecided().double()
    twin = FoldedTwin(model, images(0))
    with torch.no_grad():
        model.conv.weight.mul_(2)
        model.train()(images(1))
    twin.refresh()
    assert twin.pairs == []
    assert_same_function(twin.network, model.eval(), images(2))


def test_in_bfloat16_convolutions_and_products_hold_bfloat16_and_statistics_float32():
    model = copy.deepcopy(network("preactresnet18")).float()
    twin = FoldedTwin(model, images(0).float(), torch.bfloat16)
    twin.refresh()
    for module in twin.network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.weight.dtype == torch.bfloat16
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var.dtype == module.weight.dtype == torch.float32
