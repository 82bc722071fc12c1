"""Each method against the baseline: paired differences with intervals, over data sets and networks."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fairbench.figures.figure import Figure, FigureKey, NothingToDrawError, Options
from fairbench.figures.numbers import limits
from fairbench.figures.panels import Panel, inventory, nothing_done
from fairbench.figures.style import INK, Width, looks, new_drawing, shown
from fairbench.records.read import Record
from fairbench.tables.request import TableRequest
from fairbench.tables.table import Table
from fairbench.tables.views import build_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

MEASURES = ("average", "worst")
LEAST = 2.0  # points that an axis spans: equal numbers are not blown up


def forest_figures(records: Sequence[Record], options: Options) -> list[Figure]:
    """A figure for each protocol and attack, from the rows of the comparison tables."""
    side = options.side or "robust"
    request = TableRequest("comparison", baseline=options.baseline, order=options.methods)
    specs = inventory(records, options).specs(options.attack, clean_apart=True)
    specs = [spec for spec in specs if request.sides(spec.attack) == (side,)]
    if not specs:
        raise nothing_done()
    groups: dict[tuple[str, str], list[tuple[Panel, Table]]] = defaultdict(list)
    for spec in specs:
        table = build_table(spec, request)
        if table.rows:
            groups[(table.protocol, table.attack)].append((Panel(spec), table))
    if not groups:
        raise NothingToDrawError(
            f"no method here shares a finished seed with the baseline {options.baseline}.",
            hint=f"run it: fairbench run --methods {options.baseline}; or name another with --baseline",
        )
    return [
        _figure([table for _, table in members], members[0][0], side, options)
        for _, members in sorted(groups.items())
    ]


def _figure(tables: list[Table], panel: Panel, side: str, options: Options) -> Figure:
    data = forest_data(tables, side, panel.spec.base.title if panel.spec.base else options.baseline)
    first = tables[0]
    places = {(t.dataset, t.model) for t in tables}
    single = next(iter(places)) if len(places) == 1 else None
    words = (
        f"{panel.words((side,), MEASURES, options)} Marks are method minus {options.baseline}, in percentage "
        "points, on common seeds and the same test images. Whiskers are 95 % intervals of paired t over "
        "seeds; for one seed, of the average alone and over the test images of its last checkpoint."
    )
    if len(tables) > 1:
        words += f" Likewise: {'; '.join(dict.fromkeys(table.title for table in tables[1:]))}."
    place = FigureKey(
        single[0] if single else "all", single[1] if single else "all", first.protocol, first.attack
    )
    return Figure(place, data, draw(data, options.width or "two"), words)


def forest_data(tables: Iterable[Table], side: str, baseline: str) -> "pd.DataFrame":
    """One row per data set, network, method and measure; `value` is the difference, in shares."""
    import pandas as pd

    rows = []
    for table in tables:
        for row in table.rows:
            for name in MEASURES:
                rows.append(
                    {
                        "dataset": table.dataset,
                        "model": table.model,
                        "protocol": table.protocol,
                        "attack": table.attack,
                        "table": table.title,
                        "method": row.method,
                        "entry": row.label,
                        "title": row.title or row.label,
                        "seeds": len(table.cell(row, f"{side}_{name}").values) or 1,
                        "baseline": baseline,
                        "side": side,
                        "measure": name,
                        **limits(table.cell(row, f"{side}_{name}")),
                    }
                )
    return pd.DataFrame(rows)


def draw(data: "pd.DataFrame", width: Width) -> "Drawing":
    """Differences below each other, average beside worst, around a line at zero."""
    lines = list(data[["table", "entry"]].drop_duplicates().itertuples(index=False))
    headed = data["table"].nunique() > 1
    places: list[tuple[str, Any]] = []  # from the top: a heading ("", words) or a line
    last = None
    for table, entry in lines:
        if headed and table != last:
            where = data[data["table"] == table].iloc[0]
            places.append((f"{where['dataset']}, {where['model']}", None))
        last = table
        places.append((table, entry))
    drawing = new_drawing(width, 0.6 + 0.19 * len(places))
    columns = drawing.subplots(1, 2, sharey=True)
    found = looks(data)
    for axes, name in zip(columns, MEASURES, strict=True):
        part = data[data["measure"] == name]
        for y, (table, entry) in enumerate(places):
            if entry is None:
                continue
            row = part[(part["table"] == table) & (part["entry"] == entry)].iloc[0]
            look = found[entry]
            if not np.isnan(row["low"]):
                axes.hlines(y, 100 * row["low"], 100 * row["high"], color=look.colour, lw=1.2)
            axes.plot([100 * row["value"]], [y], look.marker, color=look.colour, ms=4.5, mec=INK, mew=0.4)
        axes.axvline(0, color=INK, lw=0.7)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.08)
        low, high = axes.get_xlim()
        if high - low < LEAST:
            axes.set_xlim((low + high - LEAST) / 2, (low + high + LEAST) / 2)
        side, base = shown(part["side"].iloc[0]), shown(part["baseline"].iloc[0])
        axes.set_xlabel(f"{name}{'-class' if name == 'worst' else ''} {side} accuracy,\npoints above {base}")
    names = [shown(table) if entry is None else f"    {found[entry].title}" for table, entry in places]
    columns[0].set_yticks(range(len(places)), names, ha="left")
    columns[0].set_ylim(len(places) - 0.5, -0.5)
    for axes in columns:
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    longest = max(map(len, names))
    columns[0].tick_params(axis="y", pad=longest * 0.55 * 7)
    return drawing
