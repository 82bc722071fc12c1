"""Downloads of published data sets with torchvision, checksums included. Used by `fairbench prepare`."""

import logging
import socket
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairbench.core.errors import DataMissingError

TINY_IMAGENET_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_IMAGENET_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
TIMEOUT = 60.0  # seconds without data on a connection
log = logging.getLogger(__name__)


def fetch(name: str, reader: str, folder: Path) -> None:
    """Download and unpack the published files of `reader` into `folder`, and verify their checksums.

    Raises DataMissingError when the network or a checksum fails.
    """
    log.info("downloading %s to %s", name, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with socket_timeout(TIMEOUT):
            download(reader, folder)
    except (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataMissingError(
            f"{name} cannot be downloaded: {reason}",
            hint=f"on a machine with network: fairbench prepare {name}\n"
            f"or put the published files into {folder}, or give their folder with --source DIR",
        ) from error


def download(reader: str, folder: Path) -> None:
    """Download the files of `reader`, from the addresses and with the checksums of torchvision."""
    from torchvision import datasets  # type: ignore[import-untyped]
    from torchvision.datasets import utils  # type: ignore[import-untyped]

    archives: dict[str, Any] = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "stl10": datasets.STL10,
    }
    if reader in archives:
        archive = archives[reader]
        utils.download_and_extract_archive(
            archive.url, str(folder), filename=archive.filename, md5=archive.tgz_md5
        )
    elif reader == "svhn":
        for split in ("train", "test"):
            url, filename, md5 = datasets.SVHN.split_list[split]
            utils.download_url(url, str(folder), filename, md5)
    elif reader in ("mnist", "fashion-mnist"):
        family = datasets.MNIST if reader == "mnist" else datasets.FashionMNIST
        family(str(folder), download=True)
    elif reader == "tiny-imagenet":
        utils.download_and_extract_archive(TINY_IMAGENET_URL, str(folder), md5=TINY_IMAGENET_MD5)
    else:
        raise RuntimeError(f"the reader {reader!r} has nothing to download")


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Inside the block, connections have a time limit, so that a download fails instead of hanging."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before or seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
