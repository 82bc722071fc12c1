"""Preparation: published layouts in, checked arrays out, and a letter for everything that is wrong."""

import hashlib
import os
import pickle
import struct
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from fairbench.cli.prepare import prepare_command
from fairbench.core.errors import (
    ConfigError,
    DataError,
    DataMissingError,
    EmptyClassError,
    EnvironmentFault,
    UnknownNameError,
)
from fairbench.data import readers
from fairbench.data.folders import resize
from fairbench.data.images import load_images
from fairbench.data.manifest import read_manifest
from fairbench.data.pickles import read_pickle
from fairbench.data.prepare import prepare
from fairbench.data.readers import READERS, read_digits, read_idx
from fairbench.data.splits import digest_splits, make_split

REAL = Path(__file__).resolve().parents[4] / "shared" / "data"
DIGITS_DIGEST = "9faf308093efb1776a6367f38a97ae6fdea29a0d0c00e22c2bdffe2eb5ab87fb"
rng = np.random.default_rng(0)


def pixels(count, *shape):
    return rng.integers(0, 256, (count, *shape), np.uint8)


def make(tmp_path, reader, shape, **options):
    defaults = {
        "num_classes": None,
        "classes": None,
        "expected_digest": None,
        "source": tmp_path / "src",
        "root": tmp_path / "root",
        "download": False,
        "unofficial": True,
    }
    return prepare("toy", reader=reader, image_shape=shape, **(defaults | options))


