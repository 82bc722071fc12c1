"""The fixture `case`: the golden file that a test's `golden` decorator names."""

import pytest
from golden_case import Case


@pytest.fixture
def case(request, record_property):
    case = Case(request.param)
    yield case
    for kind, difference in case.largest.items():
        record_property(f"{case.name} {kind}", f"{difference:.1e}")
    if case.largest:
        print(f"PARITY {case.name} {case.largest}")
