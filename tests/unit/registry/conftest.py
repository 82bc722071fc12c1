"""A folder for registry files, plugins in it, and packages with entry points, all made in place."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PLUGIN = '''"""MINE: lift the classes that lag behind.

Idea       One line,
           and its continuation.
Source     A. Example (2026).
"""

from dataclasses import dataclass
from typing import Literal

import torch_is_not_imported_here
from fairbench.api import AdversarialObjective, method


@method("mine", tags=("trades", "mine"))
class Mine(AdversarialObjective):
    """What it is."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term, >= 0
        strength: float = 3/2
        eps: float = 8 / 255
        warmup_epochs: int = 70
        offset: int = -1
        scale: bool = True
        cap: float | None = None  # größtes Gewicht
        rule: Literal["paper", "program"] = "paper"
        name: str = "x"
        sizes: tuple[int, ...] = (1, 2)

    def loss(self, model, batch, x_adv, ctx):
        """The loss."""
        return model(x_adv)
'''


@pytest.fixture
def plugin() -> str:
    return PLUGIN


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file below tmp_path and return its path."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install a distribution with modules and entry points of our group; returns its site folder."""

    def install_package(distribution: str, entry_points: dict[str, str], modules: dict[str, str]) -> Path:
        site = tmp_path / f"site-{distribution}"
        info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {value}" for name, value in entry_points.items())
        (info / "entry_points.txt").write_text(f"[fairbench.methods]\n{lines}\n")
        for name, text in modules.items():
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(site))
        importlib.invalidate_caches()
        assert str(site) in sys.path
        return site

    return install_package