def write_npz(path, **changes):
    arrays = {
        "x_train": pixels(6, 4, 5, 3),
        "y_train": np.arange(6) % 2,
        "x_test": pixels(4, 4, 5, 3),
        "y_test": np.arange(4) % 2,
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return arrays


def write_cifar10(folder, *, per_batch=4):
    """The published layout, small; returns all pixels and labels."""
    folder.mkdir(parents=True)
    parts = []
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        data, labels = pixels(per_batch, 3072), [k % 2 for k in range(per_batch)]
        content = {"data": data, "labels": labels, "filenames": ["x"] * per_batch}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        parts.append(data)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog"]}))
    return np.concatenate(parts)


# ------------------------------------------------------------------ what is written


def test_prepared_images_are_the_ones_in_the_file(tmp_path):
    arrays = write_npz(tmp_path / "toy.npz", classes=np.array(["no", "yes"]))
    manifest = make(tmp_path, "npz", (3, 4, 5), source=tmp_path / "toy.npz")
    assert manifest == read_manifest(tmp_path / "root", "toy")
    assert (manifest.classes, manifest.train_size, manifest.test_size) == (("no", "yes"), 6, 4)
    assert manifest.source == "npz:toy.npz"
    images = load_images("toy", "test", root=tmp_path / "root", expected_digest=manifest.digest)
    assert np.array_equal(images.images.numpy(), arrays["x_test"].transpose(0, 3, 1, 2))
    assert images.labels.tolist() == [0, 1, 0, 1]


def test_channels_first_last_and_grey_give_one_digest(tmp_path):
    train, test = pixels(6, 4, 5), pixels(4, 4, 5)
    digests = set()
    for k, shape in enumerate([(4, 5), (1, 4, 5), (4, 5, 1)]):
        write_npz(tmp_path / f"{k}.npz", x_train=train.reshape(6, *shape), x_test=test.reshape(4, *shape))
        digests.add(make(tmp_path, "npz", (1, 4, 5), source=tmp_path / f"{k}.npz").digest)
    assert len(digests) == 1


def test_digest_changes_with_a_pixel_a_label_an_order_and_a_split():
    train, test = (
        make_split(pixels(6, 1, 2, 2), [0, 1, 0, 1, 0, 1]),
        make_split(pixels(4, 1, 2, 2), [0, 1, 0, 1]),
    )
    image, label = train.images.copy(), train.labels.copy()
    image[0, 0, 0, 0] ^= 1
    label[0] = 1
    swapped = make_split(train.images[::-1], train.labels)
    variants = [(train, test), (test, train), (swapped, test)]
    variants += [(make_split(image, train.labels), test), (make_split(train.images, label), test)]
    assert len({digest_splits(*both) for both in variants}) == 5


def test_preparing_again_replaces_the_old_images(tmp_path):
    write_npz(tmp_path / "a.npz")
    write_npz(tmp_path / "b.npz")
    first = make(tmp_path, "npz", (3, 4, 5), source=tmp_path / "a.npz")
    second = make(tmp_path, "npz", (3, 4, 5), source=tmp_path / "b.npz")
    assert first.digest != second.digest
    assert read_manifest(tmp_path / "root", "toy") == second
    assert not list((tmp_path / "root" / "toy").glob(".*"))


def test_manifest_keeps_the_sha256_of_the_files_as_written(tmp_path):
    write_npz(tmp_path / "toy.npz")
    manifest = make(tmp_path, "npz", (3, 4, 5), source=tmp_path / "toy.npz")
    files = sorted((tmp_path / "root" / "toy").glob("*.npy"))
    assert manifest.arrays == {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert len(files) == 4


@pytest.mark.parametrize("given", [True, False])
def test_source_comes_before_the_path_of_the_registry(tmp_path, given):
    write_npz(tmp_path / "registered.npz")
    write_npz(tmp_path / "given.npz")
    registry = tmp_path / "mine.yaml"
    registry.write_text(
        "version: 1\ndatasets:\n  toy: {reader: npz, path: registered.npz, image_shape: [3, 4, 5]}\n"
    )
    arguments = ["--registry", str(registry), "--datasets", "toy", "--root", str(tmp_path / "root")]
    arguments += ["--source", str(tmp_path / "given.npz")] if given else []
    prepare_command.main(arguments, standalone_mode=False)
    found = read_manifest(tmp_path / "root", "toy")
    assert found.source == ("npz:given.npz" if given else "npz:registered.npz")


# ------------------------------------------------------------------ readers


def test_digits_are_the_known_real_images():
    raw = read_digits(Path(), (1, 8, 8))
    assert raw.train.images.shape == (1262, 1, 8, 8)
    assert raw.test.images.shape == (535, 1, 8, 8)
    assert digest_splits(raw.train, raw.test) == DIGITS_DIGEST
    assert set(np.unique(raw.train.images)) == {round(level * 255 / 16) for level in range(17)}
    assert np.bincount(raw.test.labels).min() >= 50


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setattr(readers, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="needs scikit-learn") as caught:
        readers.digits_table()
    assert "install" in caught.value.hint


@pytest.mark.slow
def test_digits_file_is_what_scikit_learn_loads():
    from sklearn.datasets import load_digits

    bundle = load_digits()
    assert np.array_equal(readers.digits_table(), np.column_stack([bundle.data, bundle.target]))


def test_svhn_without_scipy_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    for name in ("train", "test"):
        (tmp_path / "src" / f"{name}_32x32.mat").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(EnvironmentFault, match="needs scipy"):
        make(tmp_path, "svhn", (3, 32, 32))


def test_cifar_files_are_read_plane_by_plane(tmp_path):
    rows = write_cifar10(tmp_path / "src" / "cifar-10-batches-py")
    manifest = make(tmp_path, "cifar10", (3, 32, 32))
    assert manifest.classes == ("cat", "dog")
    assert manifest.train_size == 20
    assert not manifest.official
    images = load_images("toy", "train", root=tmp_path / "root").images.numpy()
    assert np.array_equal(images.reshape(20, 3072), rows[:20])
    inner = make(tmp_path, "cifar10", (3, 32, 32), source=tmp_path / "src" / "cifar-10-batches-py")
    assert inner.digest == manifest.digest


def test_cifar100_takes_the_fine_labels(tmp_path):
    folder = tmp_path / "src" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name in ("train", "test"):
        content = {"data": pixels(3, 3072), "fine_labels": [2, 0, 1], "coarse_labels": [0, 0, 0]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["a", "b", "c"]}))
    assert make(tmp_path, "cifar100", (3, 32, 32), num_classes=3).classes == ("a", "b", "c")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_cannot_run_code(tmp_path):
    path, proof = tmp_path / "data_batch_1", tmp_path / "exploded"
    path.write_bytes(pickle.dumps({"data": Bomb(proof)}))
    with pytest.raises(DataError, match="mkdir, which no image file needs"):
        read_pickle(path)
    assert not proof.exists()


