"""Steps captured once and replayed: the same training, bit for bit, or a reason why not."""

import logging
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
import toys
from toy_training import (
    COMPONENTS,
    Asks,
    Repeats,
    Silent,
    half_kept,
    listening,
    protocol,
    rows,
    toy_teachers,
    weights,
)

from fairbench.core import stopping
from fairbench.data.stream import CropFlip
from fairbench.models.checkpoints import read_tensors
from fairbench.records.run_folder import RunFolder
from fairbench.training import cuda_graphs
from fairbench.training import networks as networks_module
from fairbench.training.cuda_graphs import CudaGraphs, GraphedSteps
from fairbench.training.networks import Networks, Speedups
from fairbench.training.trainer import Trainer

IMAGES = 106  # ten steps of ten images and one of six; with half of them held out five and one of three
EPOCHS = 2
gpu = pytest.mark.gpu


@pytest.fixture(autouse=True)
def short_epochs_are_captured_too(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "WORTH_CAPTURING", 5)


class Fails(Repeats):
    def capture(self, work, draws):
        raise RuntimeError("operation not permitted when stream is capturing\nand a lot more")


def trained(
    folder,
    *,
    name="trades",
    graphs=None,
    method=None,
    device="cpu",
    speedups=None,
    components=None,
    listener=None,
    **given,
):
    """A finished training of the toy network; with `graphs`, its steps are captured."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    device = torch.device(device)
    images = toys.images(IMAGES).to(device)
    options = {"warmup_epochs": 1} if "warmup_epochs" in toys.REGISTRY.method_config(name) else {}
    objective = method or toys.configured(toys.plugin(name), device=device, **options)
    components = dict(components or {})
    if objective.resolved_needs().validation is not None or "averaging" in components:
        components.setdefault("keep", half_kept(images.to("cpu")))
    found = Trainer(
        model=toys.network(4).to(device),
        objective=objective,
        images=images,
        protocol=protocol(epochs=EPOCHS, milestones={}, **given),
        augmentation=CropFlip(crop_padding=1, flip=True),
        seed=0,
        run_folder=RunFolder(folder),
        listener=listener or Silent(),
        speedups=speedups or Speedups(),
        teachers=toy_teachers(objective, device),
        **components,
    )
    if graphs is not None:
        found.steps.graphed = GraphedSteps(graphs, found.protocol.batch_size)
    found.run()
    return found


def assert_same(one, other):
    toys.assert_same(weights(one, EPOCHS), weights(other, EPOCHS))
    assert rows(one) == rows(other)


@pytest.mark.parametrize("name", toys.METHODS)
def test_captured_steps_are_the_plain_ones(tmp_path, name):
    graphs = Repeats()
    trained(tmp_path / "plain", name=name)
    trained(tmp_path / "graphs", name=name, graphs=graphs)
    assert_same(tmp_path / "plain", tmp_path / "graphs")
    assert graphs.captured == EPOCHS  # once in each epoch


def test_all_but_the_checked_the_watched_and_the_odd_steps_are_replayed(tmp_path):
    graphs = Repeats()
    found = trained(tmp_path, graphs=graphs)
    assert graphs.replayed == EPOCHS * (10 - 2)
    assert found.steps.fallback_reasons == []


def stopped_and_continued(folder, **options):
    """As `trained`, with a stop among the captured steps."""
    with listening(), pytest.raises(stopping.Stopped):
        trained(folder, listener=Asks(2, 4), **options)
    about = read_tensors(folder / "checkpoints" / "resume.safetensors")[1]
    assert (about["epoch"], about["underway"]["step"]) == (1, 4)
    return trained(folder, **options)


@pytest.mark.parametrize("name", toys.METHODS)
def test_a_stop_among_captured_steps_changes_nothing(tmp_path, name):
    trained(tmp_path / "plain", name=name)
    stopped_and_continued(tmp_path / "cut", name=name, graphs=Repeats())
    assert_same(tmp_path / "plain", tmp_path / "cut")


@pytest.mark.parametrize("chosen", COMPONENTS)
def test_captured_steps_are_the_plain_ones_with_every_component(tmp_path, chosen):
    graphs = Repeats()
    trained(tmp_path / "plain", components=COMPONENTS[chosen])
    trained(tmp_path / "graphs", components=COMPONENTS[chosen], graphs=graphs)
    assert_same(tmp_path / "plain", tmp_path / "graphs")
    assert graphs.replayed


def test_short_epochs_are_not_worth_capturing(tmp_path):
    graphs = Repeats()
    found = trained(tmp_path, graphs=graphs, batch_size=40)
    assert not graphs.captured
    assert not found.steps.fallback_reasons


def altered(cls, **methods):
    return toys.configured(type("Altered", (cls,), methods))


def per_step(self, model, batch, ctx):
    return batch.x if ctx.step > 3 else Trades.perturb(self, model, batch, ctx)


def replaces(self, batch, terms, ctx):
    self.state.weight = self.state.weight * 1.01


def counts(self, batch, terms, ctx):
    self.state.seen += len(batch)


Trades, Dafa = toys.plugin("trades"), toys.plugin("dafa")


class Counting(Trades):
    @dataclass
    class State:
        seen: int = 0


FALLBACKS = {
    "reads the step": (lambda: altered(Trades, perturb=per_step), Repeats, "the method reads ctx.step"),
    "replaced state": (
        lambda: altered(Dafa, on_step_end=replaces),
        Repeats,
        "on_step_end replaces state.weight; self.state.weight.copy_(new) keeps its place",
    ),
    "numbers that change": (
        lambda: altered(Counting, on_step_end=counts),
        Repeats,
        "on_step_end changes the number state.seen",
    ),
    "cannot be captured": (
        lambda: altered(Trades),
        Fails,
        "RuntimeError: operation not permitted when stream is capturing",
    ),
}


@pytest.mark.parametrize("case", FALLBACKS)
def test_what_cannot_be_captured_runs_plainly_and_one_line_says_why(tmp_path, case, caplog):
    method, graphs, reason = FALLBACKS[case]
    trained(tmp_path / "plain", method=method())
    with caplog.at_level(logging.WARNING):
        found = trained(tmp_path / "graphs", method=method(), graphs=graphs())
    assert_same(tmp_path / "plain", tmp_path / "graphs")
    assert found.steps.fallback_reasons == [reason]
    (line,) = caplog.messages
    assert line == f"{found.objective.name}: steps of epoch 1 run one by one: {reason}"


def test_copying_a_context_does_not_read_the_step(tmp_path):
    from dataclasses import replace

    def perturb(self, model, batch, ctx):
        return Trades.perturb(self, model, batch, replace(ctx, budget=ctx.budget))

    graphs = Repeats()
    found = trained(tmp_path, method=altered(Trades, perturb=perturb), graphs=graphs)
    assert found.steps.fallback_reasons == []
    assert graphs.replayed


# The network as the attack sees it


def example(size=12):
    return toys.batch(size).x


def test_full_float32_on_a_gpu_is_not_laid_out_channels_last():
    found = {
        (kind, precision): Speedups.of(torch.device(kind), protocol(precision=precision), 100).channels_last
        for kind in ("cpu", "cuda")
        for precision in ("fp32", "tf32", "bf16")
    }
    assert [place for place, last in found.items() if not last] == [("cuda", "fp32")]


def test_bf16_computes_in_bf16_and_hands_out_float32():
    model = toys.network(4)
    seen = []
    model.conv1.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    networks = Networks(model, example(), "bf16", Speedups())
    twin = networks.attacked()
    logits = twin(example())
    with networks.trained():
        trained_logits = model(example())
    assert logits.dtype == trained_logits.dtype == torch.float32
    assert seen[-1] == torch.bfloat16
    assert model(example()).dtype == torch.float32
    assert seen[-1] == torch.float32  # outside of training nothing is left of it
    assert model.conv1.weight.dtype == torch.float32
    model.eval()
    torch.testing.assert_close(logits, model(example()), rtol=0.1, atol=0.1)


class Stubborn(torch.nn.Module):
    """A network that cannot be copied."""

    def __init__(self):
        super().__init__()
        self.inner = toys.network(4)

    def __deepcopy__(self, memo):
        raise TypeError("one of its kind")

    def forward(self, x):
        return self.inner(x)


def test_a_network_that_cannot_be_copied_is_attacked_itself(caplog):
    model = Stubborn()
    networks = Networks(model, example(), "fp32", Speedups())
    assert networks.attacked() is model
    assert "not on a folded copy: TypeError: one of its kind" in caplog.text


def test_a_network_that_cannot_be_compiled_runs_as_it_is_and_one_line_says_why(monkeypatch, caplog):
    def cannot(x):
        raise RuntimeError("backend compiler failed\nand a lot more")

    model = toys.network(4).eval()
    expected = model(example())
    monkeypatch.setattr(networks_module, "compiled", lambda run, channels_last: cannot)
    networks = Networks(model, example(), "fp32", Speedups(compiled=True, channels_last=False))
    with networks.trained():
        for _ in range(2):
            assert torch.equal(model(example()), expected)
    assert caplog.messages == ["the network runs without compilation: RuntimeError: backend compiler failed"]


# On a GPU


@gpu
@pytest.mark.parametrize("name", toys.METHODS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_train_like_plain_steps_on_cuda(tmp_path, name, precision):
    for kind, graph in (("plain", False), ("graph", True)):
        found = trained(
            tmp_path / kind, name=name, device="cuda", speedups=Speedups(graph=graph), precision=precision
        )
        assert found.steps.fallback_reasons == []
    assert_same(tmp_path / "plain", tmp_path / "graph")


@gpu
@pytest.mark.parametrize("chosen", COMPONENTS)
def test_graphs_train_like_plain_steps_on_cuda_with_every_component(tmp_path, chosen):
    for kind, graph in (("plain", False), ("graph", True)):
        found = trained(
            tmp_path / kind, components=COMPONENTS[chosen], device="cuda", speedups=Speedups(graph=graph)
        )
        assert found.steps.fallback_reasons == []
    assert_same(tmp_path / "plain", tmp_path / "graph")


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stop_among_captured_steps_changes_nothing_on_cuda(tmp_path, precision):
    fast = {"device": "cuda", "speedups": Speedups(graph=True), "precision": precision}
    trained(tmp_path / "whole", **fast)
    found = stopped_and_continued(tmp_path / "cut", **fast)
    assert found.steps.fallback_reasons == []
    assert_same(tmp_path / "whole", tmp_path / "cut")


def waits(self, model, batch, ctx):
    x_adv = Trades.perturb(self, model, batch, ctx)
    return x_adv if float(x_adv.mean()) > -1 else batch.x


@gpu
def test_a_method_that_waits_for_the_device_runs_plainly_on_cuda(tmp_path):
    for kind, graph in (("plain", False), ("graph", True)):
        method = toys.configured(type("Waits", (Trades,), {"perturb": waits}), device=torch.device("cuda"))
        found = trained(tmp_path / kind, method=method, device="cuda", speedups=Speedups(graph=graph))
    assert found.steps.fallback_reasons == ["the step waits for the device (fairbench check names the line)"]
    assert_same(tmp_path / "plain", tmp_path / "graph")


@gpu
def test_a_capture_that_fails_leaves_training_as_it_was_on_cuda(tmp_path, monkeypatch):
    trained(tmp_path / "plain", device="cuda")
    watched = contextmanager(lambda self: iter([[]]))  # blind
    monkeypatch.setattr(CudaGraphs, "watched", watched)
    method = toys.configured(type("Waits", (Trades,), {"perturb": waits}), device=torch.device("cuda"))
    found = trained(tmp_path / "graph", method=method, device="cuda", speedups=Speedups(graph=True))
    assert len(found.steps.fallback_reasons) == 1
    assert_same(tmp_path / "plain", tmp_path / "graph")


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # the compiler imports it
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=gpu)]
)
def test_a_compiled_network_is_the_plain_one_up_to_rounding(device, channels_last, caplog):
    """Function by function: over a training the attack's signs make far more of rounding."""
    x, found = example().to(device), []
    for compiled in (False, True):
        model = toys.network(4).to(device)
        networks = Networks(model, x, "fp32", Speedups(compiled=compiled, channels_last=channels_last))
        twin, images = networks.attacked(), networks.images(x).clone().requires_grad_()
        attacked = twin(images)
        (gradient,) = torch.autograd.grad(attacked.square().sum(), images)
        with networks.trained():
            trained_logits = model.train()(x)
            gradients = torch.autograd.grad(trained_logits.square().sum(), list(model.parameters()))
        found.append([attacked, gradient, trained_logits, *gradients, *model.buffers()])
    assert "not compiled" not in caplog.text
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
