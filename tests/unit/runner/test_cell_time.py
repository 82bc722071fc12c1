"""The time left of a cell and of all cells, from simulated runs on a clock of the test."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.planning.cost import evaluation_passes
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.records.progress import Progress, ProgressListener
from fairbench.records.run_folder import RunFolder
from fairbench.registry import load_registry
from fairbench.registry.protocol import RequestedAttack
from fairbench.runner.cell_time import CellTime
from fairbench.runner.plan_time import PlanTime

REGISTRY = load_registry()
ATTACKS = tuple(RequestedAttack.model_validate(text) for text in ("pgd-20", "autoattack@last"))


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self):
        return self.now


class Listener(ProgressListener):
    """Keeps the time left with the time at which it was told."""

    def __init__(self, clock):
        self.clock, self.told = clock, []

    def time_left(self, seconds, text):
        self.told.append((self.clock(), seconds, text))


@cache
def planned(seeds=(0,)):
    selection = Selection(methods=("trades",), seeds=seeds, datasets=("digits",), attacks=ATTACKS)
    return resolve(selection, REGISTRY, Path("nowhere"))[0]


def run(folder, step_seconds, num_steps, start, evaluation_pace):
    """What is told in a cell with steps of constant length, and when it is over."""
    (cell,) = planned()
    clock = Clock()
    listener = Listener(clock)
    shown = CellTime(cell, RunFolder(folder), listener, REGISTRY, clock)
    shown.written = float("inf")  # nothing is written
    num_epochs = cell.training_protocol.epochs
    clock.now += start  # the first step includes what is compiled
    for epoch in range(1, num_epochs + 1):
        for step in range(1, num_steps + 1):
            clock.now += step_seconds
            shown.step(epoch, num_epochs, step, num_steps, None)
    trained = clock.now
    per_pass = step_seconds * num_steps / shown.passes * evaluation_pace
    for (attack, epoch), passes in evaluation_passes(cell, REGISTRY).items():
        seconds = passes * per_pass
        for share in (0.1, 0.2, 0.4, 0.7, 1.0):
            clock.now += seconds * {0.1: 0.1, 0.2: 0.1, 0.4: 0.2, 0.7: 0.3, 1.0: 0.3}[share]
            shown.evaluation(attack, epoch, Progress("", share, 0.5, seconds * (1 - share)))
    return listener.told, trained, clock.now


@given(
    step_seconds=st.floats(0.001, 30.0),
    num_steps=st.integers(2, 60),
    start=st.floats(0.0, 100.0),
    evaluation_pace=st.floats(0.8, 1.25),
)
@settings(max_examples=20, deadline=None)
def test_the_time_left_is_right_from_the_first_steps_on(step_seconds, num_steps, start, evaluation_pace):
    told, trained, over = run(Path("nowhere"), step_seconds, num_steps, start, evaluation_pace)
    began = 1000.0 + start
    for at, left, _ in told:
        if at - began > 0.1 * (over - began) and over - at > 1.0:
            assert left == pytest.approx(over - at, rel=0.3, abs=0.01)
    if trained - began > 10 * max(step_seconds, 1.0):
        first = told[0][0] - began
        assert first <= max(3 * step_seconds, 1.0 + 2 * step_seconds) + 0.5  # after three steps, or a second


@pytest.mark.parametrize(("hours", "step_seconds"), [(1 / 30, 0.05), (2, 1.0), (2, 0.05)])
def test_the_first_estimate_comes_after_seconds_in_short_and_in_long_cells(tmp_path, hours, step_seconds):
    (cell,) = planned()
    num_epochs = cell.training_protocol.epochs
    num_steps = round(hours * 3600 / step_seconds / num_epochs)
    clock = Clock()
    listener = Listener(clock)
    shown = CellTime(cell, RunFolder(tmp_path), listener, REGISTRY, clock)
    for step in range(1, 1000):
        clock.now += step_seconds
        shown.step(1, num_epochs, step, num_steps, None)
        if listener.told:
            break
    at, left, text = listener.told[0]
    assert at - 1000.0 <= 2.1
    assert left >= 0.9 * hours * 3600
    assert text == f"epoch 1/{num_epochs}"
    stored, stored_text = RunFolder(tmp_path).read_progress()
    assert stored == pytest.approx(left, abs=5.0)
    assert stored_text == text


def test_earlier_attempts_give_an_estimate_with_the_first_step(tmp_path):
    (cell,) = planned()
    run_folder = RunFolder(tmp_path)
    run_folder.append_epoch({"epoch": 1, "seconds": 60.0})
    clock = Clock()
    listener = Listener(clock)
    shown = CellTime(cell, run_folder, listener, REGISTRY, clock)
    shown.step(2, 12, 1, 10, None)
    ((_, left, _),) = listener.told
    assert left > 60.0 * 10


def test_a_progress_file_that_cannot_be_read_is_none(tmp_path):
    run_folder = RunFolder(tmp_path)
    assert run_folder.read_progress() is None
    for text in ("", "[]", '{"left": 1}', '{"written": 1, "left": "x", "text": ""}'):
        run_folder.progress_file.write_text(text)
        assert run_folder.read_progress() is None
    run_folder.clear_progress()
    assert not run_folder.progress_file.exists()


@given(
    costs=st.lists(st.floats(1.0, 100.0), min_size=2, max_size=8),
    scale=st.floats(0.1, 10.0),
    workers=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_the_time_left_of_all_cells_scales_their_costs_to_what_was_measured(costs, scale, workers):
    cells = planned(tuple(range(len(costs))))
    clock = Clock()
    plan = PlanTime(cells, {cell.id: cost for cell, cost in zip(cells, costs, strict=True)}, clock)
    assert plan.left() is None
    ends, waiting = [], list(zip(cells, costs, strict=True))
    loads = {}
    for cell, cost in waiting[:workers]:
        plan.started(cell)
        loads[cell.id] = clock.now + cost * scale
        plan.cell_left(cell.id, cost * scale)
    ends = sorted(loads.values())
    for _, cost in waiting[workers:]:  # each is taken by the worker that is free first
        ends[0] += cost * scale
        ends.sort()
    ends += [clock.now] * (workers - len(ends))
    assert plan.left() == pytest.approx(max(ends) - clock.now, rel=1e-6)


def test_a_cell_that_another_process_has_counts_for_nothing():
    cells = list(planned((0, 1)))
    clock = Clock()
    plan = PlanTime(cells, {}, clock)
    plan.started(cells[0])
    plan.ended(cells[0], worked=False)
    assert plan.left() is None
    plan.started(cells[1])
    clock.now += 5
    plan.ended(cells[1])
    assert plan.left() == 0.0
