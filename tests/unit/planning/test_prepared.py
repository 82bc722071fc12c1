"""Data sets that are there, skipped or refused; and what a long plan says first."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import DataMissingError
from fairbench.planning.planner import LONG, plan_selection
from fairbench.planning.prepared import prepare_command, prepared_only, require_prepared, unprepared
from fairbench.planning.selection import parse_selection
from fairbench.registry import load_registry

REGISTRY = load_registry([])
DATASETS = tuple(REGISTRY.names("dataset"))
OTHERS = tuple(name for name in DATASETS if name != "digits")


def prepare(root: Path, names: set[str]) -> None:
    """Say that exactly these data sets are prepared."""
    for name in OTHERS:
        path = root / name / "manifest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if name in names:
            entry = REGISTRY.get("dataset", name)
            path.write_text(
                json.dumps(
                    {
                        "schema": 2,
                        "name": name,
                        "digest": "d" * 64,
                        "num_classes": entry.num_classes,
                        "classes": [str(label) for label in range(entry.num_classes)],
                        "image_shape": list(entry.image_shape),
                        "train_size": 1000,
                        "test_size": 1000,
                        "official": True,
                        "source": "a test",
                        "arrays": dict.fromkeys(
                            ("train_images", "train_labels", "test_images", "test_labels"), "a" * 64
                        ),
                    }
                )
            )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@settings(deadline=None)
@given(prepared=st.sets(st.sampled_from(OTHERS)), named=st.sets(st.sampled_from(DATASETS)))
def test_all_is_what_is_there_and_what_is_named(root, prepared, named):
    prepare(root, prepared)
    text = ",".join(("all", *sorted(named)))
    selection, skipped = prepared_only(parse_selection(REGISTRY, datasets=text), REGISTRY, root)
    assert set(selection.datasets) == {"digits"} | prepared | named
    assert set(skipped) == set(DATASETS) - {"digits"} - prepared - named
    assert set(unprepared(selection.datasets, REGISTRY, root)) == named - prepared - {"digits"}


@settings(deadline=None)
@given(prepared=st.sets(st.sampled_from(OTHERS)), named=st.sets(st.sampled_from(DATASETS), min_size=1))
def test_named_data_sets_that_are_not_prepared_are_refused_together(root, prepared, named):
    prepare(root, prepared)
    missing = [name for name in sorted(named) if name not in prepared and name != "digits"]
    if not missing:
        require_prepared(sorted(named), REGISTRY, root)
        return
    with pytest.raises(DataMissingError) as caught:
        require_prepared(sorted(named), REGISTRY, root)
    assert caught.value.message.startswith(", ".join(missing))
    assert f"fairbench prepare {' '.join(missing)} --data {root}" in caught.value.hint


def test_a_pattern_that_leaves_no_data_set_is_refused_with_the_command(root):
    prepare(root, set())
    with pytest.raises(DataMissingError) as caught:
        plan_selection(parse_selection(REGISTRY, datasets="cifar*"), REGISTRY, root / "results", root)
    assert "fairbench prepare cifar10 cifar100 " in caught.value.hint


def test_the_command_names_the_registry_file_that_a_data_set_needs(tmp_path):
    files = []
    for name in ("leaves", "stones"):
        files.append(tmp_path / f"{name} of mine.yaml")
        entry = "{reader: folder, path: images, image_shape: [3, 8, 8]}"
        files[-1].write_text(f"version: 1\ndatasets: {{{name}: {entry}}}\n")
    registry = load_registry(files)
    command = prepare_command(("leaves", "cifar10"), registry, tmp_path)
    assert command == f"fairbench prepare leaves cifar10 --registry '{files[0]}' --data {tmp_path}"


def test_a_long_plan_says_what_is_quicker_and_a_short_one_does_not(root):
    prepare(root, {"cifar10"})

    def plan(**options: str):
        selection = parse_selection(REGISTRY, seeds="0", **options)
        return plan_selection(selection, REGISTRY, root / "results", root, device="cpu")

    long = plan(datasets="cifar10", methods="trix,dafa")
    assert long.seconds > LONG
    assert long.shorter.options == "--protocol cpu-subset --models cnn-small"
    quick = plan(datasets="cifar10", methods="trix,dafa", protocol="cpu-subset", models="cnn-small")
    assert long.shorter.seconds == pytest.approx(quick.seconds)
    assert quick.shorter is plan().shorter is None


@pytest.mark.parametrize(("seeds", "noted"), [("0", True), ("7..7", True), ("0..1", False), (None, False)])
def test_one_seed_is_noted_with_how_to_write_five(root, seeds, noted):
    plan = plan_selection(parse_selection(REGISTRY, seeds=seeds), REGISTRY, root / "results", root)
    assert any("--seeds 0..4" in note for note in plan.notes) == noted
