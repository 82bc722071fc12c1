"""Import the object of a registry target, `module:Name` or `file.py:Name`, and describe what is installed."""

import importlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import Any

from fairbench.core.errors import ConfigError
from fairbench.core.identity import digest_bytes
from fairbench.core.stopping import Stopped


def load_object(target: str) -> Any:
    """The object that `target` names. Raises ImportError, or any Exception that running its module raises."""
    module_or_file, _, name = target.rpartition(":")
    try:
        if module_or_file.endswith(".py"):
            module = _load_file(Path(module_or_file))
        else:
            module = importlib.import_module(module_or_file)
    except Stopped:
        raise
    except (SystemExit, GeneratorExit, KeyboardInterrupt) as error:  # it must not end fairbench
        raise ImportError(f"{module_or_file} raised {type(error).__name__} when it was imported") from error
    try:
        return getattr(module, name)
    except AttributeError:
        raise ImportError(f"{module_or_file} has no {name!r}") from None


def shipped(name: str) -> Path:
    """The path of a file or folder that comes with fairbench: inside the package, or at the top of a clone.

    Raises ConfigError when it is missing.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package, package.parent):
        if (path := folder / name).exists():
            return path
    raise ConfigError(f"fairbench's own {name} is missing from {package}.", hint="install fairbench again")


def version_of(package: str) -> str:
    """The installed version of a package; "" when it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _load_file(path: Path) -> Any:
    """The module in the file `path`, executed again, under a name that is unique to this path."""
    name = f"fairbench_file_{path.stem}_{digest_bytes(str(path.resolve()).encode(), 8)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module here while the file runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
