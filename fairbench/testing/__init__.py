"""The kit for whoever writes a method: toy data and models, the laws of the contract, a test class.

A third party's whole test file:

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
