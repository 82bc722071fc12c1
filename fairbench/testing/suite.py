"""A test class for authors of methods: one test per law."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from fairbench.testing.law import Outcome, Trial
from fairbench.testing.laws import LAWS
from fairbench.testing.subjects import find


class ContractSuite:
    """The laws of the contract as pytest tests of one method.

    class TestMine(fairbench.testing.ContractSuite):
        method = "mine"
    """

    method: ClassVar[str] = ""
    """A registered name, or a .py file in the folder of the test file."""
    registry: ClassVar[Sequence[str]] = ()
    """Registry files with the method, relative to the folder of the test file."""
    option_context: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings under which an option has an effect: {"double_step": {"base": "pgd-at"}}."""
    option_values: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Values to try for an option of free text: {"schedule": ("0:1", "5:2")}."""

    _trials: ClassVar[dict[type, Trial]] = {}

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test per law."""
        if "law" in metafunc.fixturenames:
            metafunc.parametrize("law", list(LAWS))

    def test_contract(self, law: str) -> None:
        """The method keeps the law."""
        import pytest

        outcome = self.outcome(law)
        if outcome.state == "skipped":
            pytest.skip(outcome.remark)
        if outcome.state == "FAILED":
            message = f"{self.method} breaks the law {law!r} ({outcome.law.sentence}): {outcome.remark}"
            raise AssertionError(f"{message}\n{outcome.hint}".rstrip()) from outcome.error

    @classmethod
    def outcome(cls, law: str) -> Outcome:
        """The outcome of a law for the method; each law is tested once per class."""
        if cls not in cls._trials:
            place = Path(inspect.getfile(cls)).parent
            name = str(place / cls.method) if cls.method.endswith(".py") else cls.method
            subject = find(
                name,
                [place / file for file in cls.registry],
                option_context=cls.option_context,
                option_values=cls.option_values,
            )
            cls._trials[cls] = Trial(subject, LAWS)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the networks are too small for more
        try:
            return cls._trials[cls].outcome(law)
        finally:
            torch.set_num_threads(threads)
