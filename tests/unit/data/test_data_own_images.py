"""A user's own images: nothing is dropped, turned, clipped or rescaled without a note."""

import gzip
import shutil
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fairbench.core.class_names import class_names_fault
from fairbench.core.errors import ConfigError, DataError, DataMissingError, EmptyClassError
from fairbench.core.file_kinds import file_kind
from fairbench.data.images import load_images
from fairbench.data.manifest import read_manifest
from fairbench.data.prepare import prepare
from fairbench.planning.prepared import prepared_only
from fairbench.planning.selection import Selection, parse_selection
from fairbench.registry import load_registry

SHAPE = (3, 6, 5)
SUFFIXES = ("png", "PNG", "bmp", "BMP", "webp", "tif", "tiff", "ppm", "gif", "TIFF", "Webp")  # lossless here
rng = np.random.default_rng(0)


def pixels(*shape):
    return rng.integers(0, 256, shape, np.uint8)


def colours():
    """An image with few colours, which GIF keeps exactly."""
    return np.repeat(rng.integers(0, 256, (1, 5, 3), np.uint8), 6, axis=0)


def make(source, root, reader="folder", shape=SHAPE, **options):
    defaults = {"num_classes": None, "classes": None, "expected_digest": None, "download": False}
    options = defaults | {"source": source, "root": root, "unofficial": False} | options
    return prepare("toy", reader=reader, image_shape=shape, **options)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".webp":
        options |= {"lossless": True}
    Image.fromarray(array).save(path, **options)
    return path


def write_folder(source, *, test="test", train="train", classes=("ant", "bee"), count=2):
    for split in filter(None, (train, test)):
        for name in classes:
            for k in range(count):
                save(source / split / name / f"{k}.png", pixels(6, 5, 3))
    return source


def stored(root, split="train"):
    return load_images("toy", split, root=root).images.numpy()


def notes(manifest, word):
    return [note for note in manifest.notes if word in note]


# ------------------------------------------------------------------ which files are images


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(SUFFIXES), min_size=2, max_size=6))
def test_every_image_is_read_whatever_its_suffix(suffixes):
    with tempfile.TemporaryDirectory() as folder:
        source, root = write_folder(Path(folder) / "src"), Path(folder) / "root"
        written = []
        for k, suffix in enumerate(suffixes):
            written.append(colours())
            save(source / "train" / "cow" / f"{k}.{suffix}", written[-1])
        save(source / "test" / "cow" / "0.png", colours())
        manifest = make(source, root)
        assert manifest.train_size == 4 + len(suffixes)
        found = stored(root)[-len(suffixes) :].transpose(0, 2, 3, 1)
        assert np.array_equal(found, np.stack(written))


def test_photographs_in_every_jpeg_suffix_count(tmp_path):
    source = write_folder(tmp_path / "src")
    for k, suffix in enumerate(("jpg", "JPG", "jpeg", "JPEG", "jpe", "jfif", "jp2", "avif")):
        kinds = {"jpe": "JPEG", "jfif": "JPEG"}
        save(source / "train" / "ant" / f"photo{k}.{suffix}", pixels(6, 5, 3), format=kinds.get(suffix))
    assert make(source, tmp_path / "root").train_size == 4 + 8


def test_an_image_without_a_suffix_or_with_a_wrong_one_is_read_by_its_content(tmp_path):
    source = write_folder(tmp_path / "src")
    save(source / "train" / "ant" / "IMG_001", pixels(6, 5, 3), format="PNG")
    save(source / "train" / "ant" / "really.jpg", pixels(6, 5, 3), format="BMP")
    assert make(source, tmp_path / "root").train_size == 6


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.heic", b"\x00\x00\x00\x18ftypheic" + bytes(50), "a HEIC photograph"),
        ("x.mp4", b"\x00\x00\x00\x18ftypisom" + bytes(50), "a video"),
        ("x.npy", b"\x93NUMPY\x01\x00", "it is a NumPy array"),
        ("x.jpg", b"<!DOCTYPE html><html>quota</html>", "it is a web page"),
        ("x.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        ("x.zip", b"PK\x03\x04" + bytes(40), "it is a zip archive"),
        ("x.pdf", b"%PDF-1.7", "it is a PDF"),
        ("x.svg", b'<?xml version="1.0"?><svg></svg>', "it is an SVG drawing"),
        ("x.jpg", b'<?xml version="1.0"?><Error>AccessDenied</Error>', "error message"),
        ("x.png", b"", "it is an empty file"),
        ("x.dat", bytes(range(200, 250)), "its format is none"),
    ],
)
def test_what_is_no_image_is_named_with_what_it_is(tmp_path, name, content, reason):
    source = write_folder(tmp_path / "src")
    (source / "train" / "bee" / name).write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        make(source, tmp_path / "root")
    assert name in caught.value.message
    assert "PNG, JPEG" in caught.value.hint
    assert read_manifest(tmp_path / "root", "toy") is None


