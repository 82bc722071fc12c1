"""A results folder to fill."""

import pytest
from results_builder import ResultsBuilder


@pytest.fixture
def results(tmp_path):
    return ResultsBuilder(tmp_path / "results")
