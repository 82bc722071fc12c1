"""Every output in every golden file is some test's duty, or is exempt for a reason."""

import importlib
from pathlib import Path

import pytest
from golden_case import CLAIMED, EXEMPT, FOLDER, Case, matching

for module in Path(__file__).parent.glob("test_golden_*.py"):
    if module.stem != Path(__file__).stem:
        importlib.import_module(module.stem)
importlib.import_module("test_golden")

FILES = sorted(path.stem for path in FOLDER.glob("*.npz"))


@pytest.mark.parametrize("name", FILES)
def test_every_output_is_claimed_by_a_test_or_exempt(name):
    keys = Case(name).keys("f64/")
    claimed = [pattern for file, covers in CLAIMED if file == name for pattern in covers]
    exempt = matching(keys, EXEMPT.get(name, ()))
    assert set(keys) == matching(keys, claimed) | exempt


def test_every_exemption_exempts_something():
    for name, patterns in EXEMPT.items():
        for pattern in patterns:
            assert matching(Case(name).keys("f64/"), [pattern]), f"{name}: {pattern}"


def test_an_output_that_was_not_compared_fails_the_test():
    case = Case("cfa_state")
    with pytest.raises(AssertionError, match=r"not compared: .*update0/class_eps"):
        case.assert_compared(["update0/*"])
    case.assert_compared(["nothing"])
    case.same(case.tensor("f64/update0/class_eps"), "f64/update0/class_eps")
    case.assert_compared(["update0/class_eps"])
