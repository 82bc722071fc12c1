"""The fixture `case`: the golden file that a test's `golden` mark names."""

import pytest
from golden_case import Case


@pytest.fixture
def case(request, record_property):
    case = Case(request.param)
    yield case
    for what, difference in case.largest.items():
        record_property(f"{case.name} {what}", f"{difference:.1e}")
    print(f"PARITY {case.name} {case.largest}")
