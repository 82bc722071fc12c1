"""Tests for authors of methods: the laws of the contract, a test class, toy images and networks.

The complete test file of a method:

    import fairbench.testing

    class TestMine(fairbench.testing.ContractSuite):
        method = "mine"
"""

from fairbench.testing.law import Law, Outcome, Subject, Trial
from fairbench.testing.laws import LAWS
from fairbench.testing.subjects import find, registered, subject
from fairbench.testing.suite import ContractSuite
from fairbench.testing.training import Training

__all__ = [
    "LAWS",
    "ContractSuite",
    "Law",
    "Outcome",
    "Subject",
    "Training",
    "Trial",
    "find",
    "registered",
    "subject",
]
