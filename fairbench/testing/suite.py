"""A test class for third parties: the laws on one method, one test each."""

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
    """A registered name, or a .py file beside the test's own."""
    registry: ClassVar[Sequence[str]] = ()
    """Registry files that the name is looked up in, relative to the test's own."""
    option_context: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings under which an option acts: {"double_step": {"base": "pgd-at"}}."""
    option_values: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Values to try for an option, where its type does not tell: {"schedule": ("0:1", "5:2")}."""

    _trials: ClassVar[dict[type, Trial]] = {}

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test per law."""
        if "law" in metafunc.fixturenames:
            metafunc.parametrize("law", list(LAWS))

    def test_contract(self, law: str) -> None:
        """The method keeps the law."""
        import pytest

        found = self.outcome(law)
        if found.state == "skipped":
            pytest.skip(found.remark)
        if found.state == "FAILED":
            told = f"{self.method}: {found.law.sentence}: {found.remark}\n{found.hint}".rstrip()
            raise AssertionError(told) from found.error

    @classmethod
    def outcome(cls, law: str) -> Outcome:
        """What the law says about the method; asked once per class."""
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
        torch.set_num_threads(1)  # networks this small only wait for each other's threads
        try:
            return cls._trials[cls].outcome(law)
        finally:
            torch.set_num_threads(threads)
