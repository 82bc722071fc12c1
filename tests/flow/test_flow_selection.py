"""Commands with `all`, with several data sets that are not there, and with several to prepare."""

import json

import numpy as np
import pytest

REGISTRY = """
version: 1
datasets:
  a: {reader: npz, path: images.npz, image_shape: [1, 8, 8]}
  b: {reader: npz, path: images.npz, image_shape: [1, 8, 8]}
  c: {reader: npz, path: none.npz, image_shape: [1, 8, 8]}
"""
SHORT = ("--methods", "trades", "--seeds", "0", "--epochs", "1")


def test_all_runs_what_is_prepared_and_says_before_and_after_what_is_skipped(bench):
    data = ("--data", str(bench.folder / "empty"), "--results", str(bench.results), "--device", "cpu")
    out, error = bench.call("run", *SHORT, *data, "--datasets", "all")
    assert "CNN-small, Digits, quickstart" in out
    first, last = error.splitlines()[0], error.splitlines()[-1]
    assert "skipped, because not prepared here: cifar10, cifar100" in first
    assert last.startswith("skipped, see above: cifar10, cifar100")
    assert (
        f"fairbench prepare cifar10 cifar100 stl10 tiny-imagenet mnist fashion-mnist svhn --data {data[1]}"
        in (first)
    )


def test_named_data_sets_are_refused_together_before_anything_is_made(bench):
    data = ("--data", str(bench.folder / "empty"), "--results", str(bench.folder / "none"))
    out, error = bench.call("run", *SHORT, *data, "--datasets", "svhn,digits,cifar10", code=3)
    assert out == ""
    assert error.startswith("DataMissingError: svhn, cifar10 are not prepared")
    assert "fairbench prepare svhn cifar10 --data" in error
    assert not (bench.folder / "none").exists()
    out, _ = bench.call("plan", *SHORT, *data, "--datasets", "svhn,digits,cifar10")
    assert "svhn, cifar10 are not prepared: fairbench prepare svhn cifar10 --data" in out


@pytest.mark.parametrize("how", [("a", "c", "b"), ("--datasets", "a,c,b"), ("[abc]",)])
def test_several_data_sets_are_prepared_by_one_command(bench, how):
    rng = np.random.default_rng(0)
    arrays = {"x_train": (20, 1, 8, 8), "x_test": (10, 1, 8, 8)}
    images = {name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in arrays.items()}
    labels = {"y_train": np.arange(20) % 2, "y_test": np.arange(10) % 2}
    np.savez(bench.folder / "images.npz", **images, **labels)
    registry = bench.folder / "images.yaml"
    registry.write_text(REGISTRY)
    root = bench.folder / "prepared"
    out, error = bench.call("prepare", *how, "--registry", str(registry), "--root", str(root), code=3)
    assert "a: 20 + 10 images" in out
    assert "b: 20 + 10 images" in out  # although c, before it, has no file
    assert "none.npz" in error
    chosen = ("--models", "cnn-small", "--protocol", "quickstart", "--datasets", "[abc]", "--json")
    out, _ = bench.call("plan", "--registry", str(registry), "--data", str(root), *SHORT, *chosen)
    assert {row["dataset"] for row in json.loads(out)} == {"a", "b"}


def test_several_values_of_a_setting_are_rows_of_one_table(bench):
    out, _ = bench.run("--methods", "trades", "--seeds", "0", "--set", "methods.trades.beta=1, 3")
    labels = [line[: line.index(")") + 1] for line in out.splitlines() if line.startswith("trades (")]
    assert sorted(set(labels)) == ["trades (beta=1.0)", "trades (beta=3.0)"]
    out, _ = bench.call(
        *bench.arguments("plan", "--methods", "trades", "--seeds", "0"), "--set", "protocol.epochs=1,2"
    )
    assert "(epochs=1)" in out
    assert "(epochs=2)" in out
