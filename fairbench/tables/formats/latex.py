"""Tables for a paper. They need only the package booktabs, so \\input works in any document.

A table that is wider than a column of a two-column article spans both (table*, which is table in one column).
Columns that do not fit side by side in the size footnotesize are printed in blocks below each other, and rows
that do not fit on a page in further tables.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fairbench.tables.escapes import latex
from fairbench.tables.formats.blocks import column_blocks
from fairbench.tables.formats.captions import Marks, Words, legend, words_of
from fairbench.tables.formats.numbers import Shown, shown_cells
from fairbench.tables.provenance import stamp
from fairbench.tables.table import Table

TEXT_WIDTH = 336.0  # points; the article class has 345, and the width of a table is estimated
COLUMN_WIDTH = 194.0  # of the 200 points of a column of the article class in two columns
NAME_WIDTH = 130.0  # of the first column at most; longer names have several lines
CAPTION_WIDTH = 76  # characters in a line of the article class in the size small, on average
PAGE_LINES = 43  # of rows and heads in one table, with room for its caption and notes
_DIGIT = {"small": 4.63, "footnotesize": 4.25, "scriptsize": 3.99}  # points wide
_ERROR = "scriptsize"  # the size of errors
_SIZES = ("small", "footnotesize")  # of numbers
_SEPARATIONS = (4.0, 3.0, 2.0)  # points on each side of a column
_SYMBOLS = {"rho": r"$\rho$", "p": "$p$", "flip p": "Flip $p$"}
_TABULARS = r"tabular[xy*]?|longtable|array|tabu|[lL]ongtblr|tblr|NiceTabular\w*"
_SETTING = re.compile(r"(\[\w\])?(\{\\\w+\})?\{([@{}|lcrX]|p\{[\d.]+pt\})*\}")
_RULES = re.compile(r"(\\(toprule|midrule|bottomrule|hline|addlinespace|cmidrule(\(\w*\))?\{[\d-]+\})\s*)+")
_SIZED = re.compile(r"\{\\(?:tiny|scriptsize|footnotesize|small) ([^{}]*)\}")
_SPANNING = re.compile(r"\\multicolumn\{(\d+)\}\{c\}\{((?:[^{}]|\{[^{}]*\})*)\}")


def document(tables: Sequence[Table], *, full_captions: bool = False) -> str:
    """One table environment per table, with its own label and its stamp as a comment.

    The legend is a comment too, because it stands once in a paper, where its author wants it.
    """
    head = "% Made by fairbench table. Needs \\usepackage{booktabs} in the preamble.\n"
    labels: list[str] = []
    for table in tables:
        sides = [group for group, _ in table.groups] if len(table.groups) == 1 else []
        view = [table.view] if table.view != "main" else []
        words = " ".join([table.dataset, table.model, table.protocol, table.attack, *view, *sides])
        base = "tab:" + re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
        labels.append(base if base not in labels else f"{base}-{len(labels) + 1}")
    parts = [
        _table(table, label, _words(table, full_captions))
        for table, label in zip(tables, labels, strict=True)
    ]
    if not full_captions:
        parts += [
            f"% {line}"
            for sentence in legend(tables, Marks())
            for line in textwrap.wrap(_prose(sentence), 98)
        ]
    return head + "\n".join(parts) + "\n" * (not full_captions)


def printed_lines(text: str) -> list[str]:
    """The lines of all tables in a text, heads too, without rules, column specifications and sizes.

    Blocks of a table are put together again: where to break a table is a matter of layout.
    """
    blocks: list[list[str]] = []
    for _, inner in re.findall(rf"(?s)\\begin\s*\{{({_TABULARS})\}}(.*?)(?:\\end\{{\1\}}|\Z)", text):
        first, *lines = inner.splitlines() or [""]
        lines = [*([] if _SETTING.fullmatch(first.strip()) else [first]), *lines]
        block = [_flat(line) for line in map(str.strip, lines) if line and not _RULES.fullmatch(line)]
        if blocks and block[:2] == blocks[-1][:2]:  # the same heads: further rows
            blocks[-1] += block[2:]
        else:
            blocks.append(block)
    printed: list[list[str]] = []
    for block in blocks:
        if printed and list(map(_label, block)) == list(map(_label, printed[-1])):  # further columns
            printed[-1] = [_joined(*pair) for pair in zip(printed[-1], block, strict=True)]
        else:
            printed.append(block)
    return [line for block in printed for line in block]


def _flat(line: str) -> str:
    """A line without sizes, and with a cell for each column under a heading."""
    spread = _SPANNING.sub(lambda match: " & ".join([match[2]] * int(match[1])), line)
    return _SIZED.sub(r"{\1}", spread)


def _label(line: str) -> str:
    return re.split(r"(?<!\\)&", line, maxsplit=1)[0].strip()


def _joined(left: str, right: str) -> str:
    """Two parts of a row beside each other."""
    _, *rest = re.split(r"(?<!\\)&", right, maxsplit=1)
    return f"{left.removesuffix(chr(92) * 2).strip()} & {''.join(rest).strip()}"


def _words(table: Table, full_captions: bool) -> Words:
    return words_of(
        table, Marks(), full=full_captions, before=f"Table 10: {table.title}.", width=CAPTION_WIDTH
    )


def _table(table: Table, label: str, words: Words) -> str:
    """The floats of a table: one, or several where its rows do not fit on a page."""
    blocks = _blocks(table) if table.rows else []
    star = "*" if any(block.width > COLUMN_WIDTH for block in blocks) else ""
    pages = list(_pages(blocks)) or [[]]
    floats = []
    for number, page in enumerate(pages):
        lines = [rf"\begin{{table{star}}}[t]", r"\centering\small"]
        if number == 0:
            short, long = _prose(table.title), _prose(f"{table.title}. {words.caption}")
            lines += [rf"\caption[{{{short}}}]{{{long}}}", rf"\label{{{label}}}"]
        else:
            lines += [r"\addtocounter{table}{-1}", rf"\caption[]{{{_prose(table.title)} (continued).}}"]
        lines += [line for block in page for line in block.lines()]
        if words.notes and number == len(pages) - 1:
            lines += [r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
            lines += [f"{_prose(note)}\\par" for note in words.notes]
            lines += [r"\end{minipage}"]
        floats.append("\n".join([*lines, rf"\end{{table{star}}}"]))
    return "\n".join(["\n\n".join(floats), *(f"% {line}" for line in stamp(table)), ""])


@dataclass(frozen=True)
class Block:
    """Columns of a table beside each other, in a size and separation that fit the page.

    separation and width are in points, and estimated; names: the width of the first column.
    """

    table: Table
    size: str
    separation: float
    names: float
    width: float

    def lines(self) -> list[str]:
        """The block in LaTeX; published rows in italics between ours."""
        first = "l" if self.names <= NAME_WIDTH else rf"p{{{NAME_WIDTH:g}pt}}"
        mixed = any(not row.source for row in self.table.rows)
        lines = [r"\medskip", rf"\{self.size}", rf"\setlength{{\tabcolsep}}{{{self.separation:g}pt}}"]
        lines += [rf"\begin{{tabular}}{{@{{}}{first}{'r' * len(self.table.columns)}@{{}}}}", r"\toprule"]
        lines += [*_heads(self.table), r"\midrule"]
        for row in self.table.rows:
            label = latex(row.name)
            if label.startswith(("[", "*")):  # or LaTeX takes it for an argument of the line end before
                label = f"{{}}{label}"
            label = rf"\textit{{{label}}}" if row.source and mixed else label
            lines.append(" & ".join([label, *map(_number, shown_cells(row, self.table))]) + r" \\")
        return [*lines, r"\bottomrule", r"\end{tabular}", ""]


def _blocks(table: Table) -> list[Block]:
    """The whole table where it fits in a readable size, else as few blocks of columns as possible."""
    blocks = [
        _fitting(part) for part in column_blocks(table, lambda part: _fitting(part).width <= TEXT_WIDTH)
    ]
    size = min((block.size for block in blocks), key=_DIGIT.__getitem__)
    return [_fitting(block.table, (size,)) for block in blocks]


def _pages(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """The blocks of each float; rows of a block that is longer than a page are divided."""
    page: list[Block] = []
    room = PAGE_LINES
    for block in blocks:
        step = PAGE_LINES - 4  # without the heads
        for start in range(0, len(block.table.rows), step):
            rows = block.table.rows[start : start + step]
            if page and len(rows) + 4 > room:
                yield page
                page, room = [], PAGE_LINES
            page.append(replace(block, table=replace(block.table, rows=rows)))
            room -= len(rows) + 4
    if page:
        yield page


def _fitting(table: Table, sizes: Sequence[str] = _SIZES) -> Block:
    """The largest size and separation with which the table should fit a page, or the smallest."""
    lines = [shown_cells(row, table) for row in table.rows]
    letters = max(len(row.name) + 0.45 * sum(map(str.isupper, row.name)) for row in table.rows)
    for size, separation in ((size, gap) for size in sizes for gap in _SEPARATIONS):
        digit = _DIGIT[size]
        names = letters * digit
        width = min(names, NAME_WIDTH)
        for k, column in enumerate(table.columns):
            numbers = [_width(line[k], digit) for line in lines]
            width += max([*numbers, (len(column.header) + 0.6) * digit]) + 2 * separation
        if width <= TEXT_WIDTH:
            break
    return Block(table, size, separation, names, width)


def _width(number: Shown, digit: float) -> float:
    """About how many points a cell takes: bold is wider, a plus-minus sign is one and a half digits."""
    small = len(number.error) + len(number.limits) + len(number.verdict) + 2 * bool(number.error)
    value = len(number.value) * digit * (1.15 if number.best else 1.0)
    return value + small * _DIGIT[_ERROR] + 0.8 * digit * number.near + digit / 3 * bool(small)


def _heads(table: Table) -> list[str]:
    """The headings over several columns with a rule under each, then those of the columns."""
    first, heads, rules = 2, [], []
    for group, count in table.groups:
        heads.append(rf"\multicolumn{{{count}}}{{c}}{{{_prose(group.capitalize())}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + count - 1}}}")
        first += count
    names = " & ".join([table.head.capitalize(), *(_header(column.header) for column in table.columns)])
    return [f" & {' & '.join(heads)} \\\\", " ".join(rules), rf"{names} \\"]


def _header(text: str) -> str:
    return _SYMBOLS.get(text) or _prose(text[:1].upper() + text[1:])


def _number(number: Shown) -> str:
    """The mean in bold when it is the best, its error in small print."""
    if number.value == "-":
        return "--"
    value = _signed(number.value).replace("<", "$<$")
    text = rf"\textbf{{{value}}}" if number.best else value
    error = rf"$\pm${number.error}" if number.error else _signed(number.limits)
    small = " ".join(part for part in (error, number.verdict) if part)
    text += rf"\,{{\{_ERROR} {small}}}" if small else ""
    return text + (r"$^\dagger$" if number.near else "")


def _signed(text: str) -> str:
    return re.sub(r"-(?=\d)", "$-$", text)


def _prose(text: str) -> str:
    return re.sub(r"\brho\b", r"$\\rho$", latex(text))
