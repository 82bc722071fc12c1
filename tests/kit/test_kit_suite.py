"""The test class for third parties."""

import pytest
from fairbench_methods import trades

import fairbench.testing
from fairbench.core.errors import ConfigError, PluginError, UnknownNameError
from fairbench.testing import LAWS, ContractSuite, find

PLUGIN = '''"""IDLE: one option does nothing."""

from dataclasses import dataclass

from fairbench.api import AdversarialObjective, attacks, losses, method, trades_terms


@method("idle")
class Idle(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0
        idle: float = 1.0

    def perturb(self, model, batch, ctx):
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        beta = self.config.beta if self.config.idle != 3.5 else 0.0
        return trades_terms(model, batch, x_adv, beta=beta, bn_order="adv-clean")
'''


class TestTrades(fairbench.testing.ContractSuite):
    method = "trades"


class TestTradesFromItsFile(fairbench.testing.ContractSuite):
    method = trades.__file__


class TestSecretValue(fairbench.testing.ContractSuite):
    option_values = {"idle": (3.5,)}  # noqa: RUF012 (as an author writes it)

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path_factory):
        if not type(self).method:
            path = tmp_path_factory.mktemp("plugin") / "idle.py"
            path.write_text(PLUGIN)
            type(self).method = str(path)


def test_the_suite_asks_every_law():
    class Metafunc:
        fixturenames = ("law",)

        def parametrize(self, name, values):
            self.asked = (name, values)

    metafunc = Metafunc()
    ContractSuite().pytest_generate_tests(metafunc)
    assert metafunc.asked == ("law", list(LAWS))


def test_a_broken_law_fails_its_test_with_the_advice(tmp_path):
    (tmp_path / "idle.py").write_text(PLUGIN)

    class Mine(ContractSuite):
        method = str(tmp_path / "idle.py")

    Mine().test_contract("budget")
    with pytest.raises(AssertionError, match="idle has no effect") as error:
        Mine().test_contract("options")
    assert "remove the option" in str(error.value)


def test_a_law_that_does_not_apply_skips_its_test():
    class Variant(ContractSuite):
        method = "dafa-uniform"

    with pytest.raises(pytest.skip.Exception, match="its options are those of dafa"):
        Variant().test_contract("options")


def test_settings_come_from_the_registry_and_its_files(tmp_path):
    (tmp_path / "registry.yaml").write_text(
        "version: 1\nmethods:\n  idle: {target: 'idle.py:Idle', config: {beta: 2}}\n"
        "  loud: {extends: idle, config: {idle: 3.5}}\n"
    )
    (tmp_path / "idle.py").write_text(PLUGIN)
    files = [tmp_path / "registry.yaml"]
    assert find("idle", files).config == {"beta": 2.0, "idle": 1.0}
    assert find("loud", files).config == {"beta": 2.0, "idle": 3.5}
    assert find(str(tmp_path / "idle.py"), files).config == {"beta": 2.0, "idle": 1.0}
    assert find(str(tmp_path / "idle.py")).config == {"beta": 6.0, "idle": 1.0}


def test_what_cannot_be_found_is_an_error_that_says_so(tmp_path):
    with pytest.raises(UnknownNameError, match="no method called 'trads'") as error:
        find("trads")
    assert "did you mean: trades" in error.value.hint
    with pytest.raises(PluginError, match="there is no file"):
        find(str(tmp_path / "nothing.py"))
    (tmp_path / "bad.py").write_text(PLUGIN.replace('"idle")', '"Not A Name")'))
    with pytest.raises(PluginError, match="a name is lower-case letters"):
        find(str(tmp_path / "bad.py"))
    (tmp_path / "taken.py").write_text(PLUGIN.replace('"idle")', '"trades")'))
    with pytest.raises(ConfigError, match="already defined"):
        find(str(tmp_path / "taken.py"))
    (tmp_path / "hidden.py").write_text(PLUGIN.replace("beta: float = 6.0", "beta: float = 2 * abs(-3)"))
    with pytest.raises(PluginError, match="cannot be read without running hidden"):
        find(str(tmp_path / "hidden.py"))
