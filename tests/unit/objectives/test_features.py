"""Penultimate features: what the last linear layer gets, for every network and in every part of a step."""

import pytest
import torch
import toys
from exact import EVERY_COMPONENT, Base, assert_exact, broken_laws
from torch import nn
from torch.nn import functional as F

from fairbench.api import LossTerms, features, losses, method
from fairbench.core.errors import ConfigError
from fairbench.models.build import build_model
from fairbench.models.twin import FoldedTwin
from fairbench.objectives.contract import Context
from fairbench.testing.device_laws import Operations
from fairbench.training.mixed_labels import loss_terms
from fairbench.training.networks import Networks, Speedups

MODELS = {name: toys.REGISTRY.get("model", name) for name in toys.REGISTRY.names("model")}


def linear(model):
    """The last linear layer."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_of_every_registered_network_come_from_its_features(name):
    model = build_model(MODELS[name].target, 10, (3, 32, 32), seed=0).eval()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, found = features(model, x)
        assert torch.equal(logits, model(x))
        assert torch.equal(linear(model)(found), logits)
    assert found.shape == (2, linear(model).in_features)
    assert not any(module._forward_hooks for module in model.modules())


class Normalised(nn.Module):
    """A network behind a normalisation."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner((x - 0.5) / 0.25)


def test_a_wrapper_and_a_folded_twin_have_the_features_of_their_network():
    model = Normalised(toys.network()).eval()
    x = toys.batch().x
    twin = FoldedTwin(model, x)
    twin.refresh()
    (logits, found), (twin_logits, twin_found) = features(model, x), features(twin.network, x)
    assert torch.equal(logits, model(x))
    torch.testing.assert_close(twin_found, found, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(twin_logits, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_in_training_features_are_in_float32(precision):
    model, x = toys.network(), toys.batch().x
    networks = Networks(model, x, precision, Speedups())
    with networks.trained():
        trained = features(model, x)
    for logits, found in (trained, features(networks.attacked(), x)):
        assert logits.dtype == found.dtype == torch.float32
        torch.testing.assert_close(linear(model)(found), logits, rtol=0.05, atol=0.05)


def test_gradients_flow_through_both_and_the_network_runs_once():
    model, x = toys.network(), toys.batch().x.requires_grad_()
    runs = []
    model.conv1.register_forward_hook(lambda *_: runs.append(1))
    logits, found = features(model, x)
    for value in (logits, found):
        (gradient,) = torch.autograd.grad(value.square().sum(), x, retain_graph=True)
        assert gradient.abs().sum() > 0
    assert runs == [1]


def test_a_network_that_was_searched_never_waits_for_the_device():
    model, x = toys.network(), toys.batch().x
    with Networks(model, x, "bf16", Speedups.none()).trained():
        features(model, x)
        with Operations() as seen:
            features(model, x)
    assert seen.waiting == []


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = toys.network()

    def forward(self, x):
        return 2 * self.inner(x)


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.last(x).mean((2, 3))


@pytest.mark.parametrize("network", [Scaled, Convolutional])
def test_a_network_that_ends_otherwise_is_refused(network):
    with pytest.raises(ConfigError, match=f"{network.__name__} has no features") as error:
        features(network(), toys.batch().x)
    assert "nn.Linear" in error.value.hint


@method("aligned")
class Aligned(Base):
    """PGD-AT with features under attack that stay near the clean ones."""

    def loss(self, model, batch, x_adv, ctx):
        logits_adv, adversarial = features(model, x_adv)
        logits, clean = features(model, batch.x)
        return LossTerms(
            robust=losses.cross_entropy(logits_adv, batch.y),
            distance=1 - F.cosine_similarity(clean, adversarial),
            logits=logits,
            logits_adv=logits_adv,
        )


@EVERY_COMPONENT
def test_a_loss_on_features_is_exact(tmp_path, components):
    assert_exact(tmp_path, Aligned, components)


def test_both_labels_of_a_mixed_image_have_the_features_of_one_run():
    objective, model, given = toys.configured(Aligned), toys.network(), toys.mixed(0.7)
    ctx: Context = toys.context()
    terms = loss_terms(objective, model, given, given.x, ctx, check=True)
    assert int(model.bn1.num_batches_tracked) == 2
    plain = objective.loss(toys.network(), given, given.x, ctx)
    torch.testing.assert_close(terms.terms["distance"], plain.terms["distance"])


def test_the_method_keeps_every_law():
    assert broken_laws(Aligned) == {}
