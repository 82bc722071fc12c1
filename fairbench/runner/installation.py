"""What is installed, what is missing, and how to fix it."""

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fairbench.core.errors import DataError
from fairbench.core.imports import version_of
from fairbench.data.manifest import EMBEDDED, read_manifest
from fairbench.registry import DatasetEntry, Registry, load_registry

REQUIRED = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "click",
    "rich",
    "pydantic",
    "pyyaml",
    "safetensors",
    "pyautoattack",
)
OPTIONAL = {name: f"pip install 'fairbench-at[{name}]'" for name in ("robustbench", "timm")}
FATAL = ("missing", "not writable")  # states in which nothing can be trained


class SetupCheck(NamedTuple):
    """One thing that was looked at: its state, and what it is or how to fix it."""

    what: str
    state: str
    detail: str


def check_installation(
    results: Path, data_root: Path, registry_files: Sequence[Path] = ()
) -> list[SetupCheck]:
    """Packages, device, methods, data sets and the results folder."""
    registry = load_registry(registry_files)
    return [
        SetupCheck("python", "ok", f"{platform.python_version()} on {platform.system()}"),
        *(_package(name, "missing", "pip install --upgrade fairbench-at") for name in REQUIRED),
        *(_package(name, "optional", f"not installed; {fix}") for name, fix in OPTIONAL.items()),
        _device(),
        *_methods(registry),
        *(_images(registry.get("dataset", name), data_root) for name in registry.names("dataset")),
        _results(results),
    ]


def _package(name: str, without: str, fix: str) -> SetupCheck:
    """`without`: the state when it is not installed."""
    version = version_of(name)
    return SetupCheck(name, "ok" if version else without, version or fix)


def _device() -> SetupCheck:
    if importlib.util.find_spec("torch") is None:
        return SetupCheck("device", "missing", "torch is not installed")
    import torch

    if torch.cuda.is_available():
        return SetupCheck("device", "ok", f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    threads = torch.get_num_threads()
    return SetupCheck("device", "ok", f"CPU only, {threads} threads; the papers' settings need a CUDA device")


def _methods(registry: Registry) -> Iterator[SetupCheck]:
    yield SetupCheck("methods", "ok", f"{len(registry.methods)} usable")
    for plugin in registry.broken:
        yield SetupCheck(f"method {plugin.name}", "broken", f"{plugin.reason} ({plugin.origin})")


def _images(entry: DatasetEntry, data_root: Path) -> SetupCheck:
    what = f"data {entry.name}"
    if entry.reader == EMBEDDED:
        return SetupCheck(what, "ok", "comes with scikit-learn")
    try:
        manifest = read_manifest(data_root, entry.name)
    except DataError as error:
        return SetupCheck(what, "damaged", f"{error.message} {error.hint}")
    if manifest is None:
        return SetupCheck(what, "absent", f"fairbench prepare {entry.name}")
    sizes = f"{manifest.train_size} + {manifest.test_size} images in {data_root / entry.name}"
    return SetupCheck(what, "ok" if manifest.official else "unofficial", sizes)


def _results(results: Path) -> SetupCheck:
    """Whether runs can be written to the folder, or to the nearest one above it that exists."""
    folder = next(path for path in (results.absolute(), *results.absolute().parents) if path.exists())
    if not os.access(folder, os.W_OK):
        return SetupCheck("results", "not writable", f"chmod u+w {folder}, or --results DIR")
    return SetupCheck("results", "ok", f"{results}: {shutil.disk_usage(folder).free / 1e9:.0f} GB free")
