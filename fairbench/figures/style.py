"""The style of all figures: sizes, fonts, the colour of each method and class, and names cut to fit.

PDF files embed TrueType fonts, SVG files keep text as text, PNG files have 300 dots per inch.
"""

import colorsys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fairbench.core.identity import digest
from fairbench.tables.escapes import plain

if TYPE_CHECKING:
    import pandas as pd

Width = Literal["one", "two"]
INCHES: Mapping[Width, float] = {"one": 3.35, "two": 6.9}  # one column and both columns of a paper
FONT_SIZE = 7.0  # points
INK = "#222222"  # text, axes and marks that belong to no method
MAX_CHARACTERS = 40  # of a name in a figure
NAME_INCHES = 1.1  # longest name beside an axis
CHARACTER_INCHES = 0.6 * FONT_SIZE / 72  # mean width of a character
FEW_CLASSES = 20  # with at most so many classes, a figure names each class

STYLE = Path(__file__).with_name("figure.mplstyle")
INKED = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color")

# Colours by Okabe and Ito, then by Tol, for colour-blind readers; the usual baseline, TRADES, is grey.
COLOURS = {
    "trades": "#666666",
    "trix": "#D55E00",
    "dafa": "#0072B2",
    "cfa": "#009E73",
    "fairtat": "#CC79A7",
    "frl": "#56B4E9",
    "wat": "#E69F00",
    "bat": "#882255",
    "targeted-trades": "#332288",
    "mart": "#999933",
    "pgd-at": "#BBBBBB",
}
OTHER_COLOURS = (
    "#117733",
    "#AA4499",
    "#661100",
    "#44AA99",
    "#DDCC77",
    "#6699CC",
)  # chosen by a hash of the name
CLASS_COLOURS = (
    "#332288",
    "#88CCEE",
    "#44AA99",
    "#117733",
    "#999933",
    "#DDCC77",
    "#CC6677",
    "#882255",
    "#AA4499",
    "#666666",
)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "h")
DASHES = ("-", "--", "-.", ":", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "||||", "++++", "oooo", "****", "OO")


@dataclass(frozen=True)
class EntryStyle:
    """The colour of an entry, and the hatch, marker and dashes that distinguish it without colour."""

    title: str
    colour: str
    hatch: str
    marker: str
    dash: Any


@contextmanager
def figure_style() -> Iterator[None]:
    """Use matplotlib's defaults with STYLE, and not the user's matplotlibrc, inside the block."""
    from matplotlib import style

    sizes = dict.fromkeys(("font.size", "axes.titlesize"), FONT_SIZE)
    with style.context(["default", STYLE, sizes | dict.fromkeys(INKED, INK)]):
        yield


def entry_styles(frame: "pd.DataFrame") -> dict[str, EntryStyle]:
    """The style of each `entry` of a frame, in its order; from its columns `method` and `title`.

    A method has the same colour in every figure. A variant ("trix-mixup") and a further entry of the same
    method have the method's colour, lighter.
    """
    entries = frame[["entry", "method", "title"]].drop_duplicates()
    known = list(COLOURS)
    taken = {known.index(method) for method in entries["method"] if method in COLOURS}
    styles: dict[str, EntryStyle] = {}
    used_colours: list[str] = []
    for entry, method, title in entries.itertuples(index=False):
        family = method if method in COLOURS else method.split("-")[0]
        number = int(digest(method), 16)
        place = known.index(family) if family in COLOURS else number % len(MARKERS)  # of marker and hatch
        colour = COLOURS.get(family) or OTHER_COLOURS[number % len(OTHER_COLOURS)]
        times = used_colours.count(colour) + (family != method and family in COLOURS)
        if times or method not in COLOURS:
            following = (k % len(MARKERS) for k in range(place, place + len(MARKERS)))
            place = next((k for k in following if k not in taken), place)
        used_colours.append(colour)
        taken.add(place)
        styles[entry] = EntryStyle(
            printable(title),
            lighter(colour, times),
            HATCHES[place],
            MARKERS[place],
            DASHES[place % len(DASHES)],
        )
    return styles


def lighter(colour: str, times: int) -> str:
    """The colour "#rrggbb", moved `times` steps towards white (at most 4)."""
    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    light = 1 - (1 - light) * 0.65 ** min(times, 4)
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, light, saturation))


def class_colours(count: int) -> list[str]:
    """A colour for each class, each used twice at most; grey for all when there are more classes."""
    few = count <= 2 * len(CLASS_COLOURS)
    return [CLASS_COLOURS[c % len(CLASS_COLOURS)] if few else "#888888" for c in range(count)]


def printable(text: str) -> str:
    """The text on one line, with a code for each character that the font lacks, cut to MAX_CHARACTERS."""
    known = _glyphs()
    return _cut("".join(c if ord(c) in known else f"[U+{ord(c):04X}]" for c in plain(text)), MAX_CHARACTERS)


def fit(text: str, inches: float) -> str:
    """The text cut to about `inches`."""
    return _cut(text, max(4, int(inches / CHARACTER_INCHES)))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    """The code points that the font has."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family=["DejaVu Sans"]))).get_charmap())
