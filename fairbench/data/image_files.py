"""Image files: which files of a folder are images, and their pixels.

Nothing is dropped, turned, clipped or rescaled without a note, and a file that cannot be read rightly is
refused with the reason.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairbench.core.errors import ConfigError, DataError
from fairbench.core.file_kinds import file_kind
from fairbench.data.splits import Split, make_split

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Shape = tuple[int, int, int]
MODES = {1: "L", 3: "RGB"}
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "PPM", "GIF", "JPEG2000", "AVIF")
READABLE = "PNG, JPEG, WebP, TIFF, BMP, PPM, GIF, JPEG 2000 and AVIF"
TEXT_SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".xml", ".md", ".yaml", ".yml", ".html", ".log")
TEXT_NAMES = ("readme", "license", "licence")
CLUTTER = (
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "__macosx",
)  # of Windows, macOS
ORIENTATION = 0x0112  # EXIF tag; 1 is upright
BITS_PER_SAMPLE = 258  # TIFF tag
LOWEST_DEEP_MAXIMUM = 1 << 12  # pixels of 16 bits that never reach it use another scale
SHOWN = 5  # names in a message


class FolderContent(NamedTuple):
    """The files of a class folder, sorted: images, text files, and how many hidden files."""

    images: list[Path]
    texts: list[Path]
    num_hidden: int
    num_nested: int  # images in sub-folders


def hidden(name: str) -> bool:
    """Whether a file or folder is made by the system: `.DS_Store`, `._x.png`, `Thumbs.db`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in CLUTTER


def text_file(path: Path) -> bool:
    """Whether a file is a text by its name, such as a list of labels."""
    return path.suffix.lower() in TEXT_SUFFIXES or path.name.lower() in TEXT_NAMES


def side_file(path: Path) -> bool:
    """Whether a file is no image by its name: hidden, or a text."""
    return hidden(path.name) or text_file(path)


def folder_content(folder: Path) -> FolderContent:
    """The files in `folder` and its sub-folders. Every file that is neither text nor hidden is an image."""
    images, texts, num_hidden = [], [], 0
    visited: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in visited else [name for name in folders if not hidden(name)]
        if real in visited:  # a link back to a folder above
            continue
        visited.add(real)
        for name in names:
            path = Path(parent) / name
            if hidden(name):
                num_hidden += 1
            elif text_file(path):
                texts.append(path)
            else:
                images.append(path)
    num_nested = sum(path.parent != folder for path in images)
    return FolderContent(sorted(images), sorted(texts), num_hidden, num_nested)


def read_images(items: Sequence[tuple[Path, int]], image_shape: Shape) -> tuple[Split, list[str]]:
    """A split from (file, label) pairs, and notes on what was changed. Raises DataError naming files."""
    channels, height, width = image_shape
    if channels not in MODES:
        raise ConfigError(f"image files have 1 or 3 channels, image_shape has {channels}.")
    pixels = np.empty((len(items), channels, height, width), np.uint8)
    reader = ImageReader(image_shape)
    refused: list[tuple[Path, str]] = []
    for k, (path, _) in enumerate(items):
        try:
            pixels[k] = reader.read(path)
        except Refused as reason:
            refused.append((path, str(reason)))
    if refused:
        others = [path.name for path, _ in refused[1:]]
        raise DataError(
            f"the image {refused[0][0]} cannot be read: {refused[0][1]}."
            + (f" {len(others)} more cannot be read: {listed(others)}." if others else ""),
            hint=f"replace or convert the files, or move them out of the folder; read are {READABLE}",
        )
    reader.require_full_depth()
    return make_split(pixels, [label for _, label in items]), reader.notes(len(items))


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


class Refused(Exception):
    """Why one image file cannot be read rightly."""


