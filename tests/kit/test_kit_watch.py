"""What the kit's own instruments see."""

import pytest
import torch

from fairbench.registry.options import Option
from fairbench.testing import toys
from fairbench.testing.device_laws import Deviceless, Operations
from fairbench.testing.option_laws import alternatives
from fairbench.testing.subjects import in_toy_epochs


def test_the_watch_sees_what_waits():
    with Operations() as seen:
        values = torch.ones(3)
        values[values > 0].sum().item()
        int(values.nonzero()[0])
    assert {"_local_scalar_dense", "nonzero", "index"} <= set(seen.waiting)
    assert seen.lines["nonzero"].startswith("test_kit_watch.py:")


def test_the_watch_sees_tensors_without_a_device_but_not_the_toys_or_single_numbers():
    with Deviceless() as seen:
        toys.batch()
        torch.zeros(())
        torch.zeros(2, device="cpu")
        torch.zeros(0)
        assert seen.lines == []
        torch.zeros(2)
    assert "torch.zeros(2)" in seen.lines[0]


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        ("bool", True, [False]),
        ("Literal['a', 'b', 'c']", "b", ["a", "c"]),
        ("typing.Literal['a', 'b'] | None", "b", [None, "a"]),
        ("float", 6.0, [3.0, 12.0, 6.1, 5.9, 0.0, 1.0, 0.5, -6.0]),
        ("float | None", None, [0.5, 2.0, 1.1, 0.9, 0.0, 1.0, -1.0]),
        ("float | None", 0.0, [None, 0.1, -0.1, 1.0, 0.5]),
        ("int", 3, [4, 2, 1, 6, 0]),
        ("list[int]", [1], []),
        ("str", "x", []),
    ],
)
def test_other_values_follow_from_the_type_of_an_option(annotation, value, expected):
    assert list(alternatives(Option("option", annotation, value), value)) == expected


def test_epochs_shrink_with_the_schedule_but_not_to_none():
    config = {"warmup_epochs": 70, "start_epoch": 1, "never_epochs": 0, "beta": 6.0, "many_epochs": 1000}
    assert in_toy_epochs(config, 150) == {
        "warmup_epochs": 1,
        "start_epoch": 1,
        "never_epochs": 0,
        "beta": 6.0,
        "many_epochs": 20,
    }
