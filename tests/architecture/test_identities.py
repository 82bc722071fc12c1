"""What results on disk depend on: fingerprints, networks, ids of cells, and the names that others import.

`tests/data/identities.json` holds what they are. Results are found again by these ids, so renaming or moving
our own code changes none of them. A line of the file changes only together with what it names: the code of
that method, the settings of that registry entry, or NUMERICS. New lines may be added:

    python tests/architecture/test_identities.py > tests/data/identities.json
"""

import importlib
import importlib.metadata
import inspect
import io
import json
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

SNAPSHOT = Path(__file__).parents[1] / "data" / "identities.json"
SELECTIONS = (
    "",
    "--methods all --seeds 0",
    "--methods trades --models all --seeds 0 --datasets cifar10 --protocol quickstart",
    "--methods trades --datasets digits,cifar10,cifar100,stl10,tiny-imagenet,mnist,fashion-mnist,svhn "
    "--models cnn-small --protocol quickstart --seeds 0",
    "--suite table1 --seeds 0",
    "--methods all --seeds 0 --datasets cifar10 --models resnet18 --protocol official",
    "--methods trades,cfa,frl --seeds 0 --datasets cifar100,tiny-imagenet --models cnn-small "
    "--protocol trix-150",
    "--methods trades,dafa --seeds 0 --protocol cpu-subset --datasets cifar10 --models cnn-small",
    # Each component.
    "--methods trades,dafa,frl --seeds 0 --averaging ema",
    "--methods trades,dafa --seeds 0 --averaging fawa",
    "--methods trades,dafa --seeds 0 --averaging swa",
    "--methods trades --seeds 0 --averaging ema --set methods.trades.averaging.decay=0.99",
    "--methods trades,dafa --seeds 0 --awp 0.005",
    "--methods trades,dafa --seeds 0 --augment autoaugment",
    "--methods trades,dafa --seeds 0 --augment cutout",
    "--methods trades,dafa --seeds 0 --augment mixup",
    "--methods trades,dafa --seeds 0 --augment cutmix",
    "--methods trades --seeds 0 --set methods.trades.hold_out=0.1",
    "--methods trades,dafa --seeds 0 --set methods.dafa.fine_tune=trades",
    "--methods trades,frl --seeds 0 --set methods.frl.fine_tune.hold_out=false",
    "--methods trades,cfa --seeds 0 --averaging none",
    "--methods trades,dafa --seeds 0 --averaging ema --awp 0.01 --augment cutout",
    # Settings of a method, of the protocol, of the schedule.
    "--methods trades,trix --seeds 0 --set methods.trix.strength=1.5",
    "--methods trades --seeds 0 --set protocol.optimizer.lr=0.05",
    "--methods trades --seeds 0 --set protocol.precision=bf16",
    "--methods trades --seeds 0 --set protocol.selection.every=2",
    "--methods trades,dafa,cfa,frl --seeds 0 --epochs 6 --batch-size 32",
)
NEUTRAL = (
    "--averaging none",
    "--awp none",
    "--augment none",
    "--set protocol.precision=torch",
    "--set protocol.optimizer.lr=0.1",
    "--set methods.trades.beta=6.0",
    "--set methods.trades.hold_out=none",
    "--set methods.trades.augment=mixup --set methods.trades.augment.alpha=0",
    "--set methods.trades.augment=cutout --set methods.trades.augment.side=0",
    "--epochs 12",
    "--batch-size 64",
    "--attacks pgd-100,a3@last",
)
PREPARED = {"cifar100": (100, 32), "stl10": (10, 64), "tiny-imagenet": (200, 64)}
PLUGINS_USE = (  # parts of fairbench.api with names of their own
    "AdversarialObjective",
    "Batch",
    "Budget",
    "ClassWeighted",
    "Context",
    "DataInfo",
    "Draws",
    "EpochStats",
    "LossTerms",
    "Needs",
    "ValidationStats",
    "attacks",
    "classes",
    "losses",
)
GROUPS = ("fairbench.methods", "fairbench.executors")


def command(*arguments: str) -> Any:
    """What `fairbench ARGUMENTS --json` prints, as data."""
    from fairbench.cli.main import main

    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as error:
        try:
            main((*arguments, "--json"))
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
    assert code == 0, error.getvalue()
    return json.loads(out.getvalue())


def planned(folder: Path, options: str) -> list[str]:
    """The cells of a selection with their ids, as run folders are called; `folder` holds data and results."""
    places = ("--data", str(folder / "data"), "--results", str(folder / "results"))
    return [Path(cell["folder"]).name for cell in command("plan", *places, *options.split())]


