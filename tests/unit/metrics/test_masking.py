"""Signs of masked gradients in numbers alone."""

import json
import sys
from dataclasses import asdict

import pytest

from fairbench.metrics.masking import Finding, black_box_wins, masking_gap


@pytest.mark.parametrize(
    ("white_box", "after", "flagged"), [(0.5, 0.5, False), (0.502, 0.5, False), (0.503, 0.5, True)]
)
def test_square_wins_only_by_more_than_a_fifth_of_a_point(white_box, after, flagged):
    found = black_box_wins(white_box, after)
    assert (found is not None) is flagged
    if found:
        assert "lowers the 50.30 % of the white-box attacks by 0.30 points" in found.text


@pytest.mark.parametrize(
    ("pgd", "strongest", "flagged"), [(0.5, 0.47, False), (0.55, 0.5, False), (0.59, 0.33, True)]
)
def test_a_gap_between_pgd_and_the_strongest_attack_is_flagged_above_the_threshold(pgd, strongest, flagged):
    found = masking_gap(pgd, strongest)
    assert (found is not None) is flagged
    assert masking_gap(pgd, strongest, threshold=0.3) is None
    if found:
        assert "a gap of 26.00 points" in found.text


def test_a_stronger_pgd_is_no_finding():
    assert masking_gap(0.3, 0.4) is None
    assert black_box_wins(0.3, 0.4) is None


def test_a_finding_is_plain_data():
    found = black_box_wins(1.0, 0.0)
    assert Finding(**json.loads(json.dumps(asdict(found)))) == found
    assert sys.modules[Finding.__module__].__name__ == "fairbench.metrics.masking"
