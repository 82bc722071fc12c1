"""The one house style: how every figure looks, what colour a method has, and names made harmless.

Vector first: PDF with embedded TrueType fonts, SVG whose text stays text, PNG where pixels are wanted.
"""

import colorsys
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fairbench.core.identity import digest
from fairbench.tables.escapes import plain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

Width = Literal["one", "two"]
INCHES: Mapping[Width, float] = {"one": 3.35, "two": 6.9}  # a column, and the text, of a two-column paper
SUFFIXES = (".pdf", ".svg", ".png")
SIZE = 7.0  # points, of most text
INK = "#222222"
LONGEST = 40  # characters of a name in a figure
NAME_INCHES = 1.1  # of a name at an axis
CHARACTER = 0.6 * SIZE / 72  # inches, about

RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
    "font.size": SIZE,
    "axes.titlesize": SIZE,
    "axes.titlelocation": "left",
    "axes.titlepad": 3.0,
    "axes.labelsize": SIZE,
    "xtick.labelsize": SIZE,
    "ytick.labelsize": SIZE,
    "legend.fontsize": SIZE,
    "legend.frameon": False,
    "legend.borderaxespad": 0.3,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "fairbench",  # the same data, the same bytes
    "text.parse_math": False,  # a name with $ is a name
    "axes.formatter.use_mathtext": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "patch.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 300,
}

# Okabe and Ito's colours, and Tol's where they end; TRADES, which others are held against, is grey.
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
STRANGERS = ("#117733", "#AA4499", "#661100", "#44AA99", "#DDCC77", "#6699CC")  # by a hash of the name
CLASSES = (
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
    """How an entry looks in every figure: by colour, and without it by hatch, marker and dashes."""

    title: str
    colour: str
    hatch: str
    marker: str
    dash: Any


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's own defaults with ours over them, whatever the user's matplotlibrc says."""
    from matplotlib import style

    with style.context(["default", RC]):
        yield


def looks(frame: "pd.DataFrame") -> dict[str, EntryStyle]:
    """For each `entry` of a frame, in its order, how it looks; from its `method` and `title`.

    A method has its colour whoever is beside it. A variant has that of its family, lighter, and so has a
    second entry of the same method.
    """
    whose = frame[["entry", "method", "title"]].drop_duplicates()
    known = list(COLOURS)
    taken = {known.index(method) for method in whose["method"] if method in COLOURS}
    found: dict[str, EntryStyle] = {}
    used: list[str] = []
    for entry, method, title in whose.itertuples(index=False):
        family = method if method in COLOURS else method.split("-")[0]
        place = known.index(family) if family in COLOURS else int(digest(method), 16) % len(MARKERS)
        colour = COLOURS.get(family) or STRANGERS[int(digest(method), 16) % len(STRANGERS)]
        times = used.count(colour) + (family != method and family in COLOURS)
        if times or method not in COLOURS:  # the next marker and hatch that nobody here has
            place = next(
                (
                    k % len(MARKERS)
                    for k in range(place, place + len(MARKERS))
                    if k % len(MARKERS) not in taken
                ),
                place,
            )
        used.append(colour)
        taken.add(place)
        found[entry] = EntryStyle(
            shown(title),
            lighter(colour, times),
            HATCHES[place],
            MARKERS[place],
            DASHES[place % len(DASHES)],
        )
    return found


def lighter(colour: str, times: int) -> str:
    """The colour as "#rrggbb", each time nearer to white."""
    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    light = 1 - (1 - light) * 0.65 ** min(times, 4)
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, light, saturation))


def class_colours(count: int) -> list[str]:
    """A colour for each class: ten that differ, or grey where nobody could tell them apart."""
    return [CLASSES[c % len(CLASSES)] if count <= 2 * len(CLASSES) else "#888888" for c in range(count)]


def shown(text: str) -> str:
    """A name as a figure can print it: one line, no longer than it fits, glyphs that the font has."""
    known = _glyphs()
    text = "".join(c if ord(c) in known else f"[U+{ord(c):04X}]" for c in plain(text))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def fit(text: str, inches: float) -> str:
    """The text cut to what about fits into so many inches."""
    most = max(4, int(inches / CHARACTER))
    return text if len(text) <= most else text[: most - 3] + "..."


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family=["DejaVu Sans"]))).get_charmap())


def new_drawing(width: Width, height: float) -> "Drawing":
    """An empty drawing, `height` in inches. Never through pyplot, which keeps what it drew."""
    from matplotlib.figure import Figure as Drawing

    return Drawing(figsize=(INCHES[width], height))


def legend(drawing: "Drawing", handles: "Sequence[Artist]", titles: Sequence[str]) -> None:
    """A legend above the axes, in as many columns as fit."""
    width = drawing.get_figwidth()
    room = CHARACTER * max(map(len, titles), default=1) + 0.5
    columns = max(1, min(len(titles), int(width / room)))
    rows = math.ceil(len(titles) / columns)
    columns = math.ceil(len(titles) / rows)
    # matplotlib leaves out labels that begin with an underscore: names are set afterwards.
    box = drawing.legend(
        list(handles), ["-"] * len(titles), loc="outside upper left", ncols=columns, borderpad=0.2
    )
    for text, title in zip(box.get_texts(), titles, strict=True):
        text.set_text(title)


def name_ticks(axes: "Axes", names: Sequence[str], inches: float) -> None:
    """Names below an axis of `inches`, turned where they would touch."""
    axes.set_xticks(range(len(names)), [fit(name, NAME_INCHES) for name in names])
    if name_room(names, inches) > 0:
        for text in axes.get_xticklabels():
            text.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)


def name_room(names: Sequence[str], inches: float) -> float:
    """How many inches more below an axis its names need when they are turned; 0 when they are not."""
    longest = min(max(map(len, names), default=0) * CHARACTER, NAME_INCHES)
    return 0.65 * longest if longest > 0.95 * inches / max(len(names), 1) else 0.0


def rendered(drawing: "Drawing", suffix: str) -> bytes:
    """The file of a drawing, the same bytes each time; `suffix` is one of SUFFIXES."""
    metadata: dict[str, dict[str, Any]] = {
        ".pdf": {"CreationDate": None},
        ".svg": {"Date": None},
        ".png": {"Software": None},
    }
    buffer = io.BytesIO()
    with house_style():
        drawing.savefig(buffer, format=suffix.removeprefix("."), metadata=metadata[suffix])
    return buffer.getvalue()


def known_suffix(path: Path) -> bool:
    """Whether a figure can be written to `path`."""
    return path.suffix.lower() in SUFFIXES
