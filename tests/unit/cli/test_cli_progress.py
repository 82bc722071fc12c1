"""Progress in a terminal of 80 columns, in plain lines, and in the list of runs."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from fairbench.cli import progress as shown
from fairbench.cli import status
from fairbench.cli.progress import Bars, Lines
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.records.progress import Progress
from fairbench.records.run_folder import RunFolder
from fairbench.registry import load_registry
from fairbench.runner.overview import RunStatus

REGISTRY = load_registry()


@pytest.fixture
def cells():
    selection = Selection(methods=("trades", "trix-autoaugment"), datasets=("cifar100",), seeds=(0, 1))
    return resolve(selection, REGISTRY, Path("nowhere"))[0]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the display believes to have passed."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(shown.time, "monotonic", lambda: Clock.now)
    return Clock


def rendered(bars, file):
    """The lines of the bars, without colours."""
    file.truncate(0)
    file.seek(0)
    bars.progress.console.print(bars.progress.get_renderable())
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).rstrip("\n").split("\n")


def test_bars_of_80_columns_show_the_time_left_of_the_cell_and_of_all(cells):
    file = io.StringIO()
    bars = Bars(cells, {}, Console(file=file, width=80, force_terminal=True))
    bars.started(cells[2])
    bars.step(3, 150, 12, 391, 1.2345)
    bars.worst = "worst class 12 %"
    bars.step(3, 150, 13, 391, 1.2345)
    bars.time_left(4321.0, "epoch 3/150")
    first, second = rendered(bars, file)
    assert max(map(len, (first, second))) <= 80
    assert re.search(r"4 cells .* \d.* left +0/4", first)
    assert second.startswith(f"{cells[2].method} cifar100"[:20])
    assert "72 min left" in second
    assert "epoch 3/150 loss 1.23" in second
    bars.evaluation("autoattack", 150, Progress("apgd-t.3", 0.5, 0.512, 100.0))
    _, second = rendered(bars, file)
    assert "autoattack apgd-t.3 50" in second
    bars.ended(cells[2], "done", "")
    assert "trix" in file.getvalue()
    (line,) = rendered(bars, file)
    assert "1/4" in line


def test_bars_of_cells_in_other_processes_are_read_from_their_folders(cells, tmp_path):
    file = io.StringIO()
    bars = Bars(cells, {}, Console(file=file, width=80, force_terminal=True))
    folders = {cell.id: RunFolder(tmp_path / cell.id) for cell in cells}
    for cell in cells[:2]:
        folders[cell.id].path.mkdir()
        folders[cell.id].write_progress(600.0, "epoch 7/150")
        bars.started(cell)
    bars.look(lambda cell: folders[cell.id])
    lines = rendered(bars, file)
    assert len(lines) == 3
    assert all("left" in line and len(line) <= 80 for line in lines)
    assert all("epoch 7/150" in line for line in lines[1:])


def test_plain_lines_name_the_time_left_and_become_rarer(cells, clock, capsys):
    lines = Lines(cells, {})
    lines.started(cells[0])
    for _ in range(7200):
        clock.now += 1.0
        lines.time_left(7200 - (clock.now - 1000), "epoch 1/150")
    text = capsys.readouterr().err.splitlines()
    assert text[0] == f"[0/4 done] {cells[0].slot}: started"
    assert text[1] == f"[0/4 done] {cells[0].slot}: epoch 1/150, 2.0 h left; 8.0 h left for all"
    assert 20 < len(text) < 120


def test_lines_of_several_cells_take_turns(cells, clock, capsys, tmp_path):
    lines = Lines(cells, {})
    folders = {cell.id: RunFolder(tmp_path / cell.id) for cell in cells}
    for cell in cells[:3]:
        folders[cell.id].path.mkdir()
        folders[cell.id].write_progress(600.0, "epoch 7/150")
        lines.started(cell)
    capsys.readouterr()
    for _ in range(60):
        clock.now += 2.0
        lines.look(lambda cell: folders[cell.id])
    text = capsys.readouterr().err
    assert all(f"{cell.slot}: epoch 7/150" in text for cell in cells[:3])


def test_the_list_of_runs_fits_into_80_columns_with_state_and_time_left(cells, record_of):
    runs = [
        RunStatus(record_of(cell), "running", "", 3, "host.cluster.example:12345", 4321.0, "epoch 4/150")
        for cell in cells
    ]
    lines = status.as_text(runs, 80).splitlines()
    assert max(map(len, lines)) <= 80
    for line, cell in zip(lines[1:], cells, strict=False):
        assert line.startswith(cell.method)
        assert "running  72 min" in line
        assert "epoch 4/150" in line
    assert "at most 72 min left" in lines[-1]
    assert status.as_text(runs[:1], 400) == status.as_text(runs[:1])


@pytest.fixture
def record_of(tmp_path):
    """The record of a run that is not finished."""
    from fairbench.records.results_folder import ResultsFolder

    def record(cell):
        return ResultsFolder(tmp_path).prepare(cell).read()

    return record
