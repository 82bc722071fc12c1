"""Architectures of the RobustBench zoo, for checkpoints that are already on disk. Nothing is downloaded.

The package robustbench is an optional dependency. It needs two modules that a clean installation lacks, and
warns when imported. Its own loader downloads files, so only its table of models is used.
"""

import importlib.util
import sys
import warnings
from contextlib import redirect_stdout
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from fairbench.core.errors import CheckpointError, ConfigError, EnvironmentFault, suggest

DATASETS = {"cifar10": 10, "cifar100": 100}  # number of classes
THREATS = ("Linf", "L2", "corruptions")  # the order in which a name is searched for
CONSTANTS = ("mu", "sigma", "mean", "std", "normalize.mean", "normalize.std")
"""Normalisation constants of the architectures, which some checkpoints of the zoo do not contain."""


def import_robustbench() -> ModuleType:
    """The package robustbench; the stand-in modules for its import are removed again.

    Raises EnvironmentFault when it is not installed or cannot be imported.
    """
    hint = "pip install 'fairbench-at[robustbench]'"
    if importlib.util.find_spec("robustbench") is None:
        raise EnvironmentFault("models of the RobustBench zoo need the package robustbench.", hint=hint)
    aliases = _aliases()
    sys.modules.update(aliases)
    try:
        with warnings.catch_warnings(action="ignore"):
            import robustbench
    except ImportError as error:
        raise EnvironmentFault(f"the package robustbench cannot be imported: {error}.", hint=hint) from error
    finally:
        for name in aliases:
            del sys.modules[name]
    return robustbench


def _aliases() -> dict[str, ModuleType]:
    """Stand-in modules, by name, for modules that robustbench imports and this environment lacks."""
    aliases: dict[str, ModuleType] = {}
    if importlib.util.find_spec("autoattack") is None:
        import pyautoattack.state

        aliases |= {"autoattack": pyautoattack, "autoattack.state": pyautoattack.state}
    if importlib.util.find_spec("pkg_resources") is None:  # removed in setuptools 81
        resources: Any = ModuleType("pkg_resources")
        resources.resource_filename = lambda module, path: str(files(module.rpartition(".")[0]) / path)
        aliases["pkg_resources"] = resources
    return aliases


def zoo_threats(name: str, dataset: str) -> list[str]:
    """The threat models under which the zoo lists `name` for `dataset`, at least one.

    Raises EnvironmentFault without robustbench, and ConfigError for a name or data set that the zoo lacks.
    """
    tables = _tables(dataset)
    threats = [threat for threat, table in tables.items() if name in table]
    if not threats:
        close = suggest(name, {known for table in tables.values() for known in table})
        raise ConfigError(
            f"the RobustBench zoo has no model called {name!r} for {dataset}.",
            hint=f"did you mean: {close}" if close else "see all: https://robustbench.github.io",
        )
    return threats


def zoo_file(folder: Path, name: str, dataset: str) -> tuple[Path, str]:
    """The file with the weights of `name` in a model folder of robustbench, and their threat model.

    Looks for FOLDER/<dataset>/<threat>/<name>.pt. Raises as `zoo_threats` does, and CheckpointError with the
    paths that were tried.
    """
    candidates = {threat: folder / dataset / threat / f"{name}.pt" for threat in zoo_threats(name, dataset)}
    for threat, path in candidates.items():
        if path.is_file():
            return path, threat
    hint = "looked for: " + "\n            ".join(map(str, candidates.values()))
    if any(path.with_name(f"{path.name}_m0.pt").is_file() for path in candidates.values()):
        hint += (
            "\nensembles in several files are not supported; build it in a file: --models FILE.py:function"
        )
    else:
        hint += "\nnothing is downloaded: download the weights yourself, or give their file"
    raise CheckpointError(f"there are no weights of {name!r} for {dataset} in {folder}.", hint=hint)


def zoo_model(name: str, dataset: str, threat: str | None = None) -> nn.Module:
    """The untrained architecture of the zoo's entry `name` for `dataset`, on the CPU and in eval mode.

    `threat` is one of `zoo_threats`, by default the first. Torch's global generators are not changed.
    Raises as `zoo_threats` does, and ConfigError for an entry that cannot be built here.
    """
    threat = threat or zoo_threats(name, dataset)[0]
    table = _tables(dataset)[threat]
    import timm

    registered = f"{name.lower().replace('-', '_')}_{dataset}_{threat.lower()}"
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            torch.random.fork_rng(devices=[]),
            redirect_stdout(sys.stderr),
        ):
            if timm.is_model(registered):  # the builder in the table would load pretrained weights
                model = timm.create_model(registered, num_classes=DATASETS[dataset], pretrained=False)
            else:
                model = table[name]["model"]()
    except Exception as error:  # some need a GPU
        reason = f"{type(error).__name__} {error}".splitlines()[0][:200]
        raise ConfigError(
            f"the RobustBench zoo's model {name!r} cannot be built here: {reason}.",
            hint="write a function that builds it, and give: --models FILE.py:function",
        ) from error
    return model.eval()


def _tables(dataset: str) -> dict[str, Any]:
    """The zoo's entries for `dataset`: by threat model, then by name."""
    if dataset not in DATASETS:
        raise ConfigError(
            f"the RobustBench zoo has no models for the data set {dataset!r}.",
            hint=f"give --datasets {' or '.join(DATASETS)}",
        )
    import_robustbench()
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    by_threat = model_dicts[BenchmarkDataset(dataset)]
    return {threat: by_threat.get(ThreatModel(threat), {}) for threat in THREATS}
