"""Learning rates of the published protocols."""

import pytest

from fairbench.registry import load_registry
from fairbench.training.schedule import learning_rate


@pytest.fixture(scope="module")
def registry():
    return load_registry()


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("trix-150", {1: 0.1, 139: 0.1, 140: 0.01, 144: 0.01, 145: 0.001, 150: 0.001}),
        ("dafa-110", {1: 0.1, 99: 0.1, 100: 0.01, 104: 0.01, 105: 0.001, 110: 0.001}),
        ("trades-76", {1: 0.1, 74: 0.1, 75: 0.01, 76: 0.01}),
        ("madry-200", {1: 0.1, 100: 0.1, 101: 0.01, 150: 0.01, 151: 0.001, 200: 0.001}),
    ],
)
def test_rates_of_the_published_protocols(registry, name, rates):
    protocol = registry.get("protocol", name)
    assert {epoch: learning_rate(protocol, epoch) for epoch in rates} == pytest.approx(rates)


@pytest.mark.parametrize(
    "name", ["trix-150", "dafa-110", "trades-76", "madry-200", "budget-30", "quickstart"]
)
def test_rates_never_rise_and_begin_with_the_base_rate(registry, name):
    protocol = registry.get("protocol", name)
    rates = [learning_rate(protocol, epoch) for epoch in range(1, protocol.epochs + 1)]
    assert rates[0] == protocol.optimizer.lr
    assert rates == sorted(rates, reverse=True)


def test_without_milestones_the_rate_is_constant(registry):
    protocol = registry.get("protocol", "trix-150").model_copy(update={"milestones": {}})
    assert {learning_rate(protocol, epoch) for epoch in range(1, 151)} == {0.1}
