"""The registry that ships, read once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairbench.planning.overrides import parse_overrides
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.records.cell import Cell
from fairbench.registry import Registry, load_registry


@pytest.fixture(scope="session")
def registry() -> Registry:
    return load_registry([])


@pytest.fixture
def plan(registry: Registry) -> Callable[..., list[Cell]]:
    """The cells of the quickstart, or of what is chosen instead; `set` holds overrides as typed."""

    def resolved(*set: str, data: str = "nowhere", **chosen: Any) -> list[Cell]:
        selection = replace(Selection(**chosen), overrides=parse_overrides(set, registry))
        return resolve(selection, registry, Path(data))[0]

    return resolved