class ImageReader:
    """Reads image files of one split, and counts what it changes."""

    def __init__(self, image_shape: Shape) -> None:
        from PIL import Image

        Image.init()
        self.formats = [name for name in FORMATS if name in Image.OPEN]
        self.channels, self.height, self.width = image_shape
        self.changes: Counter[str] = Counter()
        self.sizes: set[tuple[int, int]] = set()  # of resized images
        self.deep_maximum: int | None = None  # largest pixel of 16 bits
        self.deep_file = Path()

    def read(self, path: Path) -> NDArray[np.uint8]:
        """The pixels (channels, H, W) of a file: upright, 8 bits, resized. Raises Refused."""
        from PIL import Image

        try:
            with Image.open(path, formats=self.formats) as file:
                image = self._eight_bits(self._upright(self._one_frame(file)), path)
                self._require_opaque(image)
                image = self._converted(image)
        except Refused:
            raise
        except Exception as error:  # a damaged file may raise any class
            raise Refused(_reason(path, error)) from error
        if image.size != (self.width, self.height):
            self.changes["resized"] += 1
            self.changes["stretched"] += image.width * self.height != image.height * self.width
            self.sizes.add(image.size)
            image = image.resize((self.width, self.height), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(self.height, self.width, self.channels).transpose(2, 0, 1)

    def _one_frame(self, file: Any) -> Any:
        """`file`, which must hold one picture; MPO is a photograph with previews behind it."""
        frames = getattr(file, "n_frames", 1)
        if frames > 1 and file.format != "MPO":
            raise Refused(f"it holds {frames} frames, an animation or several pages")
        return file

    def _upright(self, file: Any) -> "PillowImage":
        """The image turned by its EXIF orientation."""
        from PIL import ImageOps

        deep = file.format == "TIFF" and max(file.tag_v2.get(BITS_PER_SAMPLE, (8,))) > 8
        deep |= file.format == "PNG" and _png_depth(file) > 8
        turned = file.getexif().get(ORIENTATION, 1) not in (0, 1)  # this may close the file
        file.load()
        self.changes["turned"] += turned
        image: PillowImage = ImageOps.exif_transpose(file)
        image.info["sixteen bits"] = deep or file.mode.startswith("I;16")
        image.info["format"] = file.format
        return image

    def _eight_bits(self, image: "PillowImage", path: Path) -> "PillowImage":
        """Pixels of 16 bits divided by 257, rounded; of colour images Pillow keeps the upper 8 bits."""
        from PIL import Image

        grey16 = image.mode.startswith("I;16") or (
            image.mode == "I" and image.info["format"] in ("PNG", "PPM")
        )
        if image.mode in ("I", "F") and not grey16:
            raise Refused("its pixels have 32 bits, and the file does not give their range")
        if not grey16 and not image.info["sixteen bits"]:
            return image
        pixels = np.asarray(image).astype(np.int64) if grey16 else np.asarray(image).astype(np.int64) * 257
        largest = int(pixels.max(initial=0))
        if self.deep_maximum is None or largest > self.deep_maximum:
            self.deep_maximum, self.deep_file = largest, path
        self.changes["deep"] += 1
        if not grey16:
            return image
        if "transparency" in image.info:
            raise Refused("it has transparent pixels, whose colour depends on a background")
        return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))

    def _require_opaque(self, image: "PillowImage") -> None:
        """Raise Refused for transparent pixels; an alpha channel that is opaque everywhere is no loss."""
        if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
            return
        smallest = np.asarray(image.convert("RGBA").getchannel("A")).min(initial=255)
        if smallest < 255:
            raise Refused("it has transparent pixels, whose colour depends on a background")

    def _converted(self, image: "PillowImage") -> "PillowImage":
        """The image with 1 or 3 channels."""
        self.changes["cmyk"] += image.mode == "CMYK"
        if self.channels == 1 and image.mode not in ("L", "1", "LA", "La"):
            colours = np.asarray(image.convert("RGB"))
            self.changes["coloured"] += bool((colours != colours[..., :1]).any())
        self.changes["grey"] += self.channels == 3 and image.mode in ("L", "1", "LA", "La")
        return image.convert(MODES[self.channels])

    def require_full_depth(self) -> None:
        """Raise DataError if no image of 16 bits uses the upper bits: dividing by 257 would make all dark."""
        if self.deep_maximum is None or self.deep_maximum >= LOWEST_DEEP_MAXIMUM:
            return
        raise DataError(
            f"the images have 16 bits, but no pixel is above {self.deep_maximum} (in {self.deep_file}): "
            "they use fewer bits, so which value is white cannot be known.",
            hint="scale them to 0..255 and store them with 8 bits",
        )

    def notes(self, count: int) -> list[str]:
        """What was changed, in sentences for the user; `count` images were read."""
        texts = {
            "turned": "turned upright, by their EXIF orientation",
            "deep": "reduced from 16 to 8 bits",
            "cmyk": "converted from CMYK, which changes colours a little",
            "coloured": "converted from colour to grey",
            "grey": "grey: the three channels are equal",
        }
        lines = [
            f"{self.changes[key]} of {count} images were {text}"
            for key, text in texts.items()
            if self.changes[key]
        ]
        if self.changes["resized"]:
            small, large = min(self.sizes), max(self.sizes)
            sizes = f"{small[0]}x{small[1]}" + (f" to {large[0]}x{large[1]}" if small != large else "")
            stretched = self.changes["stretched"]
            lines.append(
                f"{self.changes['resized']} of {count} images were resized to {self.width}x{self.height} "
                f"(they have {sizes})"
                + (f"; the proportions of {stretched} of them changed" if stretched else "")
            )
        return lines


def _png_depth(file: Any) -> int:
    """Bits per channel of a PNG file, from its header."""
    position = file.fp.tell()
    file.fp.seek(24)
    depth = file.fp.read(1)
    file.fp.seek(position)
    return depth[0] if depth else 8


def _reason(path: Path, error: Exception) -> str:
    """Why Pillow could not read the file, with what the file is if it is none of the formats."""
    from PIL import UnidentifiedImageError

    if not isinstance(error, UnidentifiedImageError):
        return f"{error}" or type(error).__name__
    kind = file_kind(path)
    return f"it is {kind}" if kind else "its format is none of those that fairbench reads"
