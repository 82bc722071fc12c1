"""What a file is, by its first bytes: downloads often leave something else under the expected name."""

from pathlib import Path

HEAD = 1024  # bytes that are looked at
MAGIC = (
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"PK\x03\x04", "a zip archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras or MATLAB)"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GGUF", "a GGUF file"),
    (b"MATLAB ", "a MATLAB file"),
)
POINTER = b"version https://git-lfs.github.com/spec/"


def file_kind(path: Path) -> str | None:
    """What the file is, as a noun phrase, None when its first bytes do not determine it. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(0)
        start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if not head:
            return "an empty file"
        if b"<svg" in start and start.startswith((b"<?xml", b"<svg", b"<!doctype svg")):
            return "an SVG drawing"
        if start.startswith(b"<?xml"):
            return "an XML document, which servers send as an error message"
        if start.startswith((b"<!doctype html", b"<html", b"<head", b"<script", b"<body")):
            return "a web page, not a download: open it in a browser to read its message"
        if head.startswith(POINTER):
            return "a pointer of Git LFS, not the file itself: run `git lfs pull` in its repository"
        for magic, kind in MAGIC:
            if head.startswith(magic):
                return kind
        if head[4:8] == b"ftyp":
            return "a HEIC photograph" if head[8:12] in (b"heic", b"heix", b"mif1", b"msf1") else "a video"
        if head[257:262] == b"ustar":
            return "a tar archive"
        if start.startswith((b"{", b"[")) and is_text(head):
            return "a JSON or text file"
        return "a text file" if is_text(head) else None


def is_text(head: bytes) -> bool:
    """Whether these bytes are printable text."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:  # a character that ends behind the head is no fault
        return 0 < len(head) - 3 <= error.start and is_text(head[: error.start])
    return "".join(text.split()).isprintable()
