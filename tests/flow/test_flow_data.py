"""A user's own images: registered, prepared, trained on; and images that are not what they should be."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DATASETS = """
version: 1
datasets:
  shapes: {reader: folder, path: images, image_shape: [1, 8, 8]}
  arrays: {reader: npz, path: arrays.npz, image_shape: [1, 8, 8], num_classes: 3}
"""


@pytest.fixture
def mine(bench) -> tuple[str, ...]:
    path = bench.folder / "datasets.yaml"
    path.write_text(DATASETS)
    return ("--registry", str(path))


def write_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 14), ("test", 6)):
        for level, name in enumerate(("dark", "grey", "light")):
            place = folder / "images" / split / name
            place.mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(80 * level, 80 * level + 80, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{k:02}.png")


def write_arrays(folder: Path, **changed: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (30, 8, 8), dtype=np.uint8),
        "y_train": np.arange(30) % 3,
        "x_test": rng.integers(0, 256, (9, 8, 8), dtype=np.uint8),
        "y_test": np.arange(9) % 3,
    }
    np.savez(folder / "arrays.npz", **{**arrays, **changed})


def test_a_folder_of_images_is_prepared_and_run(bench, mine):
    write_images(bench.folder)
    chosen = (*mine, "--methods", "trades", "--datasets", "shapes")
    _, error = bench.run(*chosen, code=3)
    assert "DataMissingError: shapes is not prepared" in error
    assert "fairbench prepare shapes" in error
    out, _ = bench.call(*bench.arguments("plan", *chosen))
    assert "shapes is not prepared: fairbench prepare shapes" in out
    out, _ = bench.call("prepare", *mine, "--datasets", "shapes", "--root", str(bench.folder / "data"))
    assert "shapes: 42 + 18 images" in out
    out, _ = bench.run(*chosen)
    assert "shapes" in out
    record = bench.record("trades")
    assert record["class_names"] == ["dark", "grey", "light"]
    assert bench.states(*chosen) == {"trades.0": "done"}
    assert bench.states("--methods", "trades") == {"trades.0": "missing"}  # `mine` is not in this registry


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"y_train": np.arange(30) % 4}, "label 3 at position 3 is outside 0..2"),
        ({"y_test": -(np.arange(9) % 3)}, "label -1 at position 1 is outside 0..2"),
        ({"y_test": np.arange(9) % 2}, "no example of class 2"),
        ({"x_test": np.zeros((9, 8, 8), np.float32)}, "images are float32, not uint8"),
        ({"x_test": np.zeros((9, 7, 8), np.uint8)}, "expected (channels, height, width) = (1, 8, 8)"),
        ({"y_test": np.zeros(8, np.int64)}, "9 images but 8 labels"),
        ({"y_test": np.linspace(0, 2, 9)}, "not whole numbers"),
    ],
)
def test_images_and_labels_that_are_not_what_they_should_be_are_refused(bench, mine, changed, said):
    write_arrays(bench.folder, **changed)
    root = bench.folder / "data"
    _, error = bench.call("prepare", *mine, "--datasets", "arrays", "--root", str(root), code=2)
    assert said in error
    assert not (root / "arrays" / "manifest.json").exists()


def test_prepared_images_that_changed_are_refused_and_nothing_is_lost(bench, mine):
    write_arrays(bench.folder)
    root = bench.folder / "data"
    bench.call("prepare", *mine, "--datasets", "arrays", "--root", str(root))
    chosen = (*mine, "--methods", "trades", "--datasets", "arrays")
    bench.run(*chosen)
    outcomes = bench.record("trades")["evaluations"]
    labels = root / "arrays" / "test_labels.npy"
    np.save(labels, np.load(labels) + 1)
    _, error = bench.run(*chosen, "--attacks", "pgd-3", code=1)
    assert "test_labels.npy is damaged" in error
    evaluations = bench.record("trades")["evaluations"]
    assert [item for item in evaluations if "error" not in item] == outcomes
    (failed,) = [item for item in evaluations if "error" in item]
    assert (failed["attack"], "test_labels.npy" in failed["error"]) == ("pgd-3", True)
    labels.write_bytes(labels.read_bytes()[:-20])
    _, error = bench.run(*chosen, "--attacks", "pgd-3", code=1)
    assert "test_labels.npy" in error


def test_other_images_under_the_same_name_are_another_cell(bench, mine):
    write_arrays(bench.folder)
    prepare = ("prepare", *mine, "--datasets", "arrays", "--root", str(bench.folder / "data"))
    chosen = (*mine, "--methods", "trades", "--datasets", "arrays")
    bench.call(*prepare)
    (before,) = bench.plan(*chosen)
    bench.run(*chosen)
    write_arrays(bench.folder, x_test=np.ones((9, 8, 8), np.uint8))
    bench.call(*prepare)
    (after,) = bench.plan(*chosen)
    assert after["id"] != before["id"]
    assert (after["state"], after["reason"]) == ("stale", "dataset changed since")
    manifest = bench.folder / "data" / "arrays" / "manifest.json"
    manifest.write_text(json.dumps({"schema": 2}))
    _, error = bench.call(*bench.arguments("plan", *chosen), code=2)
    assert "is not a manifest of fairbench" in error


def test_test_images_alone_are_evaluated_and_not_trained_on(bench, mine):
    rng = np.random.default_rng(0)
    x_test = rng.integers(0, 256, (9, 8, 8), dtype=np.uint8)
    np.savez(bench.folder / "arrays.npz", x_test=x_test, y_test=np.arange(9) % 3)
    root = str(bench.folder / "data")
    out, _ = bench.call("prepare", *mine, "--datasets", "arrays", "--root", root)
    assert "arrays: 0 + 9 images" in out
    assert "note: arrays: there are no training images" in out
    _, error = bench.run(*mine, "--methods", "trades", "--datasets", "arrays", code=2)
    assert "arrays has no training images" in error
    (bench.folder / "net.py").write_text("from fairbench.models.cnn import cnn_small as build\n")
    model = ("--model", f"{bench.folder / 'net.py'}:build", "--dataset", "arrays", "--attacks", "pgd-2")
    out, _ = bench.call(*bench.arguments("evaluate", *mine, *model, "--device", "cpu"))
    assert "9 test images" in out


def test_what_was_changed_and_what_is_in_both_halves_reaches_the_user(bench, mine):
    write_images(bench.folder)
    images = bench.folder / "images"
    (images / "train" / "dark" / ".DS_Store").write_bytes(b"x")
    Image.fromarray(np.zeros((16, 9), np.uint8)).save(images / "train" / "dark" / "large.bmp")
    (images / "test" / "light" / "same.png").write_bytes((images / "train" / "light" / "00.png").read_bytes())
    out, _ = bench.call("prepare", *mine, "--datasets", "shapes", "--root", str(bench.folder / "data"))
    assert "shapes: 43 + 19 images" in out
    assert "note: shapes: train: 1 of 43 images were resized to 8x8 (they have 9x16)" in out
    assert "1 hidden files" in out
    assert "note: shapes: 1 of 19 test images are training images too" in out
    out, _ = bench.run(*mine, "--methods", "trades", "--datasets", "shapes")
    assert "1 of 19 test images of shapes are training images too" in " ".join(out.split())
