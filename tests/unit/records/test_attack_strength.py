"""A number is called AutoAttack by its settings, never by its name."""

import pytest

from fairbench.records.attack_strength import STANDARD, describe_strength, is_autoattack
from fairbench.registry.attacks import AutoAttack

EXACT = AutoAttack(name="mine", kind="autoattack", eps=0.1)


def test_the_registrys_defaults_are_the_standard():
    assert all(getattr(EXACT, name) == value for name, value in STANDARD.items())
    assert is_autoattack(EXACT.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "bfloat16"}, "searched in bfloat16 and verified in float32"),
        ({"attacks": ["apgd-ce", "apgd-t"]}, "parts of AutoAttack"),
        ({"num_steps": 50}, "with other num_steps"),
        ({"num_targets": 3}, "with other num_targets"),
        ({"num_queries": 100}, "with other num_queries"),
        ({"kind": "a3"}, "by A3 alone"),
        ({"kind": "pgd"}, "by PGD alone"),
    ],
)
def test_whatever_is_abridged_is_a_bound_and_not_autoattack(change, words):
    settings = {**EXACT.model_dump(mode="json"), "name": "autoattack", **change}
    assert not is_autoattack(settings)
    sentence = describe_strength(settings)
    assert words in sentence
    assert "valid upper bound" in sentence
    assert sentence.endswith(("not AutoAttack.", "not AutoAttack standard."))


def test_the_reference_package_is_named():
    assert "exact" in describe_strength(EXACT.model_dump(mode="json"))
    reference = EXACT.model_copy(update={"engine": "reference"})
    assert "the reference package" in describe_strength(reference.model_dump(mode="json"))
