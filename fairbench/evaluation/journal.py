"""Finished blocks of an evaluation on disk: an interrupted evaluation continues after them."""

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
    """One file per finished block, named by its attack and number. With `folder` None nothing is stored.

    `what` is a digest of the weights and settings; blocks with another digest are ignored. `check` is called
    before each write, to stop a worker that has lost its lease.
    """

    folder: Path | None
    what: str = ""
    check: Callable[[], None] = lambda: None

    def read(self, key: str, index: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and data stored for `key`; None if absent, damaged, or of another `what` or `index`."""
        if self.folder is None:
            return None
        try:
            tensors, about = read_tensors(self._path(key))
        except CheckpointError:
            return None
        matches = about.get("what") == self.what and torch.equal(tensors.pop("index", index[:0]), index)
        return (tensors, about) if matches else None

    def write(self, key: str, index: Tensor, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Store a finished block, atomically."""
        if self.folder is not None:
            self.check()
            make_folder(self.folder, parents=False)
            write_tensors(self._path(key), {"index": index, **tensors}, {**about, "what": self.what})

    def clear(self) -> None:
        """Delete all blocks, after the outcomes are written."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{key}.safetensors"