def test_arrays_of_all_pickle_protocols_are_read(tmp_path):
    array = pixels(3, 4)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "file").write_bytes(pickle.dumps([array, np.arange(3.0)], protocol=protocol))
        assert np.array_equal(read_pickle(tmp_path / "file")[0], array), protocol


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"data": pixels(2, 3072), "labels": [0, 1]})[:500], "is damaged"),
        (
            pickle.dumps({"data": np.array([print], dtype=object), "labels": [0]}),
            "no image file needs|damaged",
        ),
        (pickle.dumps(np.array(["a", None], dtype=object)), "an array of type object"),
        (pickle.dumps({"labels": [0, 1]}), "not a CIFAR file"),
        (pickle.dumps({"data": pixels(2, 3072), "labels": [0]}), "not a CIFAR file"),
        (pickle.dumps([1, 2]), "not a CIFAR file"),
    ],
)
def test_damaged_cifar_files_are_refused(tmp_path, content, message):
    folder = tmp_path / "src" / "cifar-10-batches-py"
    write_cifar10(folder)
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match=message):
        make(tmp_path, "cifar10", (3, 32, 32))


def test_meta_file_without_names_is_refused(tmp_path):
    folder = tmp_path / "src" / "cifar-10-batches-py"
    write_cifar10(folder)
    (folder / "batches.meta").write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match="has no class names"):
        make(tmp_path, "cifar10", (3, 32, 32))
    (folder / "batches.meta").unlink()
    assert make(tmp_path, "cifar10", (3, 32, 32)).classes == ("0", "1")


def write_idx(folder, name, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape)
    (folder / name).write_bytes(header + array.tobytes())


