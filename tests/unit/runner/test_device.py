"""The names of devices, and which of them this process can use."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench.core.devices import NAMES, parse_device
from fairbench.core.errors import ConfigError, EnvironmentFault
from fairbench.runner.device import choose_device, visible_gpus


@given(st.integers(0, 9999), st.sampled_from(["cuda:{}", "CUDA:{}", " cuda:{} "]))
def test_a_gpu_has_a_number(number, spelling):
    assert parse_device(spelling.format(number)) == ("cuda", number)


@given(st.text(max_size=12).filter(lambda text: text.strip().lower() not in NAMES))
def test_any_other_name_is_refused(text):
    with pytest.raises((ConfigError, EnvironmentFault), match="--device") as error:
        parse_device(text)
    assert "cpu" in error.value.hint


@pytest.mark.parametrize("name", ["mps", "MPS", "mps:0"])
def test_mps_is_refused_with_the_reason(name):
    with pytest.raises(EnvironmentFault, match="no float64"):
        choose_device(name)


@pytest.mark.parametrize(
    ("environment", "count", "visible"),
    [
        (None, 0, ()),
        (None, 2, ("0", "1")),
        ("", 0, ()),
        ("-1", 0, ()),
        ("3", 0, ()),
        ("2, 0", 2, ("2", "0")),
        ("0,9", 1, ("0",)),
        ("GPU-1a2b", 1, ("GPU-1a2b",)),
    ],
)
def test_a_gpu_is_visible_if_torch_can_use_it(monkeypatch, environment, count, visible):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if environment is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", environment)
    assert visible_gpus() == visible
    for name in ("cuda", f"cuda:{count}"):
        if name == "cuda" and visible:
            continue
        with pytest.raises(EnvironmentFault) as error:
            choose_device(name)
        assert environment is None or f"CUDA_VISIBLE_DEVICES={environment}" in error.value.message
        assert all(gpu in error.value.message for gpu in visible)


def test_a_gpu_is_chosen_by_its_number(monkeypatch):
    chosen = []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_device("cuda:2") == torch.device("cuda", 2)
    assert chosen == [2]
    assert choose_device("cuda") == torch.device("cuda")
