"""Loading splits, subsets, and the checks at the door."""

import json

import numpy as np
import pytest
import torch

from fairbench.core.errors import DataError, DataMissingError, EmptyClassError
from fairbench.data.images import check_labels, check_unit_range, first_per_class, load_images
from fairbench.data.manifest import ARRAYS, Manifest, file_digest
from fairbench.data.prepare import prepare

LABELS = np.array([1, 0, 1, 1, 0, 2, 1, 0])


@pytest.fixture
def root(tmp_path):
    images = np.arange(8 * 2 * 3 * 3, dtype=np.uint8).reshape(8, 2, 3, 3)
    np.savez(tmp_path / "toy.npz", x_train=images, y_train=LABELS, x_test=images, y_test=LABELS)
    prepare(
        "toy",
        reader="npz",
        image_shape=(2, 3, 3),
        num_classes=3,
        classes=None,
        expected_digest=None,
        source=tmp_path / "toy.npz",
        root=tmp_path,
        download=False,
        unofficial=False,
    )
    return tmp_path


def seal(root):
    """Let the manifest vouch for the files as they are now: what is behind the SHA-256 is checked as well."""
    path = root / "toy" / "manifest.json"
    arrays = {array: file_digest(root / "toy" / f"{array}.npy") for array in ARRAYS}
    path.write_text(json.dumps({**json.loads(path.read_text()), "arrays": arrays}))


def test_images_come_as_tensors_on_the_device(root):
    images = load_images("toy", "train", root=root, device="cpu")
    assert images.images.dtype == torch.uint8
    assert images.labels.dtype == torch.int64
    assert (len(images), images.image_shape, images.num_classes) == (8, (2, 3, 3), 3)
    assert images.classes == ("0", "1", "2")
    assert images.device.type == "cpu"
    assert images.to("meta").device.type == "meta"


def test_subset_is_the_first_of_each_class_in_order(root):
    whole = load_images("toy", "train", root=root)
    part = load_images("toy", "train", root=root, subset_per_class=2)
    assert part.labels.tolist() == [1, 0, 1, 0, 2]
    assert torch.equal(part.images, whole.images[[0, 1, 2, 4, 5]])


def test_subset_larger_than_every_class_is_everything():
    assert first_per_class(LABELS, 4).tolist() == list(range(8))
    assert first_per_class(LABELS, None) == slice(None)


def test_subset_of_nothing_is_refused(root):
    with pytest.raises(EmptyClassError, match="no example"):
        load_images("toy", "train", root=root, subset_per_class=0)


def test_digits_need_no_preparation(tmp_path):
    images = load_images("digits", "test", root=tmp_path, reader="digits", subset_per_class=3)
    assert images.image_shape == (1, 8, 8)
    assert torch.bincount(images.labels).tolist() == [3] * 10
    assert not list(tmp_path.iterdir())


def test_other_digest_than_planned_is_refused(root):
    for name, reader in (("toy", None), ("digits", "digits")):
        with pytest.raises(DataError, match=f"{name}: the images have digest"):
            load_images(name, "train", root=root, reader=reader, expected_digest="0" * 64)


def test_data_set_that_is_not_prepared_says_what_to_type(tmp_path):
    with pytest.raises(DataMissingError) as caught:
        load_images("cifar100", "train", root=tmp_path)
    assert "fairbench prepare cifar100" in str(caught.value)


def test_unknown_split_is_refused(root):
    with pytest.raises(DataError, match="no split 'val'"):
        load_images("toy", "val", root=root)


@pytest.mark.parametrize("size", [0, 40, 200])
def test_truncated_file_is_refused(root, size):
    path = root / "toy" / "train_images.npy"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"train_images\.npy is damaged"):
        load_images("toy", "train", root=root)
    seal(root)
    with pytest.raises(DataError, match=r"train_images\.npy cannot be read") as caught:
        load_images("toy", "train", root=root)
    assert "prepare toy" in caught.value.hint


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("place", [20, -1])  # in the header and in the last number
def test_one_flipped_bit_is_refused_in_its_split_alone(root, array, place):
    path = root / "toy" / f"{array}.npy"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    split = array.split("_")[0]
    with pytest.raises(DataError, match=rf"{array}\.npy is damaged") as caught:
        load_images("toy", split, root=root)
    assert f"fairbench prepare toy --data {root}" in caught.value.hint
    load_images("toy", "test" if split == "train" else "train", root=root)


def test_file_with_objects_inside_is_refused(root):
    np.save(root / "toy" / "train_images.npy", np.array([print, 1], dtype=object), allow_pickle=True)
    seal(root)
    with pytest.raises(DataError, match="cannot be read"):
        load_images("toy", "train", root=root)


def test_missing_file_is_refused(root):
    (root / "toy" / "test_labels.npy").unlink()
    with pytest.raises(DataError, match=r"test_labels\.npy cannot be read"):
        load_images("toy", "test", root=root)


def test_arrays_of_another_size_than_the_manifest_are_refused(root):
    np.save(root / "toy" / "train_images.npy", np.zeros((7, 2, 3, 3), np.uint8))
    seal(root)
    with pytest.raises(DataError, match="its manifest has uint8"):
        load_images("toy", "train", root=root)


def test_labels_on_disk_are_checked(root):
    np.save(root / "toy" / "train_labels.npy", np.where(LABELS == 2, 3, LABELS))
    seal(root)
    with pytest.raises(DataError, match=r"label 3 at position 5 is outside 0\.\.2"):
        load_images("toy", "train", root=root)


def test_unofficial_images_are_announced(root, caplog):
    path = root / "toy" / "manifest.json"
    content = json.loads(path.read_text())
    assert set(content) == {"schema", *Manifest.__dataclass_fields__}
    path.write_text(json.dumps({**content, "official": False}))
    load_images("toy", "train", root=root)
    assert "not the official images" in caplog.text


def test_images_in_the_unit_range_pass():
    check_unit_range(torch.tensor([0.0, 0.5, 1.0]))
    check_labels(torch.tensor([0, 2]), 3)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.tensor([0.0, 1.01]), "largest 1.01"),
        (torch.tensor([-0.1, 1.0]), "smallest -0.1"),
        (torch.tensor([0.0, float("nan")]), "not in"),
        (torch.tensor([3], dtype=torch.uint8), "expected floats"),
    ],
)
def test_images_outside_the_unit_range_are_refused(x, message):
    with pytest.raises(DataError, match=message):
        check_unit_range(x)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 3]), r"label 3 at position 1 is outside 0\.\.2"),
        (torch.tensor([-1, 0]), "label -1"),
        (torch.tensor([0.0]), "expected whole numbers"),
        (torch.tensor([[0]]), "expected whole numbers"),
    ],
)
def test_labels_outside_the_classes_are_refused(y, message):
    with pytest.raises(DataError, match=message):
        check_labels(y, 3)
