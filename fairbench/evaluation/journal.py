"""Finished blocks of an evaluation on disk, so that whoever is interrupted continues behind them."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairbench.core.errors import CheckpointError
from fairbench.core.files import make_folder
from fairbench.models.checkpoints import read_tensors, write_tensors


@dataclass(frozen=True)
class Journal:
    """One file for each finished block, named by its attack and number. `folder` None keeps nothing.

    `what` says what the blocks are about, weights and settings: blocks about anything else are not
    believed. `check` is called before each is written, to stop a worker whose work another took over.
    """

    folder: Path | None
    what: str = ""
    check: Callable[[], None] = lambda: None

    def read(self, key: str, index: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was written for `key`; None when that is absent, damaged, or not about `what` and `index`."""
        if self.folder is None:
            return None
        try:
            tensors, about = read_tensors(self._path(key))
        except CheckpointError:
            return None
        known = about.get("what") == self.what and torch.equal(tensors.pop("index", index[:0]), index)
        return (tensors, about) if known else None

    def write(self, key: str, index: Tensor, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Keep a finished block; it is there whole or not at all."""
        if self.folder is not None:
            self.check()
            make_folder(self.folder)
            write_tensors(self._path(key), {"index": index, **tensors}, {**about, "what": self.what})

    def clear(self) -> None:
        """Forget everything: the outcomes are written."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{key}.safetensors"
