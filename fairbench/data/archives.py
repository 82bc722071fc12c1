"""Archives as they are downloaded: unpacked into a temporary folder while a data set is read."""

import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from fairbench.core.errors import DataError, ResultsError
from fairbench.core.file_kinds import file_kind
from fairbench.core.files import make_folder
from fairbench.data.readers import PUBLISHED, missing_files

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@contextmanager
def unpacked(source: Path, reader: str, root: Path) -> Iterator[Path]:
    """The folder (for the reader npz: the file) to read `source` from, which may be or hold an archive.

    What is unpacked lies in the data folder `root` until the block ends. Raises DataError for an archive
    that is damaged or something else, and OSError when it cannot be unpacked.
    """
    archive = find_archive(source, reader)
    if archive is None:
        is_file = reader in PUBLISHED and source.is_file()
        yield source.parent if is_file else source  # one of the published files stands for its folder
        return
    try:
        make_folder(root)
        with tempfile.TemporaryDirectory(dir=root, prefix=".unpacked-") as folder:
            unpack(archive, Path(folder), reader)
            yield only_array(Path(folder)) if reader == "npz" else Path(folder)
    except ResultsError as error:
        raise DataError(error.message, hint="choose another data folder with --data DIR") from error


def find_archive(source: Path, reader: str) -> Path | None:
    """The archive to unpack: `source`, or the published archive in it if the published files are missing."""
    if source.is_file():
        return source if source.name.lower().endswith(ARCHIVES) else None
    name = PUBLISHED[reader].archive if reader in PUBLISHED else ""
    if not name or not (source / name).is_file() or not missing_files(source, reader):
        return None
    return source / name


def unpack(archive: Path, folder: Path, reader: str) -> None:
    """Unpack the files that the reader needs; no member may leave `folder`. Raises DataError."""
    kind = file_kind(archive) or "no archive"
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(folder, [m for m in tar if wanted(reader)(m.name)], filter="data")
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(folder, [name for name in zipped.namelist() if wanted(reader)(name)])
        else:
            raise DataError(
                f"{archive} is {kind}, not an archive that can be unpacked.", hint="download it again"
            )
    except DataError:
        raise
    except Exception as error:  # a damaged archive may raise any class
        raise DataError(f"{archive} cannot be unpacked: {error}.", hint="download it again") from error


def wanted(reader: str) -> Callable[[str], bool]:
    """Which members of an archive are unpacked: of a published data set its files, of another one all."""
    if reader not in PUBLISHED or reader == "tiny-imagenet":
        return lambda name: True
    published = PUBLISHED[reader]
    names = {*published.files, *(f"{name}.gz" for name in published.files), published.names}
    return lambda name: PurePosixPath(name).name in names


def only_array(folder: Path) -> Path:
    """The one .npz file in an unpacked archive. Raises DataError."""
    files = sorted(folder.rglob("*.npz"))
    if len(files) != 1:
        raise DataError(f"the archive holds {len(files)} .npz files, not one.", hint="unpack it yourself")
    return files[0]
