"""Health before any attack: a model that cannot be judged is refused, an odd one is reported."""

import sys

import pytest
import torch
import torch.nn.functional as F
import toys
from torch import nn
from torch.utils.checkpoint import checkpoint

from fairbench.attacks.frozen import frozen
from fairbench.core.errors import ConfigError, DataError
from fairbench.evaluation.health import check_model
from fairbench.models import build_model


class Around(nn.Module):
    """A settled network behind `change`, a function of the network and the images."""

    def __init__(self, change, num_classes=4):
        super().__init__()
        self.network = toys.settled(num_classes)
        self.change = change

    def forward(self, x):
        return self.change(self.network, x)


def check(model, size=24, num_classes=4):
    given = toys.batch(size, num_classes)
    with frozen(model):
        return check_model(model, given.x, given.y, num_classes)


@pytest.mark.parametrize("name", ["cnn:cnn_small", "resnet:resnet18", "preactresnet:preactresnet18"])
def test_a_network_of_ours_is_healthy(name):
    model = build_model(f"fairbench.models.{name}", 4, (3, 32, 32), seed=0)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with frozen(model):
        assert check_model(model, x, torch.arange(3), 4) == []


@pytest.mark.parametrize("num_classes", [2, 3, 10])
@pytest.mark.parametrize("size", [1, 2, 23])
def test_a_healthy_network_of_any_number_of_classes_and_images_has_no_finding(num_classes, size):
    assert check(toys.settled(num_classes), size, num_classes) == []


def test_the_model_is_left_as_it_was():
    model = toys.settled()
    before = toys.copied(model.state_dict())
    check(model)
    toys.assert_same(model.state_dict(), before)
    assert all(p.grad is None for p in model.parameters())


class Stubborn(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(True)


def test_a_module_that_stays_in_training_mode_is_refused_by_name():
    model = toys.settled()
    model.bn2 = Stubborn(8)
    with pytest.raises(ConfigError, match=r"1 modules .* for instance bn2\.") as error:
        check(model)
    assert "train(False)" in error.value.hint
    assert error.value.exit_code == 2


def test_probabilities_are_refused_and_their_logarithms_are_not():
    for num_classes in (2, 10):
        with pytest.raises(ConfigError, match="are probabilities"):
            check(Around(lambda f, x: f(x).softmax(1), num_classes), num_classes=num_classes)
    assert check(Around(lambda f, x: f(x).log_softmax(1))) == []
    assert check(Around(lambda f, x: f(x).softmax(1) * 2)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda f, x: f(x + 0.05 * torch.randn_like(x)),
        lambda f, x: F.dropout(f(x), 0.5, training=True),
        lambda f, x: f(x) + 0.01 * torch.randn(len(x), 4),
    ],
    ids=["noisy input", "dropout", "noisy output"],
)
def test_random_outputs_are_refused(change):
    with pytest.raises(ConfigError, match="different outputs for the same images"):
        check(Around(change))


class Adapting(nn.Module):
    """Moves its own statistics with every batch it sees, also in eval mode."""

    def __init__(self):
        super().__init__()
        self.network = toys.settled()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))

    def forward(self, x):
        self.mean.lerp_(x.mean((0, 2, 3), keepdim=True), 0.3)
        return self.network(x - self.mean)


def test_adaptation_at_test_time_is_refused():
    with pytest.raises(ConfigError, match="changes itself at test time"):
        check(Adapting())


@pytest.mark.parametrize(
    "change",
    [
        lambda f, x: f(F.batch_norm(x, None, None, training=True)),
        lambda f, x: f(x) - f(x).mean(0),
        lambda f, x: (
            f(x) * torch.arange(len(x)).remainder(2).add(1).unsqueeze(1)
            + torch.arange(len(x)).unsqueeze(1).eq(0) * 5 * f(x).flip(1)
        ),
    ],
    ids=["batch norm in batch mode", "centred over the batch", "position in the batch"],
)
def test_outputs_that_depend_on_the_rest_of_the_batch_are_refused(change):
    with pytest.raises(ConfigError, match="depend on the rest of the batch"):
        check(Around(change))


