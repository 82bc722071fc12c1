"""Downloads, through torchvision's fetcher and its checksums. Only `fairbench prepare` comes here."""

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
TIMEOUT = 60.0  # seconds without an answer
log = logging.getLogger(__name__)


def fetch(name: str, reader: str, folder: Path) -> None:
    """Download and unpack the published files of `reader` into `folder`, with their checksums.

    Raises DataMissingError when the network or a checksum fails.
    """
    log.info("fetching %s into %s", name, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with patience(TIMEOUT):
            download(reader, folder)
    except (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataMissingError(
            f"{name} cannot be fetched: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            hint=f"on a machine with network: fairbench prepare --datasets {name}\n"
            f"or put the published files under {folder}, or name their folder with --source DIR",
        ) from error


def download(reader: str, folder: Path) -> None:
    """Fetch what `reader` needs; archives and checksums are those torchvision knows."""
    from torchvision import datasets  # type: ignore[import-untyped]
    from torchvision.datasets import utils  # type: ignore[import-untyped]

    archives: dict[str, Any] = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "stl10": datasets.STL10,
    }
    if reader in archives:
        known = archives[reader]
        utils.download_and_extract_archive(known.url, str(folder), filename=known.filename, md5=known.tgz_md5)
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
def patience(seconds: float) -> Iterator[None]:
    """A time limit on silent connections, so that a machine behind a wall says so instead of waiting."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before or seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
