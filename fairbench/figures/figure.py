"""What a figure is: its place, the data that it draws, the drawing and its caption; and its files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairbench.core.errors import ConfigError, FairbenchError
from fairbench.core.files import make_folder, write_atomic
from fairbench.figures.style import SUFFIXES, Width, known_suffix, rendered
from fairbench.tables.escapes import csv_text, plain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

BASELINE = "trades"


class NothingToDrawError(FairbenchError):
    """Records that lack what a kind of figure shows; the hint says what to run."""


@dataclass(frozen=True)
class Options:
    """What is asked of a figure. `side` and `width` are the kind's own when None; `methods` is an order."""

    side: str | None = None
    attack: str | None = None
    baseline: str = BASELINE
    methods: tuple[str, ...] = ()
    width: Width | None = None


@dataclass(frozen=True)
class FigureKey:
    """What a figure is of. `variant` tells apart equal names with other content, "" where names suffice."""

    dataset: str
    model: str
    protocol: str
    attack: str = ""
    variant: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing with what it rests on: `data` is tidy, accuracies in [0, 1]."""

    place: FigureKey
    data: "pd.DataFrame"
    drawing: "Drawing"
    caption: str

    def save(self, path: Path) -> list[Path]:
        """Write the figure to `path` (.pdf, .svg or .png), beside it its data as .csv and caption as .txt."""
        frame = self.data.copy()
        for name in frame.columns:
            if frame[name].dtype.kind not in "ifb":
                frame[name] = frame[name].map({value: csv_text(str(value)) for value in frame[name].unique()})
        contents = {
            path: rendered(self.drawing, path.suffix.lower()),
            path.with_suffix(".csv"): frame.to_csv(index=False, lineterminator="\n").encode(),
            path.with_suffix(".txt"): f"{plain(self.caption)}\n".encode(),
        }
        for file, content in contents.items():
            write_atomic(file, lambda out, content=content: out.write(content))  # type: ignore[misc]
        return list(contents)


def chosen_path(kind: str, asked: Path | None) -> Path:
    """Where to write a figure: KIND.pdf here or in a folder, or the file that was asked for.

    Raises ConfigError for another kind of file.
    """
    path = Path(f"{kind}.pdf") if asked is None else asked / f"{kind}.pdf" if asked.is_dir() else asked
    if not known_suffix(path):
        raise ConfigError(
            f"figures cannot be written as {path.suffix or 'a file without suffix'}: {path}.",
            hint=f"end the name in {', '.join(SUFFIXES)}, or name a folder that exists",
        )
    return path


def save_all(figures: Sequence[Figure], path: Path) -> list[tuple[Figure, list[Path]]]:
    """Write each figure: to `path` itself when there is one, else to names that say how they differ."""
    make_folder(path.parent)
    names = suffixes([figure.place for figure in figures])
    return [
        (figure, figure.save(path.with_name(f"{path.stem}{name}{path.suffix}")))
        for figure, name in zip(figures, names, strict=True)
    ]


def suffixes(places: Sequence[FigureKey]) -> list[str]:
    """For each place the parts in which it differs from others, as ".cifar10.pgd-20"; "" for a single one."""
    if len(places) == 1:
        return [""]
    parts = ("dataset", "model", "protocol", "attack")
    varying = [part for part in parts if len({getattr(place, part) for place in places}) > 1]
    found: list[str] = []
    for place in places:
        words = [getattr(place, part) or "none" for part in varying] + (
            [place.variant] if place.variant else []
        )
        name = "".join("." + re.sub(r"[^A-Za-z0-9_-]+", "-", word)[:60] for word in words)
        while name in found:
            name += "-again"
        found.append(name)
    return found