def test_batch_norm_without_running_statistics_is_refused():
    model = toys.network()
    model.bn1 = nn.BatchNorm2d(6, track_running_stats=False)
    with pytest.raises(ConfigError, match="depend on the rest of the batch") as error:
        check(model)
    assert "running statistics" in error.value.hint


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_refused(value):
    with pytest.raises(ConfigError, match="not finite"):
        check(Around(lambda f, x: f(x) * value))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f, x: f(x)[:, :3], r"are \(24, 3\), not one logit for each of 4 classes, \(24, 4\)"),
        (lambda f, x: f(x).unsqueeze(2), r"are \(24, 4, 1\)"),
        (lambda f, x: f(x)[:-1], r"are \(23, 4\)"),
        (lambda f, x: (f(x), x), "are tuple"),
    ],
)
def test_outputs_of_another_shape_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        check(Around(change))


@pytest.mark.parametrize(("shift", "scale"), [(0, 255), (-0.5, 1), (float("nan"), 1)])
def test_images_outside_the_unit_range_are_refused(shift, scale):
    given = toys.batch()
    with pytest.raises(DataError, match=r"not in \[0, 1\]"):
        check_model(toys.settled().eval(), given.x * scale + shift, given.y, 4)


def purify(by):
    def forward(f, x):
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            step = by(lambda inner: f(inner).logsumexp(1).sum(), z)
        return f(x + 0.01 * step)

    return forward


def by_backward(energy, z):
    energy(z).backward()
    return z.grad


DYNAMIC = {
    "backward": by_backward,
    "grad": lambda energy, z: torch.autograd.grad(energy(z), z)[0],
    "functional": lambda energy, z: torch.autograd.functional.jacobian(energy, z),
    "autograd": lambda energy, z: torch.autograd.backward(energy(z)) or z.grad,
}


SLOW = pytest.param(  # its first use imports torch's compiler
    lambda energy, z: torch.func.grad(energy)(z.detach()), id="func", marks=pytest.mark.slow
)


@pytest.mark.parametrize("by", [*(pytest.param(by, id=name) for name, by in DYNAMIC.items()), SLOW])
def test_gradients_inside_the_forward_pass_are_reported(by):
    (found,) = check(Around(purify(by)))
    assert found.name == "dynamic"
    assert "inside its forward pass" in found.text


def test_checkpointing_is_not_taken_for_a_backward_pass():
    assert check(Around(lambda f, x: checkpoint(f, x, use_reentrant=False))) == []


def test_no_trace_function_is_set_or_taken_away():
    seen = []

    def tracer(frame, event, arg):
        seen.append(event)

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        check(Around(purify(by_backward)))
        kept = sys.gettrace()
    finally:
        sys.settrace(before)
    assert kept is tracer


@pytest.mark.parametrize(
    "change",
    [
        lambda f, x: f((x * 16).round() / 16),
        lambda f, x: f(x) * 1e6,
        lambda f, x: f(torch.where(x > -1, x, (x - x).sqrt())),  # the derivative of the root at 0 is infinite
    ],
    ids=["quantised input", "saturated softmax", "not a number"],
)
def test_a_gradient_that_leads_nowhere_is_reported(change):
    (found,) = check(Around(change))
    assert found.name == "no-gradient"
    assert "of 24 images" in found.text


def test_a_forward_pass_that_is_cut_off_from_its_images_is_refused():
    model = Around(lambda f, x: f(x.detach()))
    with pytest.raises(ConfigError, match="have no gradient"):
        check(model)
    given = toys.batch()
    with pytest.raises(ConfigError, match="have no gradient"):  # with parameters that have one, too
        check_model(model.eval(), given.x, given.y, 4)


def test_only_the_images_without_gradient_are_counted():
    def forward(f, x):
        bright = (x.mean((1, 2, 3)) > 0.5).view(-1, 1, 1, 1)
        return f(torch.where(bright, x, x.detach()))

    given = toys.batch(24)
    dark = int((given.x.mean((1, 2, 3)) <= 0.5).sum())
    assert 0 < dark < 24
    (found,) = check(Around(forward))
    assert f"for {dark} of 24 images" in found.text