def write_manifests(folder: Path) -> None:
    """Say that data sets whose digest the registry does not know are prepared; their images are not read."""
    for name, (num_classes, side) in PREPARED.items():
        place = folder / "data" / name
        place.mkdir(parents=True)
        arrays = ("train_images", "train_labels", "test_images", "test_labels")
        manifest = {
            "schema": 2,
            "name": name,
            "digest": "d" * 64,
            "num_classes": num_classes,
            "classes": [str(label) for label in range(num_classes)],
            "image_shape": [3, side, side],
            "train_size": 1000,
            "test_size": 1000,
            "official": True,
            "source": "a test",
            "arrays": dict.fromkeys(arrays, "a" * 64),
        }
        (place / "manifest.json").write_text(json.dumps(manifest))


def members(part: str) -> list[str]:
    """The public names in a class of fairbench.api, or of what one of its modules defines itself."""
    thing = getattr(importlib.import_module("fairbench.api"), part)
    names = {*vars(thing), *vars(thing).get("__annotations__", {})}
    if inspect.ismodule(thing):
        names = {name for name in names if getattr(getattr(thing, name), "__module__", "") == thing.__name__}
    return sorted(name for name in names if not name.startswith("_"))


def snapshot() -> dict[str, Any]:
    """What is to stay as it is."""
    listed = command("list")
    with tempfile.TemporaryDirectory() as place:
        write_manifests(Path(place))
        cells = {options: planned(Path(place), options) for options in SELECTIONS}
    packages = ("fairbench", "fairbench.api", "fairbench.testing")
    return {
        "methods": {
            name: {"target": facts["target"], "fingerprint": facts["fingerprint"]}
            for name, facts in listed["methods"].items()
        },
        "models": {name: facts["target"] for name, facts in listed["models"].items()},
        "public": {name: sorted(importlib.import_module(name).__all__) for name in packages},
        "members": {part: members(part) for part in PLUGINS_USE},
        "entry_points": {
            group: sorted(point.name for point in importlib.metadata.entry_points(group=group))
            for group in GROUPS
        },
        "cells": cells,
    }


EXPECTED: dict[str, Any] = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}


@pytest.fixture(autouse=True)
def no_registry_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAIRBENCH_REGISTRY", raising=False)
    monkeypatch.delenv("FAIRBENCH_DATA", raising=False)


@pytest.fixture(scope="module")
def listed() -> dict[str, Any]:
    found: dict[str, Any] = command("list")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifests(tmp_path)
    return tmp_path


def test_every_method_keeps_its_class_and_its_fingerprint(listed):
    for name, expected in EXPECTED["methods"].items():
        found = listed["methods"][name]
        assert {key: found[key] for key in expected} == expected, name


def test_every_network_keeps_its_identity(listed):
    found = {name: listed["models"][name]["target"] for name in EXPECTED["models"]}
    assert found == EXPECTED["models"]


@pytest.mark.parametrize("options", SELECTIONS)
def test_cells_keep_their_ids(options, folder):
    assert planned(folder, options) == EXPECTED["cells"][options]


@pytest.mark.parametrize("options", NEUTRAL)
def test_what_changes_nothing_is_no_part_of_an_id(options, folder):
    one = "--methods trades --seeds 0"
    assert planned(folder, f"{one} {options}") == planned(folder, one)


def test_nothing_registered_is_missing_in_the_snapshot(listed):
    assert list(listed["methods"]) == list(EXPECTED["methods"])
    assert list(listed["models"]) == list(EXPECTED["models"])


def test_every_target_can_be_imported(listed):
    targets = {facts["target"] for kind in ("methods", "models") for facts in listed[kind].values()}
    targets |= {*EXPECTED["models"].values()}
    targets |= {facts["target"] for facts in EXPECTED["methods"].values()}
    for target in sorted(targets):
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name)), target


@pytest.mark.parametrize("package", EXPECTED.get("public", ()))
def test_public_names_stay(package):
    module = importlib.import_module(package)
    assert set(EXPECTED["public"][package]) <= set(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize("part", PLUGINS_USE)
def test_what_plugins_use_stays(part):
    assert set(EXPECTED["members"][part]) <= set(members(part))


@pytest.mark.parametrize("group", GROUPS)
def test_entry_points_stay_and_can_be_loaded(group):
    points = {point.name: point for point in importlib.metadata.entry_points(group=group)}
    assert set(EXPECTED["entry_points"][group]) <= set(points)
    for name in EXPECTED["entry_points"][group]:
        assert callable(points[name].load()), name


if __name__ == "__main__":
    print(json.dumps(snapshot(), indent=1))
