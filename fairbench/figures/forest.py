"""Each method against the baseline: paired differences with intervals, over data sets and networks."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from fairbench.figures.data_rows import value_columns
from fairbench.figures.drawing import at_least, new_drawing
from fairbench.figures.figure import Figure, FigureKey, FigureOptions, NothingToDrawError
from fairbench.figures.panels import drawable, inventory_of, table_caption
from fairbench.figures.style import FONT_SIZE, INK, EntryStyle, Width, entry_styles, printable
from fairbench.records.read import Record
from fairbench.tables.inventory import TableSpec
from fairbench.tables.request import TableRequest
from fairbench.tables.table import Table
from fairbench.tables.views import build_table

MEASURES = ("average", "worst")


def forest_figures(records: Sequence[Record], options: FigureOptions) -> list[Figure]:
    """A figure for each protocol and attack, from the rows of the comparison tables."""
    side = options.side or "robust"
    request = TableRequest("comparison", baseline=options.baseline, order=options.methods)
    specs = [
        spec
        for spec in inventory_of(records, options).specs(options.attack, clean_apart=True)
        if request.sides(spec.attack) == (side,)
    ]
    groups: dict[tuple[str, str], list[tuple[TableSpec, Table]]] = defaultdict(list)
    for spec in drawable(specs):
        table = build_table(spec, request)
        if table.rows:
            groups[(table.protocol, table.attack)].append((spec, table))
    if not groups:
        raise NothingToDrawError(
            f"no method here shares a finished seed with the baseline {options.baseline}.",
            hint=f"run it: fairbench run --methods {options.baseline}; or name another with --baseline",
        )
    return [
        _figure(groups[key][0][0], [table for _, table in groups[key]], side, options)
        for key in sorted(groups)
    ]


def _figure(spec: TableSpec, tables: Sequence[Table], side: str, options: FigureOptions) -> Figure:
    """The figure of tables of one protocol and attack; spec: that of the first table."""
    data = forest_data(tables, side, spec.base.title if spec.base else options.baseline)
    caption = (
        f"{table_caption(spec, (side,), MEASURES, options)} Marks are method minus {options.baseline}, in "
        "percentage points, on common seeds and the same test images. Whiskers are 95 % intervals of the "
        "paired t test over seeds; for one seed only the average has one, over the test images of the last "
        "checkpoint."
    )
    if len(tables) > 1:
        caption += f" Also drawn: {'; '.join(dict.fromkeys(table.title for table in tables[1:]))}."
    settings = {(table.dataset, table.model) for table in tables}
    dataset, model = settings.pop() if len(settings) == 1 else ("all", "all")
    key = FigureKey(dataset, model, tables[0].protocol, tables[0].attack)
    return Figure(key, data, draw(data, options.width or "two"), caption)


def forest_data(tables: Sequence[Table], side: str, baseline: str) -> pd.DataFrame:
    """One row per data set, network, method and measure; `value` is the difference, 0.01 for one point."""
    return pd.DataFrame(
        {
            "dataset": table.dataset,
            "model": table.model,
            "protocol": table.protocol,
            "attack": table.attack,
            "table": table.title,
            "method": row.method,
            "entry": row.label,
            "title": row.name,
            "seeds": len(table.cell(row, f"{side}_{name}").values) or 1,
            "baseline": baseline,
            "side": side,
            "measure": name,
            **value_columns(table.cell(row, f"{side}_{name}")),
        }
        for table in tables
        for row in table.rows
        for name in MEASURES
    )


def draw(data: pd.DataFrame, width: Width) -> Drawing:
    """Differences below each other, average beside worst, around a line at zero."""
    styles = entry_styles(data)
    lines: list[tuple[str, str | None]] = []  # from the top: (table, entry), or (table, None) for its heading
    names = []
    for table, rows in data.groupby("table", sort=False):
        if data["table"].nunique() > 1:
            first = rows.iloc[0]
            lines.append((str(table), None))
            names.append(printable(f"{first['dataset']}, {first['model']}"))
        lines += [(str(table), entry) for entry in rows["entry"].unique()]
        names += [f"    {styles[entry].title}" for entry in rows["entry"].unique()]
    drawing = new_drawing(width, 0.6 + 0.19 * len(lines))
    grid = drawing.subplots(1, 2, sharey=True)
    for axes, name in zip(grid, MEASURES, strict=True):
        draw_differences(axes, data[data["measure"] == name], lines, styles)
        side, baseline = printable(data["side"].iloc[0]), printable(data["baseline"].iloc[0])
        label = "average" if name == "average" else "worst-class"
        axes.set_xlabel(f"{label} {side} accuracy,\npoints above {baseline}")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    grid[0].set_yticks(range(len(lines)), names, ha="left")
    grid[0].set_ylim(len(lines) - 0.5, -0.5)
    grid[0].tick_params(axis="y", pad=0.55 * FONT_SIZE * max(map(len, names)))
    return drawing


def draw_differences(
    axes: Axes,
    data: pd.DataFrame,
    lines: Sequence[tuple[str, str | None]],
    styles: dict[str, EntryStyle],
) -> None:
    """A mark with its interval for each line that is no heading."""
    for y, (table, entry) in enumerate(lines):
        if entry is None:
            continue
        row = data[(data["table"] == table) & (data["entry"] == entry)].iloc[0]
        style = styles[entry]
        if not np.isnan(row["low"]):
            axes.hlines(y, 100 * row["low"], 100 * row["high"], color=style.colour, lw=1.2)
        axes.plot([100 * row["value"]], [y], style.marker, color=style.colour, ms=4.5, mec=INK, mew=0.4)
    axes.axvline(0, color=INK, lw=0.7)
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    axes.set_xlim(at_least(axes.get_xlim()))
