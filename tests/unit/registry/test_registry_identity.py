"""What of an entry's settings is hashed into an id: a setting added later stays out while it is neutral."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import create_model

from fairbench.core.identity import digest
from fairbench.registry.attacks import read_attack
from fairbench.registry.components import COMPONENTS
from fairbench.registry.fields import Model, added_later, identity_settings

VALUES = st.one_of(st.integers(), st.booleans(), st.text(max_size=5), st.none(), st.floats(allow_nan=False))


def grown(base: type[Model], name: str, default: object) -> type[Model]:
    """`base` with one more setting, as the next version of fairbench may have it."""
    return create_model("Grown", __base__=base, **{name: (object, added_later(default))})


# Augment and Averaging list the options of each kind; an option that is not set stays out there as None.
@pytest.mark.parametrize("base", [COMPONENTS[name] for name in ("hold_out", "awp", "fine_tune")])
@given(default=VALUES, other=VALUES)
def test_a_new_setting_changes_an_identity_only_when_it_is_used(base, default, other):
    required = {"start": "trades"} if base is COMPONENTS["fine_tune"] else {}
    before = identity_settings(base(**required))
    cls = grown(base, "new_setting", default)
    assert identity_settings(cls(**required)) == before
    assert identity_settings(cls(**required, new_setting=default)) == before
    used = identity_settings(cls(**required, new_setting=other))
    assert ("new_setting" in used) == (other != default)


@given(default=VALUES)
def test_a_new_setting_inside_a_section_stays_out_too(default):
    class Section(Model):
        old: int = 1

    section = grown(Section, "new_setting", default)
    outer: type[Model] = create_model("Outer", __base__=Model, section=(section, section()))
    assert identity_settings(outer()) == {"section": {"old": 1}}


def test_the_target_of_an_attack_is_younger_than_the_ids_of_attacks():
    settings = {"name": "pgd", "kind": "pgd", "eps": 0.1, "step_size": 0.01, "num_steps": 2}
    assert "target" not in identity_settings(read_attack(settings))
    targeted = identity_settings(read_attack({**settings, "target": "random"}))
    assert targeted["target"] == "random"
    assert digest(targeted) != digest(identity_settings(read_attack(settings)))
