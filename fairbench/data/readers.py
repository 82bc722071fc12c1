"""Readers: uint8 arrays from the published files of data sets.

Each reader takes (source folder, image_shape) and returns `RawData` with images (N, channels, H, W) in the
order of the files. None of them needs torch, torchvision or the network, or runs code from a file.
"""

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairbench.core.errors import EnvironmentFault
from fairbench.data.folders import read_folder, read_tiny_imagenet, resize
from fairbench.data.npz import read_npz
from fairbench.data.pickles import damaged, read_pickle
from fairbench.data.splits import RawData, Split, make_split

Shape = tuple[int, int, int]
Reader = Callable[[Path, Shape], RawData]

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
STL10_SIDE = 96
GZIP = b"\x1f\x8b"  # the first bytes of a compressed file


class Published(NamedTuple):
    """A published data set: its inner folder, its files, and the numbers of training and test images.

    The numbers show incomplete data where no digest is known. `archive`: the download, if it is one file;
    `names`: a file with class names.
    """

    folder: str
    files: Sequence[str]
    sizes: tuple[int, int]
    archive: str = ""
    names: str = ""


def read_digits(source: Path, image_shape: Shape) -> RawData:
    """scikit-learn's 1797 real 8x8 digits, 1262 for training and 535 for testing.

    The last 30 % of each class in file order (rounded down) are the test split. Grey levels 0..16 are scaled
    to round(level * 255 / 16).
    """
    table = digits_table()
    images = np.rint(table[:, :64].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = table[:, 64].astype(np.int64)
    in_test = np.zeros(len(labels), bool)
    for label in range(10):
        position = np.flatnonzero(labels == label)
        in_test[position[len(position) - len(position) * 3 // 10 :]] = True
    train, test = (make_split(images[part], labels[part]) for part in (~in_test, in_test))
    return RawData(train, test, tuple("0123456789"))


def digits_table() -> NDArray[np.float64]:
    """(1797, 65): 64 grey levels and the label. Raises EnvironmentFault without scikit-learn.

    Read from the file in scikit-learn, because importing the package takes seconds.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise EnvironmentFault(
            "the data set digits needs scikit-learn.", hint="install it: pip install scikit-learn"
        )
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    bundle = load_digits()
    return np.column_stack([bundle.data, bundle.target])


def read_cifar10(source: Path, image_shape: Shape) -> RawData:
    """CIFAR-10 from cifar-10-batches-py."""
    folder = locate(source, "cifar10")
    batches = [read_cifar_file(folder / f"data_batch_{k}", "labels") for k in range(1, 6)]
    train = make_split(
        np.concatenate([b.images for b in batches]), np.concatenate([b.labels for b in batches])
    )
    return RawData(
        train, read_cifar_file(folder / "test_batch", "labels"), cifar_classes(folder / "batches.meta")
    )


def read_cifar100(source: Path, image_shape: Shape) -> RawData:
    """CIFAR-100 (fine labels) from cifar-100-python."""
    folder = locate(source, "cifar100")
    train, test = (read_cifar_file(folder / name, "fine_labels") for name in ("train", "test"))
    return RawData(train, test, cifar_classes(folder / "meta"))


def read_cifar_file(path: Path, label_key: str) -> Split:
    """The split in one CIFAR pickle: rows of 3072 bytes, red, green and blue plane."""
    content = read_pickle(path)
    try:
        pixels, labels = content["data"], np.asarray(content[label_key], np.int64)
        if pixels.dtype != np.uint8 or len(pixels) != len(labels):
            raise ValueError(f"{len(pixels)} images of {pixels.dtype}, {len(labels)} labels")
        return make_split(pixels.reshape(len(pixels), 3, 32, 32), labels)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, f"is not a CIFAR file: {type(error).__name__}: {error}.") from error


def cifar_classes(path: Path) -> tuple[str, ...] | None:
    """Class names in label order, or None without a meta file."""
    if not path.is_file():
        return None
    content = read_pickle(path)
    fields = content if isinstance(content, dict) else {}
    names = fields.get("label_names") or fields.get("fine_label_names")
    if not isinstance(names, list):
        raise damaged(path, "has no class names.")
    return tuple(str(name) for name in names)


def read_stl10(source: Path, image_shape: Shape) -> RawData:
    """STL-10 from stl10_binary, resized from 96x96 as the papers' programs do (bilinear, antialiased)."""
    folder = locate(source, "stl10")
    splits = []
    for name in ("train", "test"):
        pixels, labels = (np.fromfile(folder / f"{name}_{part}.bin", np.uint8) for part in "Xy")
        if pixels.size != labels.size * 3 * STL10_SIDE**2:
            reason = f"holds {pixels.size} bytes for {labels.size} labels: it is truncated."
            raise damaged(folder / f"{name}_X.bin", reason)
        images = pixels.reshape(-1, 3, STL10_SIDE, STL10_SIDE).transpose(0, 3, 2, 1)  # stored by column
        splits.append(make_split(resize(images, image_shape), labels.astype(np.int64) - 1))
    names = folder / "class_names.txt"
    classes = tuple(names.read_text().split()) if names.is_file() else None
    return RawData(splits[0], splits[1], classes)


def read_svhn(source: Path, image_shape: Shape) -> RawData:
    """SVHN (cropped digits) from train_32x32.mat and test_32x32.mat; the file's label 10 is the digit 0."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise EnvironmentFault(
            "the data set svhn needs scipy.", hint="install it: pip install scipy"
        ) from error
    splits = []
    for name in ("train", "test"):
        path = source / f"{name}_32x32.mat"
        try:
            content = loadmat(path, variable_names=("X", "y"))
            images, labels = content["X"].transpose(3, 2, 0, 1), content["y"].reshape(-1).astype(np.int64)
        except Exception as error:  # a damaged .mat may raise any class
            raise damaged(path, f"cannot be read: {error}.") from error
        splits.append(make_split(images, np.where(labels == 10, 0, labels)))
    return RawData(splits[0], splits[1], tuple("0123456789"))


def read_mnist(source: Path, image_shape: Shape) -> RawData:
    """MNIST from MNIST/raw, 28x28 with one channel."""
    return read_idx_folder(locate(source, "mnist"), tuple("0123456789"))


def read_fashion_mnist(source: Path, image_shape: Shape) -> RawData:
    """Fashion-MNIST from FashionMNIST/raw, 28x28 with one channel."""
    return read_idx_folder(locate(source, "fashion-mnist"), FASHION_CLASSES)


def read_idx_folder(folder: Path, classes: tuple[str, ...]) -> RawData:
    """A data set in the format of MNIST: four IDX files."""
    train, test = (
        make_split(
            read_idx(published_file(folder / f"{name}-images-idx3-ubyte"))[:, None],
            read_idx(published_file(folder / f"{name}-labels-idx1-ubyte")),
        )
        for name in ("train", "t10k")
    )
    return RawData(train, test, classes)


def read_idx(path: Path) -> np.ndarray:
    """The unsigned bytes of an IDX file, which may be compressed, in the shape given by its header."""
    content = path.read_bytes()
    try:
        if content.startswith(GZIP):
            content = gzip.decompress(content)
        zero, kind, axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{axes}i", content, 4)
        if zero != 0 or kind != 8:
            raise ValueError("not an IDX file of unsigned bytes")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (ValueError, struct.error, OSError, EOFError, zlib.error) as error:
        raise damaged(path, f"is damaged: {error}.") from error


def locate(source: Path, reader: str) -> Path:
    """The folder of the reader's files: `source`, or the published inner folder in it."""
    parts = Path(PUBLISHED[reader].folder).parts
    inner = source.joinpath(*parts)
    around = source.parts[len(source.parts) - len(parts) :] == parts
    others = [source.joinpath(*parts[k:]) for k in range(len(parts))]
    candidates = [source if around else inner, source, *others]
    complete = (folder for folder in (*candidates, *_folders_in(source)) if not _absent(folder, reader))
    return next(complete, candidates[0])


def _folders_in(source: Path) -> Iterator[Path]:
    """The folders in `source`, down to three levels: archives put their own folders around the files."""
    for pattern in ("*/", "*/*/", "*/*/*/"):
        yield from sorted(path for path in source.glob(pattern) if path.is_dir())


def missing_files(source: Path, reader: str) -> list[Path]:
    """Files of the published layout that are missing; empty for readers without a download."""
    return _absent(locate(source, reader), reader) if reader in PUBLISHED else []


def _absent(folder: Path, reader: str) -> list[Path]:
    there = Path.is_dir if reader == "tiny-imagenet" else Path.is_file
    return [folder / name for name in PUBLISHED[reader].files if not there(published_file(folder / name))]


def published_file(path: Path) -> Path:
    """The file `path` as it is there: itself, compressed (.gz), or named with a dot before idx."""
    dotted = path.with_name(path.name.replace("-idx", ".idx"))
    variants = [path, path.with_name(f"{path.name}.gz"), dotted, dotted.with_name(f"{dotted.name}.gz")]
    return next((variant for variant in variants if variant.is_file()), path)


IDX_FILES = tuple(f"{s}-{k}-ubyte" for s in ("train", "t10k") for k in ("images-idx3", "labels-idx1"))
PUBLISHED = {
    "cifar10": Published(
        "cifar-10-batches-py",
        (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"),
        (50_000, 10_000),
        "cifar-10-python.tar.gz",
        "batches.meta",
    ),
    "cifar100": Published(
        "cifar-100-python", ("train", "test"), (50_000, 10_000), "cifar-100-python.tar.gz", "meta"
    ),
    "stl10": Published(
        "stl10_binary",
        ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
        (5_000, 8_000),
        "stl10_binary.tar.gz",
        "class_names.txt",
    ),
    "svhn": Published("", ("train_32x32.mat", "test_32x32.mat"), (73_257, 26_032)),
    "mnist": Published("MNIST/raw", IDX_FILES, (60_000, 10_000)),
    "fashion-mnist": Published("FashionMNIST/raw", IDX_FILES, (60_000, 10_000)),
    "tiny-imagenet": Published(
        "tiny-imagenet-200", ("train", "val"), (100_000, 10_000), "tiny-imagenet-200.zip"
    ),
}
READERS: dict[str, Reader] = {
    "digits": read_digits,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "stl10": read_stl10,
    "svhn": read_svhn,
    "mnist": read_mnist,
    "fashion-mnist": read_fashion_mnist,
    "tiny-imagenet": lambda source, shape: read_tiny_imagenet(locate(source, "tiny-imagenet"), shape),
    "folder": read_folder,
    "npz": read_npz,
}
