"""Attacks by name, with another radius or seed."""

import pytest

from fairbench.core.errors import ConfigError
from fairbench.planning.attack_choice import choose_attacks, default_attack
from fairbench.registry import load_registry


@pytest.fixture(scope="module")
def registry():
    return load_registry(())


def test_attacks_are_the_registrys_when_nothing_is_changed(registry):
    chosen = choose_attacks("pgd-20,autoattack", registry)
    assert chosen == {name: registry.get("attack", name) for name in ("pgd-20", "autoattack")}


def test_the_step_size_of_pgd_is_scaled_with_its_radius(registry):
    own = registry.get("attack", "pgd-20")
    changed = choose_attacks("pgd-20", registry, eps="4/255")["pgd-20"]
    assert changed.eps == 4 / 255
    assert changed.step_size == pytest.approx(own.step_size * changed.eps / own.eps)
    assert changed.num_steps == own.num_steps


def test_a_seed_changes_nothing_else(registry):
    own = registry.get("attack", "pgd-20")
    assert choose_attacks("pgd-20", registry, seed=3)["pgd-20"] == own.model_copy(update={"seed": 3})


def test_a_radius_that_cannot_be_names_the_option(registry):
    with pytest.raises(ConfigError, match=r"--eps 8: eps is in units of \[0, 1\]"):
        choose_attacks("pgd-20", registry, eps="8")


def test_the_default_attack_has_the_radius_of_the_data_set(registry):
    for name in registry.names("dataset"):
        defaults = registry.get("dataset", name).defaults
        attack = registry.get("attack", default_attack(registry, name))
        assert attack.kind == "pgd"
        assert attack.eps == pytest.approx(registry.get("protocol", defaults.protocol).threat.eps, rel=0.02)
