"""Every registered method keeps every law of the contract."""

import pytest

from fairbench.registry import load_registry
from fairbench.testing import LAWS, Trial
from fairbench.testing.subjects import subject

REGISTRY = load_registry()
METHODS = [  # an augmentation is a component of the trainer: the laws do not test it
    name for name in REGISTRY.names("method") if REGISTRY.get("method", name).augment is None
]
TRIALS: dict[str, Trial] = {}  # a law is asked once per method


@pytest.mark.parametrize("law", list(LAWS))
@pytest.mark.parametrize("name", METHODS)
def test_every_registered_method_keeps_every_law(name, law):
    if name not in TRIALS:
        TRIALS[name] = Trial(subject(REGISTRY, name), LAWS)
    found = TRIALS[name].outcome(law)
    if found.state == "skipped":
        pytest.skip(found.remark)
    assert found.state == "ok", f"{found.law.sentence}: {found.remark}\n{found.hint}"


@pytest.mark.parametrize("name", METHODS)
def test_only_the_options_of_a_variant_are_skipped(name):
    skipped = [law for law in LAWS if TRIALS[name].outcome(law).state == "skipped"]
    assert skipped == ([] if REGISTRY.get("method", name).extends is None else ["options"])