@pytest.mark.parametrize(("reader", "inner"), [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw")])
def test_mnist_files_keep_28x28_and_one_channel(tmp_path, reader, inner):
    folder = tmp_path / "src" / inner
    folder.mkdir(parents=True)
    images = pixels(20, 28, 28)
    for name in ("train", "t10k"):
        write_idx(folder, f"{name}-images-idx3-ubyte", images)
        write_idx(folder, f"{name}-labels-idx1-ubyte", np.arange(20, dtype=np.uint8) % 10)
    manifest = make(tmp_path, reader, (1, 28, 28), num_classes=10)
    assert manifest.image_shape == (1, 28, 28)
    assert len(manifest.classes) == 10
    assert np.array_equal(load_images("toy", "test", root=tmp_path / "root").images[:, 0].numpy(), images)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x00\x08\x03\x00", b"\x00\x00\x08\x01\x00\x00\x00\x05abc", b"PK\x03\x04abcd"]
)
def test_damaged_idx_files_are_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        read_idx(tmp_path / "file")


def write_stl10(folder, images, labels):
    folder.mkdir(parents=True)
    for name in ("train", "test"):
        np.ascontiguousarray(images.transpose(0, 3, 2, 1)).tofile(folder / f"{name}_X.bin")
        (labels + 1).astype(np.uint8).tofile(folder / f"{name}_y.bin")


def test_stl10_columns_come_first_and_labels_from_one(tmp_path):
    images = pixels(4, 96, 96, 3)
    write_stl10(tmp_path / "src" / "stl10_binary", images, np.array([0, 1, 0, 1]))
    make(tmp_path, "stl10", (3, 96, 96))
    found = load_images("toy", "train", root=tmp_path / "root")
    assert np.array_equal(found.images.numpy(), images.transpose(0, 3, 1, 2))
    assert found.labels.tolist() == [
        0,
        1,
        0,
        1,
    ]
    assert make(tmp_path, "stl10", (3, 64, 64)).image_shape == (3, 64, 64)
    with pytest.raises(ConfigError, match="3 channels"):
        make(tmp_path, "stl10", (1, 64, 64))
    with open(tmp_path / "src" / "stl10_binary" / "test_X.bin", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match="truncated"):
        make(tmp_path, "stl10", (3, 64, 64))


def test_resize_of_a_flat_image_is_flat():
    assert (resize(np.full((1, 96, 96, 3), 37, np.uint8), (3, 64, 64)) == 37).all()


def test_svhn_ten_means_zero(tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    (tmp_path / "src").mkdir()
    images = pixels(4, 32, 32, 3)
    for name in ("train", "test"):
        content = {"X": images.transpose(1, 2, 3, 0), "y": np.array([[10], [1], [10], [1]], np.uint8)}
        savemat(tmp_path / "src" / f"{name}_32x32.mat", content)
    make(tmp_path, "svhn", (3, 32, 32), classes=["0", "1"])
    found = load_images("toy", "test", root=tmp_path / "root")
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert np.array_equal(found.images.numpy(), images.transpose(0, 3, 1, 2))
    (tmp_path / "src" / "test_32x32.mat").write_bytes(b"short")
    with pytest.raises(DataError, match="cannot be read"):
        make(tmp_path, "svhn", (3, 32, 32), classes=["0", "1"])


def write_image(path, size=(6, 5), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(mode) if mode == "RGB" else None
    shape = (size[1], size[0]) + ((channels,) if channels else ())
    array = rng.integers(0, 256, shape, np.uint8)
    Image.fromarray(array).save(path)
    return array


def write_folder(source, classes=("ant", "bee")):
    arrays = {}
    for split in ("train", "test"):
        for label in classes:
            for k in range(2):
                arrays[split, label, k] = write_image(source / split / label / f"{k}.png")
    return arrays


def test_a_folder_of_images_becomes_a_data_set(tmp_path):
    arrays = write_folder(tmp_path / "src")
    (tmp_path / "src" / "train" / "ant" / "notes.txt").write_text("not an image")
    manifest = make(tmp_path, "folder", (3, 5, 6), unofficial=False)
    assert manifest.classes == ("ant", "bee")
    assert manifest.official
    found = load_images("toy", "train", root=tmp_path / "root")
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(found.images[3].permute(1, 2, 0).numpy(), arrays["train", "bee", 1])
    assert make(tmp_path, "folder", (1, 3, 3)).image_shape == (1, 3, 3)


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(DataMissingError, match="no folder"):
        make(tmp_path, "folder", (3, 5, 6))
    with pytest.raises(ConfigError, match="no path to read from"):
        make(tmp_path, "folder", (3, 5, 6), source=None)
    write_folder(tmp_path / "src")
    with pytest.raises(DataError, match=r"files name the classes ant, bee, the registry bee, cow"):
        make(tmp_path, "folder", (3, 5, 6), classes=["bee", "cow"])
    with pytest.raises(DataError, match="2 classes found, the registry expects 3"):
        make(tmp_path, "folder", (3, 5, 6), num_classes=3)
    with pytest.raises(ConfigError, match="1 or 3 channels"):
        make(tmp_path, "folder", (2, 5, 6))
    (tmp_path / "src" / "test" / "ant" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png cannot be read"):
        make(tmp_path, "folder", (3, 5, 6))
    (tmp_path / "src" / "test" / "cow").mkdir()
    with pytest.raises(DataError, match="has a class 'cow'"):
        make(tmp_path, "folder", (3, 5, 6))


def test_folder_without_images_of_a_class_names_class_and_split(tmp_path):
    write_folder(tmp_path / "src")
    for path in (tmp_path / "src" / "test" / "bee").iterdir():
        path.unlink()
    with pytest.raises(EmptyClassError, match=r"toy, test split: no example of class 1 \(bee\)"):
        make(tmp_path, "folder", (3, 5, 6))


def write_tiny(source, *, val_folders):
    folder = source / "tiny-imagenet-200"
    for wnid in ("n02", "n01"):
        write_image(
            folder / "train" / wnid / "images" / f"{wnid}_0.JPEG", (64, 64), "RGB" if wnid == "n01" else "L"
        )
    lines = []
    for k, wnid in enumerate(["n02", "n01", "n01"]):
        inner = folder / "val" / wnid / "images" if val_folders else folder / "val" / "images"
        Image.new("RGB", (64, 64), (k * 40, 0, 0)).save(
            inner / f"val_{k}.JPEG"
            if inner.is_dir()
            else (inner.mkdir(parents=True) or inner / f"val_{k}.JPEG")
        )
        lines.append(f"val_{k}.JPEG\t{wnid}\t0\t0\t1\t1\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return folder


def test_tiny_imagenet_reads_both_layouts_alike(tmp_path):
    splits = []
    for val_folders in (False, True):
        write_tiny(tmp_path / str(val_folders), val_folders=val_folders)
        raw = READERS["tiny-imagenet"](tmp_path / str(val_folders), (3, 64, 64))
        assert raw.classes == ("n01", "n02")
        assert raw.test.labels.tolist() == [1, 0, 0]
        assert raw.train.images.shape == (2, 3, 64, 64)
        splits.append(raw.test.images)
    assert np.array_equal(*splits)


def test_damaged_tiny_imagenet_is_refused(tmp_path):
    folder = write_tiny(tmp_path / "src", val_folders=False)
    table = folder / "val" / "val_annotations.txt"
    for content, message in [("val_0.JPEG\tn99\n", "has class 'n99'"), ("val_0.JPEG\n", "not NAME<TAB>WNID")]:
        table.write_text(content)
        with pytest.raises(DataError, match=message):
            make(tmp_path, "tiny-imagenet", (3, 64, 64))
    table.unlink()
    with pytest.raises(DataMissingError, match="there is no file"):
        make(tmp_path, "tiny-imagenet", (3, 64, 64))


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"y_train": np.array([0, 1, 0, 1, 0, 2])},
            DataError,
            r"train split: label 2 at position 5 is outside 0\.\.1",
        ),
        ({"y_test": np.array([0, 1, 0, -1])}, DataError, r"test split: label -1 at position 3"),
        ({"y_test": np.zeros(4, int)}, EmptyClassError, r"test split: no example of class 1 \(1\)"),
        ({"x_train": np.zeros((6, 3, 4, 5))}, DataError, "images are float64, not uint8"),
        ({"x_test": pixels(4, 3, 4, 4)}, DataError, r"test split: images are \(3, 4, 4\), expected"),
        ({"y_train": np.arange(5) % 2}, DataError, "6 images but 5 labels"),
        ({"y_train": np.zeros(6)}, DataError, "y_train holds float64"),
        ({"y_train": None}, DataError, "has no array 'y_train'"),
        ({"x_train": np.array([None, 1], dtype=object)}, DataError, "cannot be read"),
    ],
)
def test_bad_images_and_labels_name_the_split(tmp_path, changes, error, message):
    write_npz(tmp_path / "toy.npz", **changes)
    with pytest.raises(error, match=message):
        make(tmp_path, "npz", (3, 4, 5), source=tmp_path / "toy.npz", num_classes=2)
    assert read_manifest(tmp_path / "root", "toy") is None


def test_missing_npz_is_missing_data(tmp_path):
    with pytest.raises(DataMissingError, match="no file"):
        make(tmp_path, "npz", (3, 4, 5))


def test_digest_decides_what_is_official(tmp_path):
    write_cifar10(tmp_path / "src" / "cifar-10-batches-py")
    digest = make(tmp_path, "cifar10", (3, 32, 32)).digest
    assert make(tmp_path, "cifar10", (3, 32, 32), expected_digest=digest, unofficial=False).official
    with pytest.raises(DataError, match="not the official images") as caught:
        make(tmp_path, "cifar10", (3, 32, 32), expected_digest="0" * 64, unofficial=False)
    assert "--unofficial" in caught.value.hint
    assert not make(tmp_path, "cifar10", (3, 32, 32), expected_digest="0" * 64, unofficial=True).official


def test_without_a_known_digest_the_published_sizes_decide(tmp_path):
    write_cifar10(tmp_path / "src" / "cifar-10-batches-py")
    with pytest.raises(DataError, match=r"20 \+ 4 images, expected 50000 \+ 10000"):
        make(tmp_path, "cifar10", (3, 32, 32), unofficial=False)


def test_missing_files_without_network_say_what_to_type(tmp_path):
    with pytest.raises(DataMissingError, match="data_batch_1 is missing, and 5 more") as caught:
        make(tmp_path, "cifar10", (3, 32, 32), source=None)
    assert "fairbench prepare toy" in caught.value.hint
    assert "--source DIR" in caught.value.hint


@pytest.mark.parametrize(
    "error", [URLError("no route"), RuntimeError("File not found or corrupted."), TimeoutError()]
)
@pytest.mark.parametrize("reader", ["cifar10", "svhn", "mnist", "tiny-imagenet"])
def test_failed_downloads_are_missing_data(tmp_path, monkeypatch, reader, error):
    pytest.importorskip("torchvision")
    from torchvision.datasets import mnist, utils

    def fail(*args, **options):
        raise error

    monkeypatch.setattr(utils, "download_and_extract_archive", fail)
    monkeypatch.setattr(utils, "download_url", fail)
    monkeypatch.setattr(mnist, "download_and_extract_archive", fail)
    with pytest.raises(DataMissingError, match="toy cannot be downloaded") as caught:
        make(tmp_path, reader, (3, 32, 32), source=None, download=True)
    assert "on a machine with network" in caught.value.hint


def test_fetched_files_are_read(tmp_path, monkeypatch):
    pytest.importorskip("torchvision")
    from torchvision.datasets import utils

    def deliver(url, root, **options):
        write_cifar10(Path(root) / "cifar-10-batches-py")

    monkeypatch.setattr(utils, "download_and_extract_archive", deliver)
    assert make(tmp_path, "cifar10", (3, 32, 32), source=None, download=True).train_size == 20
    assert (tmp_path / "root" / "downloads" / "toy" / "cifar-10-batches-py").is_dir()


def test_unknown_reader_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="no reader called 'cifar11'"):
        make(tmp_path, "cifar11", (3, 32, 32))


