"""The precision of training: part of a cell where it is not PyTorch's, and refused where it cannot be had."""

import pytest
import torch

from fairbench.core.errors import ConfigError, EnvironmentFault
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.registry import load_registry
from fairbench.runner import device as device_module
from fairbench.runner.device import check_precision
from fairbench.training.precision import arithmetic, computing

REGISTRY = load_registry()


def cells(tmp_path, precision=None):
    overrides = {} if precision is None else {"protocol": {"precision": precision}}
    selection = Selection(suite="quickstart", methods=("trades",), seeds=(0,), overrides=overrides)
    return resolve(selection, REGISTRY, tmp_path)[0]


def test_the_default_is_not_written_into_a_cell_so_that_older_ones_keep_their_names(tmp_path):
    (plain,), (asked,) = cells(tmp_path), cells(tmp_path, "torch")
    assert plain.id == asked.id
    assert "precision" not in plain.identity["protocol"]
    assert plain.training_protocol.precision == "torch"


@pytest.mark.parametrize(
    ("device", "capability", "default"),
    [
        ("cpu", None, "fp32"),
        ("cuda", (7, 5), "fp32"),
        ("cuda", (8, 0), "tf32-conv"),
        ("cuda", (9, 0), "tf32-conv"),
    ],
)
def test_the_default_computes_as_pytorch_does_on_the_device(monkeypatch, device, capability, default):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    where = torch.device(device)
    assert arithmetic("torch", where) == default
    for precision in ("fp32", "tf32", "bf16"):
        assert arithmetic(precision, where) == precision
    check_precision("torch", where)


@pytest.mark.parametrize(
    ("chosen", "products", "convolutions"),
    [("fp32", False, False), ("tf32-conv", False, True), ("tf32", True, True), ("bf16", False, False)],
)
@pytest.mark.parametrize("before", [False, True])
def test_computing_sets_what_may_use_tf32_and_puts_it_back(chosen, products, convolutions, before):
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    own = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = before
        with computing(chosen):
            assert [backend.allow_tf32 for backend in backends] == [products, convolutions]
        assert [backend.allow_tf32 for backend in backends] == [before, before]
    finally:
        for backend, was in zip(backends, own, strict=True):
            backend.allow_tf32 = was


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_another_precision_is_another_cell(tmp_path, precision):
    (plain,), (other,) = cells(tmp_path), cells(tmp_path, precision)
    assert plain.id != other.id
    assert plain.entry != other.entry  # so that its price is measured apart
    assert other.training_protocol.precision == precision


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"protocol\.precision"):
        cells(tmp_path, "fp16")


def test_tf32_is_refused_on_a_cpu():
    with pytest.raises(EnvironmentFault, match="tf32 is for NVIDIA GPUs"):
        check_precision("tf32", torch.device("cpu"))


@pytest.mark.parametrize(("has", "lines"), [(True, 0), (False, 1)])
def test_bf16_on_a_cpu_says_when_it_is_slow(monkeypatch, caplog, has, lines):
    monkeypatch.setattr(device_module, "has_bf16_units", lambda: has)
    check_precision("bf16", torch.device("cpu"))
    assert len(caplog.messages) == lines
    check_precision("fp32", torch.device("cpu"))
    assert len(caplog.messages) == lines