def test_all_unreadable_images_are_counted_in_one_message(tmp_path):
    source = write_folder(tmp_path / "src", count=9)
    for k in range(8):
        (source / "train" / "ant" / f"{k}.png").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"0\.png cannot be read.* 7 more cannot be read: 1\.png.* and 2 more"
    ):
        make(source, tmp_path / "root")


def test_hidden_files_and_texts_are_left_out_and_counted(tmp_path):
    source = write_folder(tmp_path / "src")
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini"):
        (source / "train" / "ant" / name).write_bytes(b"\x00\x05\x16\x07")
        (source / "train" / name).write_bytes(b"\x00")
    for name in ("labels.csv", "README", "notes.txt"):
        (source / "train" / "ant" / name).write_text("a")
    (source / "train" / ".ipynb_checkpoints").mkdir()
    (source / "__MACOSX" / "train").mkdir(parents=True)
    manifest = make(source, tmp_path / "root")
    assert (manifest.train_size, manifest.classes) == (4, ("ant", "bee"))
    assert notes(manifest, "4 hidden files")
    assert notes(manifest, "README, labels.csv, notes.txt")


def test_images_in_sub_folders_belong_to_their_class(tmp_path):
    source = write_folder(tmp_path / "src")
    save(source / "train" / "ant" / "site1" / "day2" / "x.png", pixels(6, 5, 3))
    (source / "train" / "ant" / "loop").symlink_to(source / "train" / "ant")
    manifest = make(source, tmp_path / "root")
    assert manifest.train_size == 5
    assert notes(manifest, "1 of 5 images are in sub-folders")


def test_images_outside_of_the_classes_are_refused(tmp_path):
    source = write_folder(tmp_path / "src")
    save(source / "test" / "lost.png", pixels(6, 5, 3))
    with pytest.raises(DataError, match=r"outside of the class folders: lost\.png"):
        make(source, tmp_path / "root")


def test_one_class_folder_is_not_a_classification(tmp_path):
    source = tmp_path / "src"
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            save(source / split / "images" / name / "0.png", pixels(6, 5, 3))
    with pytest.raises(DataError, match=r"one class folder, 'images' \(with ant, bee\)"):
        make(source, tmp_path / "root")


