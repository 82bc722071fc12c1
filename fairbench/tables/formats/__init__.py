"""One table in every format: text for a terminal, Markdown, LaTeX, CSV and HTML."""

from collections.abc import Sequence

from fairbench.core.errors import UnknownNameError
from fairbench.tables.formats import as_rows, csv, html, latex, markdown, text
from fairbench.tables.table import Table

FORMATS = {
    module.__name__.rpartition(".")[2]: module.document for module in (text, markdown, latex, csv, html)
}


def render(tables: Sequence[Table], format: str = "text", *, full_captions: bool = False) -> str:
    """The tables as one text that ends with a line end; "" for no tables.

    format: "text" (aligned), "markdown", "latex" (needs only booktabs), "csv" (one row per table row, numbers
    unrounded) or "html" (a fragment). full_captions: captions in full sentences, instead of three lines and a
    legend after the last table. All these formats except text have stamps for `fairbench verify`. "json" is a
    list of rows. Raises UnknownNameError for an unknown format.
    """
    if format == "json":
        return as_rows.document(tables)
    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS, asked_by=f"--format {format}")
    return FORMATS[format](tables, full_captions=full_captions) if tables else ""