def test_a_data_folder_that_cannot_be_written_is_refused(tmp_path):
    write_npz(tmp_path / "toy.npz")
    (tmp_path / "root").write_text("a file, not a folder")
    with pytest.raises(EnvironmentFault, match="cannot create the folder") as caught:
        make(tmp_path, "npz", (3, 4, 5), source=tmp_path / "toy.npz")
    assert "--data DIR" in caught.value.hint


# ------------------------------------------------------------------ real images


@pytest.fixture(scope="module")
def unpack():
    if not (REAL / "unpack.py").is_file():
        pytest.skip("needs ../shared/data with real images")
    sys.path.insert(0, str(REAL))
    try:
        import unpack as module
    finally:
        sys.path.remove(str(REAL))
    return module


def test_real_fashion_mnist_layout_is_read(tmp_path, unpack):
    unpack.write_fashion(tmp_path / "src", REAL)
    make(tmp_path, "fashion-mnist", (1, 28, 28), num_classes=10)
    (_, _), (images, labels) = unpack.load("fashion-mnist", data=REAL)
    found = load_images("toy", "test", root=tmp_path / "root")
    assert np.array_equal(found.images[:, 0].numpy(), images)
    assert np.array_equal(found.labels.numpy(), labels)


def test_real_cifar10_batch_with_python_2_pickles_is_read(tmp_path, unpack):
    (_, _), (images, labels) = unpack.load("cifar10", per_class=(1, 5), data=REAL)
    content = [(b"batch_label", b"x"), (b"labels", labels.tolist()), (b"data", unpack.planes(images))]
    (tmp_path / "test_batch").write_bytes(unpack.Py2Pickler().dump(content))
    from fairbench.data.readers import read_cifar_file

    found = read_cifar_file(tmp_path / "test_batch", "labels")
    assert np.array_equal(found.images.transpose(0, 2, 3, 1), images)
    assert np.array_equal(found.labels, labels)
