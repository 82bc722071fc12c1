"""Import what a target of the registry names: `package.module:Name` or `path/to/file.py:Name`."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from fairbench.core.identity import digest_bytes


def load_object(target: str) -> Any:
    """The object that `target` names. Raises whatever its module raises, or ImportError."""
    place, _, name = target.rpartition(":")
    module = _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    try:
        return getattr(module, name)
    except AttributeError:
        raise ImportError(f"{place} has no {name!r}") from None


def _load_file(path: Path) -> Any:
    """The module in a plain file, run anew under a name that no other file has."""
    name = f"fairbench_file_{path.stem}_{digest_bytes(str(path.resolve()).encode(), 8)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while the file runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
