"""`fairbench doctor`: what is installed, found and missing, and how to fix it."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fairbench.cli.options import data_option, json_option, registry_option, results_option
from fairbench.cli.output import columns, print_json
from fairbench.core.errors import DataError
from fairbench.data.manifest import data_root, read_manifest

if TYPE_CHECKING:
    from fairbench.registry import DatasetEntry

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
OPTIONAL = {"robustbench": "pip install 'fairbench-at[robustbench]'"}


@click.command("doctor")
@results_option
@data_option
@registry_option
@json_option
def doctor_command(results: Path, data: str | None, registry_files: tuple[Path, ...], as_json: bool) -> None:
    """Check packages, device, data, plugins and folders; say how to fix what is missing."""
    from fairbench.registry import load_registry

    findings: list[tuple[str, str, str]] = [
        ("python", "ok", f"{platform.python_version()} on {platform.system()}")
    ]
    for name in REQUIRED:
        version = _version(name)
        findings.append(
            (name, "ok", version) if version else (name, "missing", "pip install --upgrade fairbench-at")
        )
    for name, fix in OPTIONAL.items():
        version = _version(name)
        findings.append((name, "ok", version) if version else (name, "optional", f"not installed; {fix}"))
    findings.append(_device())
    registry = load_registry(registry_files)
    findings.append(("methods", "ok", f"{len(registry.methods)} usable"))
    findings += [
        (f"method {plugin.name}", "broken", f"{plugin.reason} ({plugin.origin})")
        for plugin in registry.broken
    ]
    root = data_root(data)
    findings += [_images(registry.get("dataset", name), root) for name in registry.names("dataset")]
    folder = next(path for path in (results.absolute(), *results.absolute().parents) if path.exists())
    writable = os.access(folder, os.W_OK)
    free = shutil.disk_usage(folder).free / 1e9
    findings.append(
        (
            "results",
            "ok" if writable else "not writable",
            f"{results}: {free:.0f} GB free" if writable else f"chmod u+w {folder}, or --results DIR",
        )
    )
    if as_json:
        print_json([{"what": what, "state": state, "detail": detail} for what, state, detail in findings])
    else:
        click.echo(columns(findings, ("what", "state", "")))
    sys.exit(3 if any(state in ("missing", "not writable") for _, state, _ in findings) else 0)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _images(entry: "DatasetEntry", root: Path) -> tuple[str, str, str]:
    what = f"data {entry.name}"
    if entry.reader == "digits":
        return (what, "ok", "comes with scikit-learn")
    try:
        manifest = read_manifest(root, entry.name)
    except DataError as error:
        return (what, "damaged", f"{error.message} {error.hint}")
    if manifest is None:
        return (what, "absent", f"fairbench prepare --datasets {entry.name}")
    sizes = f"{manifest.train_size} + {manifest.test_size} images in {root / entry.name}"
    return (what, "ok" if manifest.official else "unofficial", sizes)


def _device() -> tuple[str, str, str]:
    if importlib.util.find_spec("torch") is None:
        return ("device", "missing", "torch is not installed")
    import torch

    if torch.cuda.is_available():
        return ("device", "ok", f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    return ("device", "ok", f"CPU only, {torch.get_num_threads()} threads; a paper's run wants a CUDA device")
