"""A figure: its key, its data, the drawing and its caption; and the files that it is saved as."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairbench.core.errors import ConfigError, FairbenchError
from fairbench.core.files import make_folder, write_atomic
from fairbench.figures.style import Width, figure_style
from fairbench.metrics.rho import BASELINE
from fairbench.tables.escapes import csv_text, plain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

# Without dates and versions the same figure gives the same bytes.
_METADATA: dict[str, dict[str, Any]] = {
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
    ".png": {"Software": None},
}
SUFFIXES = tuple(_METADATA)


class NothingToDrawError(FairbenchError):
    """The records lack what a kind of figure shows; the hint names what to run."""


@dataclass(frozen=True)
class FigureOptions:
    """The options of `fairbench figure`.

    side: "clean" or "robust"; None for the kind's default. attack: only this one. baseline, methods: the
    order of the entries, as in tables. width: None for the kind's default.
    """

    side: str | None = None
    attack: str | None = None
    baseline: str = BASELINE
    methods: tuple[str, ...] = ()
    width: Width | None = None


@dataclass(frozen=True)
class FigureKey:
    """What a figure is about. variant: what distinguishes settings of the same names, or ""."""

    dataset: str
    model: str
    protocol: str
    attack: str = ""
    variant: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing with its data (one row per value, accuracies in [0, 1]) and its caption."""

    key: FigureKey
    data: "pd.DataFrame"
    drawing: "Drawing"
    caption: str

    def save(self, path: Path) -> list[Path]:
        """The files written: the drawing at `path` (.pdf, .svg or .png), data as .csv and caption as .txt."""
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


def rendered(drawing: "Drawing", suffix: str) -> bytes:
    """The file of a drawing, the same bytes each time. suffix: one of SUFFIXES."""
    buffer = io.BytesIO()
    with figure_style():
        drawing.savefig(buffer, format=suffix.removeprefix("."), metadata=_METADATA[suffix])
    return buffer.getvalue()


def chosen_path(kind: str, output: Path | None) -> Path:
    """The file to write: `output`, KIND.pdf in the folder `output`, or KIND.pdf here for None.

    Raises ConfigError for another kind of file.
    """
    path = Path(f"{kind}.pdf") if output is None else output / f"{kind}.pdf" if output.is_dir() else output
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"figures cannot be written as {path.suffix or 'a file without suffix'}: {path}.",
            hint=f"end the name in {', '.join(SUFFIXES)}, or name a folder that exists",
        )
    return path


def save_all(figures: Sequence[Figure], path: Path) -> list[tuple[Figure, list[Path]]]:
    """Each figure with its files: a single one at `path`, several at names with their difference."""
    make_folder(path.parent)
    names = name_parts([figure.key for figure in figures])
    return [
        (figure, figure.save(path.with_name(f"{path.stem}{name}{path.suffix}")))
        for figure, name in zip(figures, names, strict=True)
    ]


def name_parts(keys: Sequence[FigureKey]) -> list[str]:
    """For each key the parts in which it differs from others, as ".cifar10.pgd-20"; "" for a single key."""
    if len(keys) == 1:
        return [""]
    parts = ("dataset", "model", "protocol", "attack")
    varying = [part for part in parts if len({getattr(key, part) for key in keys}) > 1]
    names: list[str] = []
    for key in keys:
        words = [getattr(key, part) or "none" for part in varying] + ([key.variant] if key.variant else [])
        name = "".join("." + re.sub(r"[^A-Za-z0-9_-]+", "-", word)[:60] for word in words)
        while name in names:
            name += "-again"
        names.append(name)
    return names
