"""Targeted attacks, the sweep over the radius, and the suites of the paper's figures."""

import json
from pathlib import Path

import pytest

from fairbench.core.errors import ConfigError
from fairbench.core.identity import digest
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.registry import load_registry
from fairbench.registry.attacks import PgdAttack, read_attack
from fairbench.registry.fields import identity_settings

BEFORE = {  # digests of the settings from before attacks could have a target: evaluation ids are made of them
    "pgd-20": "c8b64082ec5b",
    "pgd-20-digits": "abb668baceb3",
    "pgd-100": "c292000f8d09",
    "cw-30": "249251646505",
    "pgd-20-l2": "45c5474a68e5",
    "autoattack": "49d63c6e9ec9",
    "autoattack-digits": "7d6304d05dd7",
    "apgd": "ce6a462afc73",
    "a3": "43875ed3a0b4",
}
SWEEP = [2, 4, 6, 8, 10, 12, 16]


@pytest.fixture(scope="module")
def registry():
    return load_registry()


@pytest.mark.parametrize("name", BEFORE)
def test_the_settings_that_ids_are_made_of_are_as_before(registry, name):
    assert digest(identity_settings(registry.attacks[name])) == BEFORE[name]


def test_cells_and_evaluations_keep_their_ids(registry):
    cell = resolve(Selection(suite="quickstart"), registry, Path("/nowhere"))[0][0]
    assert [item.id for item in cell.evaluation] == ["cf61df1e"]  # since numerics 2


def test_a_target_is_part_of_the_settings_and_read_back(registry):
    settings = identity_settings(registry.attacks["pgd-20-targeted"])
    assert settings["target"] == "random"
    assert read_attack(json.loads(json.dumps(settings))) == registry.attacks["pgd-20-targeted"]
    same = identity_settings(registry.attacks["pgd-20"], exclude={"name"})
    assert {k: v for k, v in settings.items() if k not in ("name", "target")} == same


def test_a_target_for_the_margin_is_refused():
    with pytest.raises(ValueError, match="a target needs loss ce"):
        PgdAttack(name="a", kind="pgd", eps=0.1, step_size=0.1, num_steps=1, loss="margin", target="random")


def test_the_radii_of_the_sweep_differ_in_nothing_but_the_step_that_scales_with_them(registry):
    found = [registry.attacks[f"pgd-20-eps{k}"] for k in SWEEP]
    assert [attack.eps for attack in found] == [k / 255 for k in SWEEP]
    assert {attack.step_size / attack.eps for attack in found} == {1 / 8}
    assert len({digest(attack.model_dump(exclude={"name", "eps", "step_size"})) for attack in found}) == 1


@pytest.mark.parametrize("number", range(1, 6))
def test_there_is_a_suite_for_each_figure(registry, number):
    suite = registry.suites[f"figure{number}"]
    assert suite.title.startswith(f"Figure {number} of TRIX")
    assert (suite.datasets, suite.models, suite.protocol) == (("cifar10",), ("resnet18",), "trix-150")
    assert suite.evaluation


def test_an_unknown_target_is_refused(tmp_path):
    path = tmp_path / "registry.yaml"
    path.write_text(
        "version: 1\nattacks:\n  a: {kind: pgd, eps: 0.1, step_size: 0.1, num_steps: 1, target: least}\n"
    )
    with pytest.raises(ConfigError, match="target"):
        load_registry([path], entry_points=False)
