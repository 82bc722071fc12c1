"""Open what lies in a folder that other people can write to: regular files of a limited size, no links.

A pipe in place of a file would block the reader for ever, a device has no end, and a link leads out of the
folder. None of them is read.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 256 << 20  # of a file that is read at once
_FLAGS = os.O_CLOEXEC | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe does not block
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def open_regular(path: str | Path, flags: int = os.O_RDONLY, *, links: bool = False) -> int:
    """A descriptor of the regular file `path`. Raises OSError for others, and for a link by default."""
    handle = os.open(path, flags | _FLAGS | (0 if links else _NO_LINK), 0o666)
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, f"it is {_kind(mode)}, not a file", str(path))
    except BaseException:
        os.close(handle)
        raise
    return handle


def read_regular(path: str | Path, limit: int = MAX_BYTES, *, links: bool = False) -> bytes:
    """The content of the regular file `path`, of at most `limit` bytes. Raises OSError."""
    with _opened(path, links) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"it has {size} bytes, more than the {limit} that are read", str(path))
        return file.read()


def read_end(path: str | Path, limit: int = MAX_BYTES) -> tuple[bytes, bool]:
    """The last `limit` bytes of the regular file `path`, and whether that is all of it. Raises OSError."""
    with _opened(path, links=False) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - limit))
        return file.read(), size <= limit


def append_regular(path: str | Path, content: bytes) -> None:
    """Append `content` to the regular file `path`, made when it is missing. Raises OSError."""
    handle = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with open(handle, "ab", buffering=0) as file:
        file.write(content)


def require_regular(path: str | Path, *, links: bool = False) -> None:
    """Raise OSError unless `path` is a regular file; for readers that open a path themselves."""
    mode = os.stat(path, follow_symlinks=links).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {_kind(mode)}, not a file", str(path))


def odd_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """What lies below `folder` and is neither a regular file nor a folder, with what it is; not below links.

    `folder` itself too, when it is a link.
    """
    if folder.is_symlink():
        yield folder, _kind(stat.S_IFLNK)
        return
    for root, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            path = Path(root, name)
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:  # removed meanwhile, as temporary files are
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                yield path, _kind(mode)


def _opened(path: str | Path, links: bool) -> BinaryIO:
    return open(open_regular(path, links=links), "rb", buffering=0)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "of an unknown kind")