# ------------------------------------------------------------------ what an image says about itself


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", [2, 3, 5, 6, 8])
def test_the_exif_orientation_turns_the_image_upright(tmp_path, suffix, orientation):
    upright = np.zeros((40, 30, 3), np.uint8)
    upright[:20, :15] = 250  # bright in the upper left
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }
    as_stored = np.asarray(Image.fromarray(upright).transpose(turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = write_folder(tmp_path / "src", classes=("bee", "cow"))
    for split in ("train", "test"):
        save(source / split / "ant" / f"x.{suffix}", as_stored, exif=exif)
    manifest = make(source, tmp_path / "root", shape=(3, 40, 30))
    first = stored(tmp_path / "root")[0].transpose(1, 2, 0)
    assert np.abs(first.astype(int) - upright).max() <= (60 if suffix == "jpg" else 0)
    assert notes(manifest, "train: 1 of 5 images were turned upright")


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(["png", "tif"]), st.integers(0, 2**32 - 1))
def test_sixteen_bits_are_divided_by_257(suffix, seed):
    deep = np.random.default_rng(seed).integers(0, 65536, (6, 5), np.uint16)
    deep[0, 0] = 65535
    with tempfile.TemporaryDirectory() as folder:
        source, root = Path(folder) / "src", Path(folder) / "root"
        for split in ("train", "test"):
            save(source / split / "ant" / f"x.{suffix}", deep)
            save(source / split / "bee" / "x.png", pixels(6, 5))
        manifest = make(source, root, shape=(1, 6, 5))
        assert np.array_equal(stored(root)[0, 0], np.rint(deep / 257).astype(np.uint8))
        assert notes(manifest, "1 of 2 images were reduced from 16 to 8 bits")


def test_a_16_bit_pgm_is_scaled_by_its_maximum(tmp_path):
    source = write_folder(tmp_path / "src", classes=("bee", "cow"))
    deep = rng.integers(0, 65536, (6, 5)).astype(">u2")
    for split in ("train", "test"):
        (source / split / "ant").mkdir()
        (source / split / "ant" / "x.pgm").write_bytes(b"P5 5 6 65535\n" + deep.tobytes())
    make(source, tmp_path / "root", shape=(1, 6, 5))
    assert np.array_equal(stored(tmp_path / "root")[0, 0], np.rint(deep / 257).astype(np.uint8))


def write_deep_colours(path, array):
    """A PNG with 16 bits for each of three channels, which Pillow reads but does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def test_sixteen_bits_of_colour_are_reduced_and_said(tmp_path):
    source, deep = write_folder(tmp_path / "src"), rng.integers(0, 65536, (6, 5, 3))
    write_deep_colours(source / "train" / "ant" / "x.png", deep)
    manifest = make(source, tmp_path / "root")
    found = stored(tmp_path / "root")[2].transpose(1, 2, 0)
    assert np.abs(found - deep / 257).max() <= 1
    assert notes(manifest, "1 of 5 images were reduced from 16 to 8 bits")
    for path in (source / "train").rglob("*.png"):
        write_deep_colours(path, deep // 16)
    with pytest.raises(DataError, match="16 bits, but no pixel is above"):
        make(source, tmp_path / "root")


def test_twelve_bits_in_sixteen_are_refused(tmp_path):
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            save(tmp_path / "src" / split / name / "x.png", rng.integers(0, 4096, (6, 5)).astype(np.uint16))
    with pytest.raises(DataError, match=r"16 bits, but no pixel is above [34]\d\d\d"):
        make(tmp_path / "src", tmp_path / "root", shape=(1, 6, 5))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (rng.random((6, 5)).astype(np.float32), "32 bits"),
        (rng.integers(0, 70000, (6, 5)).astype(np.int32), "32 bits"),
    ],
)
def test_pixels_without_a_fixed_range_are_refused(tmp_path, array, reason):
    source = write_folder(tmp_path / "src")
    save(source / "train" / "ant" / "x.tif", array)
    with pytest.raises(DataError, match=reason):
        make(source, tmp_path / "root")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "gif"])
def test_transparency_is_refused_and_an_opaque_alpha_channel_is_not(tmp_path, mode, suffix):
    if (mode, suffix) in {("LA", "webp"), ("RGBA", "gif"), ("LA", "gif"), ("P", "tif"), ("P", "webp")}:
        pytest.skip("the format has no such images")
    colour = Image.fromarray(colours())

    def image(alpha):
        if mode == "P":
            palette = colour.quantize(8)
            palette.info["transparency"] = 0 if alpha < 255 else None
            return palette
        converted = colour.convert(mode)
        converted.putalpha(Image.fromarray(np.full((6, 5), alpha, np.uint8)))
        return converted

    source = write_folder(tmp_path / "src")
    path = source / "train" / "ant" / f"x.{suffix}"
    image(255).save(path, **({"lossless": True} if suffix == "webp" else {}))
    make(source, tmp_path / "root")
    expected = np.asarray(image(255).convert("RGB"))
    assert np.array_equal(stored(tmp_path / "root")[2].transpose(1, 2, 0), expected)
    transparent = image(100)
    transparent.save(path, **({"transparency": 0} if mode == "P" else {}))
    with pytest.raises(DataError, match="transparent pixels"):
        make(source, tmp_path / "root")


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_animations_and_pages_are_refused(tmp_path, suffix):
    source = write_folder(tmp_path / "src")
    frames = [Image.fromarray(pixels(6, 5, 3)) for _ in range(3)]
    path = source / "train" / "ant" / f"x.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="it holds 3 frames"):
        make(source, tmp_path / "root")


def test_palettes_bilevel_and_cmyk_images_have_their_colours(tmp_path):
    source = write_folder(tmp_path / "src", classes=("bee", "cow"))
    few = colours()
    for split in ("train", "test"):
        (source / split / "ant").mkdir()
        Image.fromarray(few).quantize(8).save(source / split / "ant" / "0.png")
        Image.fromarray(few[..., 0] > 100).save(source / split / "ant" / "1.png")
        Image.fromarray(np.full((6, 5, 3), 200, np.uint8)).convert("CMYK").save(
            source / split / "ant" / "2.jpg"
        )
    manifest = make(source, tmp_path / "root")
    found = stored(tmp_path / "root").transpose(0, 2, 3, 1)
    assert np.array_equal(found[0], few)
    assert set(np.unique(found[1])) <= {0, 255}
    assert np.abs(found[2].astype(int) - 200).max() < 10
    assert notes(manifest, "converted from CMYK")


def test_resizing_stretching_and_loss_of_colour_are_said(tmp_path):
    source = write_folder(tmp_path / "src")
    save(source / "train" / "ant" / "wide.png", pixels(10, 40, 3))
    save(source / "train" / "ant" / "large.png", pixels(12, 10, 3))
    save(source / "train" / "ant" / "flat.png", pixels(6, 5))
    manifest = make(source, tmp_path / "root")
    assert notes(
        manifest, "2 of 7 images were resized to 5x6 (they have 10x12 to 40x10); the proportions of 1"
    )
    assert notes(manifest, "train: 1 of 7 images were grey")
    assert notes(make(source, tmp_path / "grey", shape=(1, 6, 5)), "6 of 7 images were converted from colour")
    assert not notes(make(write_folder(tmp_path / "b"), tmp_path / "root"), "")


# ------------------------------------------------------------------ splits and classes


@pytest.mark.parametrize("test", ["val", "valid", "validation", "Test", "testing", "VAL"])
def test_other_names_of_the_test_split_are_read_and_said(tmp_path, test):
    manifest = make(write_folder(tmp_path / "src", test=test, train="Train"), tmp_path / "root")
    assert (manifest.train_size, manifest.test_size) == (4, 4)
    assert bool(notes(manifest, f"the test split is the folder {test}")) == (test.lower() != "test")


def test_a_val_folder_beside_test_is_said_to_be_unused(tmp_path):
    source = write_folder(write_folder(tmp_path / "src"), test="val", train=None)
    assert notes(make(source, tmp_path / "root"), "not read: the folder val")
    shutil.rmtree(source / "test")
    save(source / "test" / "unlabelled.png", pixels(6, 5, 3))  # a competition's test images
    assert notes(make(source, tmp_path / "root"), "the test split is the folder val")


def test_the_order_of_the_registry_defines_the_labels(tmp_path):
    source = write_folder(tmp_path / "src", classes=("ant", "bee", "cow"))
    manifest = make(source, tmp_path / "root", classes=("cow", "ant", "bee"))
    images = load_images("toy", "test", root=tmp_path / "root")
    assert manifest.classes == images.classes == ("cow", "ant", "bee")
    assert images.labels.tolist() == [1, 1, 2, 2, 0, 0]
    assert make(source, tmp_path / "other").digest != manifest.digest


def test_numbered_class_folders_are_said_to_be_in_the_order_of_text(tmp_path):
    source = write_folder(tmp_path / "src", classes=tuple(map(str, range(11))), count=1)
    assert notes(make(source, tmp_path / "root"), "numbers, ordered as text: 0, 1, 10, 2")


@pytest.mark.parametrize("reader", ["folder", "npz"])
def test_images_in_both_halves_are_counted(tmp_path, reader):
    if reader == "folder":
        source = write_folder(tmp_path / "src")
        shutil.copy(source / "train" / "ant" / "0.png", source / "test" / "ant" / "copy.png")
        shutil.copy(source / "train" / "ant" / "0.png", source / "test" / "bee" / "copy.png")
    else:
        source, train = tmp_path / "x.npz", pixels(6, *SHAPE)
        x_test, y = np.concatenate([pixels(4, *SHAPE), train[:1], train[:1]]), np.arange(6) % 2
        np.savez(source, x_train=train, y_train=y, x_test=x_test, y_test=y)
    manifest = make(source, tmp_path / "root", reader)
    assert manifest.num_shared == 2
    assert notes(manifest, "2 of 6 test images are training images too, 1 of them with another label")


def test_data_without_a_training_half_can_be_evaluated_but_not_trained_on(tmp_path):
    from fairbench.planning.resolve import resolve

    root = tmp_path / "root"
    for k, source in enumerate((write_folder(tmp_path / "src", train=None), tmp_path / "x.npz")):
        if k == 1:
            np.savez(source, x_test=pixels(4, *SHAPE), y_test=np.arange(4) % 2)
        manifest = make(source, root, "npz" if k else "folder")
        assert (manifest.train_size, manifest.test_size) == (0, 4)
        assert notes(manifest, "evaluated, not trained on")
        assert len(load_images("toy", "test", root=root)) == 4
        with pytest.raises(DataError, match="toy has no training images") as caught:
            load_images("toy", "train", root=root)
        assert "fairbench evaluate" in caught.value.hint
    mine = tmp_path / "mine.yaml"
    mine.write_text("version: 1\ndatasets: {toy: {reader: npz, path: x.npz, image_shape: [3, 6, 5]}}\n")
    named = {"datasets": ("toy",), "models": ("cnn-small",), "protocol": "quickstart"}
    with pytest.raises(DataError, match="no training images"):
        resolve(Selection(**named), load_registry([mine]), root)
    selection = parse_selection(load_registry([mine]), datasets="digits,toy*")
    assert prepared_only(selection, load_registry([mine]), root)[1] == ("toy",)  # not run, but not an error


def test_training_images_alone_are_not_enough(tmp_path):
    with pytest.raises(DataMissingError, match=r"no folder .*/test"):
        make(write_folder(tmp_path / "src", test=None), tmp_path / "root")
    np.savez(tmp_path / "x.npz", x_train=pixels(4, *SHAPE), y_train=np.arange(4) % 2)
    with pytest.raises(DataError, match="no array 'x_test'; it holds: x_train, y_train"):
        make(tmp_path / "x.npz", tmp_path / "root", "npz")


def test_folders_of_classes_without_splits_are_explained(tmp_path):
    with pytest.raises(DataMissingError, match="no folder") as caught:
        make(write_folder(tmp_path / "src") / "train", tmp_path / "root")
    assert "has ant, bee" in caught.value.hint


# ------------------------------------------------------------------ arrays


def write_npz(path, **changes):
    arrays = {
        "x_train": pixels(6, *SHAPE),
        "y_train": np.arange(6) % 3,
        "x_test": pixels(6, *SHAPE),
        "y_test": np.arange(6) % 3,
    }
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


@pytest.mark.parametrize("scale", ["unit", "signed", "standard"])
def test_floats_cast_to_bytes_are_refused(tmp_path, scale):
    floats = {"unit": rng.random((6, *SHAPE)).round(), "signed": rng.uniform(-1, 1, (6, *SHAPE)).round()}
    floats["standard"] = rng.normal(0, 1, (6, *SHAPE)).clip(-3, 3)
    cast = floats[scale].astype(np.int64).astype(np.uint8)
    with pytest.raises(DataError, match="the only pixels are") as caught:
        make(write_npz(tmp_path / "x.npz", x_test=cast), tmp_path / "root", "npz")
    assert "np.rint(255 * images)" in caught.value.hint


@pytest.mark.parametrize(
    ("images", "hint"),
    [
        (rng.random((6, *SHAPE)), r"in \[0, 1\]: store np.rint\(255"),
        (rng.normal(0, 1, (6, *SHAPE)), "undo the normalisation"),
        (rng.integers(0, 65536, (6, *SHAPE)).astype(np.uint16), r"scale them to 0\.\.255"),
        (rng.random((6, *SHAPE)) > 0.5, "astype"),
    ],
)
def test_other_types_of_pixels_are_refused_with_what_to_do(tmp_path, images, hint):
    with pytest.raises(DataError, match=rf"not uint8.\n  .*{hint}"):
        make(write_npz(tmp_path / "x.npz", x_train=images), tmp_path / "root", "npz")


def test_black_and_white_images_are_no_cast_floats(tmp_path):
    binary = (pixels(6, *SHAPE) > 128).astype(np.uint8) * 255
    make(write_npz(tmp_path / "x.npz", x_train=binary, x_test=binary[::-1]), tmp_path / "root", "npz")
    dark = pixels(6, *SHAPE) % 17  # scikit-learn's digits, levels 0..16
    path = write_npz(tmp_path / "x.npz", x_train=dark, x_test=dark[::-1])
    assert notes(make(path, tmp_path / "root", "npz"), "no pixel is above 16 of 255")


@settings(max_examples=15, deadline=None)
@given(st.integers(5, 64), st.integers(1, 64), st.integers(1, 64))
def test_five_and_more_channels_are_refused_in_the_registry(channels, height, width):
    with tempfile.TemporaryDirectory() as folder:
        mine = Path(folder) / "mine.yaml"
        shape = [channels, height, width]
        mine.write_text(f"version: 1\ndatasets: {{d: {{reader: npz, path: d.npz, image_shape: {shape}}}}}\n")
        with pytest.raises(ConfigError, match="channels come first") as caught:
            load_registry([mine])
        assert ("write [" in str(caught.value)) == (width <= 4)


@pytest.mark.parametrize(
    ("labels", "message", "hint"),
    [
        (np.eye(3, dtype=int)[np.arange(6) % 3], "one-hot, 6x3", "argmax"),
        (np.eye(3)[np.arange(6) % 3], "one-hot, 6x3", "argmax"),
        (np.eye(3, dtype=bool)[np.arange(6) % 3], "one-hot, 6x3", "argmax"),
        (np.ones((6, 3), int), "6x3 with several classes", "exactly one class"),
        (np.arange(12).reshape(6, 2), "6x2, not one number", "one for each image"),
        (np.array(["cat", "dog", "elk"] * 2), "holds text", "return_inverse"),
        (np.arange(6) % 3 + 0.0, "holds float64", "astype"),
        (np.int64(3), "a single value", "one for each image"),
        (np.arange(6) % 3 + 1, "no example of class 0", "labels are 1..3: labels count from 0"),
    ],
)
def test_labels_that_are_no_positions_are_refused_with_what_to_do(tmp_path, labels, message, hint):
    with pytest.raises(DataError, match=message) as caught:
        make(write_npz(tmp_path / "x.npz", y_train=labels), tmp_path / "root", "npz")
    assert hint in caught.value.hint


def test_labels_from_one_are_recognised_with_a_number_of_classes_too(tmp_path):
    path = write_npz(tmp_path / "x.npz", y_train=np.arange(6) % 3 + 1, y_test=np.arange(6) % 3 + 1)
    with pytest.raises(DataError, match="label 3 at position 2 is outside") as caught:
        make(path, tmp_path / "root", "npz", num_classes=3)
    assert "count from 0" in caught.value.hint


def test_missing_classes_are_not_taken_for_labels_from_one(tmp_path):
    path = write_npz(tmp_path / "x.npz", y_test=np.zeros(6, int))
    with pytest.raises(EmptyClassError) as caught:
        make(path, tmp_path / "root", "npz")
    assert "count from 0" not in caught.value.hint


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a", "a", "b"], "same name: 0 and 1 are 'a'"),
        (["a", "a ", "b"], "same name"),
        (["a", "", "b"], "class 1 is blank"),
        (["a", "  ", "b"], "class 1 is blank"),
        (["a", "b\nc", "d"], "cannot be printed"),
        ([["a", "b", "c"]], "one name for each class"),
    ],
)
def test_class_names_that_cannot_name_classes_are_refused(tmp_path, names, reason):
    path = write_npz(tmp_path / "x.npz", classes=np.array(names))
    with pytest.raises(DataError, match=reason):
        make(path, tmp_path / "root", "npz")


def test_class_names_in_bytes_are_text(tmp_path):
    names = np.array(["größe", "b", "c"])
    path = write_npz(tmp_path / "x.npz", classes=np.char.encode(names, "utf-8"))
    assert make(path, tmp_path / "root", "npz").classes == tuple(names)
    path = write_npz(tmp_path / "x.npz", classes=np.char.encode(names, "latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        make(path, tmp_path / "root", "npz")


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=1000)), max_size=5))
def test_a_fault_is_found_exactly_in_unusable_names(names):
    usable = all(n.strip() and n.isprintable() for n in names) and len({n.strip() for n in names}) == len(
        names
    )
    assert (class_names_fault(names) is None) == usable


def test_python_objects_are_refused_without_advice_to_load_them(tmp_path):
    path = write_npz(tmp_path / "x.npz", classes=np.array(["a", "b", None], dtype=object))
    with pytest.raises(DataError, match="'classes' cannot be read: it holds Python objects") as caught:
        make(path, tmp_path / "root", "npz")
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize("grey", [False, True])
def test_the_arrays_of_medmnist_are_read_as_they_are(tmp_path, grey):
    shape = (28, 28) if grey else (28, 28, 3)
    arrays = {}
    for split, count in (("train", 12), ("val", 4), ("test", 6)):
        arrays[f"{split}_images"] = pixels(count, *shape)
        arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    np.savez(tmp_path / "x.npz", **arrays)
    manifest = make(tmp_path / "x.npz", tmp_path / "root", "npz", (1 if grey else 3, 28, 28))
    assert (manifest.train_size, manifest.test_size) == (12, 6)
    assert notes(manifest, "not read: val_images and val_labels")
    expected = arrays["test_images"][:, None] if grey else arrays["test_images"].transpose(0, 3, 1, 2)
    assert np.array_equal(stored(tmp_path / "root", "test"), expected)
    for key in ("test_images", "test_labels"):
        del arrays[key]
    np.savez(tmp_path / "x.npz", **arrays)
    assert notes(
        make(tmp_path / "x.npz", tmp_path / "root", "npz", (1 if grey else 3, 28, 28)), "split is val_images"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>", "a web page"),
        (b"\x93NUMPY", "NumPy array"),
        (b"", "an empty file"),
        (b"\x80\x04x", "no file"),
    ],
)
def test_a_file_that_is_no_npz_is_named(tmp_path, content, reason):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        make(tmp_path / "x.npz", tmp_path / "root", "npz")
    assert "pickle" not in str(caught.value)


# ------------------------------------------------------------------ archives


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    )


def write_mnist(folder, *, compressed=True, dot=False):
    folder.mkdir(parents=True)
    images, labels = pixels(20, 28, 28), np.arange(20, dtype=np.uint8) % 10
    for name in ("train", "t10k"):
        for key, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{name}-{key}-ubyte".replace("-idx", ".idx" if dot else "-idx")
            path = path.with_name(f"{path.name}.gz") if compressed else path
            path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    return images


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dot", [True, False])
@pytest.mark.parametrize("inner", ["", "FashionMNIST/raw", "raw", "downloads/zalando"])
def test_official_gz_files_are_read_as_they_are_downloaded(tmp_path, compressed, dot, inner):
    images = write_mnist(tmp_path / "src" / inner, compressed=compressed, dot=dot)
    options = {"num_classes": 10, "unofficial": True}
    make(tmp_path / "src", tmp_path / "root", "fashion-mnist", (1, 28, 28), **options)
    assert np.array_equal(stored(tmp_path / "root")[:, 0], images)
    one = next((tmp_path / "src" / inner).iterdir())
    assert make(one, tmp_path / "root", "fashion-mnist", (1, 28, 28), **options).train_size == 20


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="needs Debian's dataset-fashion-mnist"
)
def test_the_official_fashion_mnist_files_of_debian_are_the_official_images(tmp_path):
    source = Path("/usr/share/datasets/fashion-mnist")
    manifest = make(source, tmp_path / "root", "fashion-mnist", (1, 28, 28), num_classes=10)
    assert (manifest.official, manifest.train_size, manifest.test_size) == (True, 60_000, 10_000)


def test_a_gz_file_that_is_truncated_or_a_web_page_is_refused(tmp_path):
    write_mnist(tmp_path / "src")
    path = tmp_path / "src" / "train-images-idx3-ubyte.gz"
    for content in (path.read_bytes()[:500], b"<!DOCTYPE html>"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is damaged"):
            make(tmp_path / "src", tmp_path / "root", "mnist", (1, 28, 28), num_classes=10)


def pack(archive, folder, inner):
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in folder.rglob("*"):
                zipped.write(path, f"{inner}{path.relative_to(folder)}")
    else:
        with tarfile.open(archive, "w:gz") as tar:
            for path in sorted(folder.rglob("*")):
                tar.add(path, f"{inner}{path.relative_to(folder)}", recursive=False)
    return archive


def write_cifar(folder):
    import pickle

    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        content = {"data": pixels(4, 3072), "labels": [0, 1, 0, 1]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog"]}))
    return folder


@pytest.mark.parametrize("as_file", [True, False])
def test_the_cifar_archive_is_read_as_it_is_downloaded(tmp_path, as_file):
    write_cifar(tmp_path / "unpacked" / "cifar-10-batches-py")
    (tmp_path / "downloads").mkdir()
    archive = pack(tmp_path / "downloads" / "cifar-10-python.tar.gz", tmp_path / "unpacked", "")
    options = {"reader": "cifar10", "shape": (3, 32, 32), "unofficial": True}
    manifest = make(archive if as_file else archive.parent, tmp_path / "root", **options)
    assert manifest.classes == ("cat", "dog")
    assert manifest.digest == make(tmp_path / "unpacked", tmp_path / "other", **options).digest
    flat = make(tmp_path / "unpacked" / "cifar-10-batches-py", tmp_path / "other", **options)
    assert flat.digest == manifest.digest
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["toy"]


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
@pytest.mark.parametrize("inner", ["", "leaves-v1/"])
def test_own_images_in_an_archive_are_read(tmp_path, suffix, inner):
    write_folder(tmp_path / "src")
    (tmp_path / "src" / "train" / "ant" / "._0.png").write_bytes(b"x")
    archive = pack(tmp_path / f"leaves.{suffix}", tmp_path / "src", inner)
    manifest = make(archive, tmp_path / "root")
    assert manifest.digest == make(tmp_path / "src", tmp_path / "other").digest


def test_archives_that_are_none_or_leave_their_folder_are_refused(tmp_path):
    (tmp_path / "leaves.zip").write_text("<html>sign in</html>")
    with pytest.raises(DataError, match=r"leaves\.zip is a web page"):
        make(tmp_path / "leaves.zip", tmp_path / "root")
    archive = pack(tmp_path / "x.tar.gz", write_folder(tmp_path / "src"), "../../")
    with pytest.raises(DataError, match="cannot be unpacked"):
        make(archive, tmp_path / "root")
    whole = pack(tmp_path / "y.tar.gz", tmp_path / "src", "").read_bytes()
    (tmp_path / "y.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be unpacked"):
        make(tmp_path / "y.tar.gz", tmp_path / "root")


def test_another_version_of_a_published_archive_is_listed(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "data_batch_1.bin").write_bytes(b"")
    with pytest.raises(DataMissingError, match=r"data_batch_1 is missing.* holds data_batch_1\.bin"):
        make(tmp_path / "src", tmp_path / "root", "cifar10", (3, 32, 32))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\xef\xbb\xbf  <!DOCTYPE HTML>", "a web page"),
        (b'{"error": "not found"}', "a JSON"),
        ("ä" * 600, "a text"),
        (bytes(range(256)), None),
    ],
)
def test_a_file_is_what_its_first_bytes_say(tmp_path, content, kind):
    content = content.encode() if isinstance(content, str) else content
    (tmp_path / "x").write_bytes(content)
    found = file_kind(tmp_path / "x")
    assert found is None if kind is None else found.startswith(kind)


def test_no_warning_of_the_image_library_reaches_the_user(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(write_folder(tmp_path / "src"), tmp_path / "root")
    assert not caught
