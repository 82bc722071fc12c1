"""The cells whose weights other cells need, and the order in which cells are trained."""

from collections.abc import Iterable, Sequence

from fairbench.records.cell import Cell


def with_prerequisites(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """The cells and those whose weights they need, in running order, and notes on what was added.

    Cells come after those that they need, and cells that others need before the other ones.
    """
    rows = {cell.id: cell for cell in cells}
    needed = _needed(cells)
    added = [cell for id, cell in needed.items() if id not in rows]
    depths = {id: _depth(cell) for id, cell in needed.items()}
    ordered = sorted((*added, *cells), key=lambda cell: (cell.id not in needed, depths.get(cell.id, 0)))
    notes: dict[str, None] = {}
    for cell in (*added, *cells):
        if cell.start is not None and cell.start.id not in rows:
            notes[f"{cell.method} starts from {cell.start.method}, which is trained first"] = None
        for teacher in cell.teachers.values():
            if teacher.id not in rows:
                network = f" ({teacher.model})" if teacher.model != cell.model else ""
                notes[f"{cell.method} learns from {teacher.method}{network}, which is trained first"] = None
    return ordered, list(notes)


def _needed(cells: Iterable[Cell]) -> dict[str, Cell]:
    """The cells that others need, by id."""
    needed: dict[str, Cell] = {}
    for cell in cells:
        for other in cell.needed:
            needed |= {**_needed([other]), other.id: other}
    return needed


def _depth(cell: Cell) -> int:
    """How many cells have to be trained one after the other before this one."""
    return max((1 + _depth(other) for other in cell.needed), default=0)
