"""Watching a results folder ends once nothing has been at work for a while."""

from dataclasses import dataclass
from pathlib import Path

from fairbench.runner import overview


@dataclass
class Run:
    state: str


def test_watching_continues_over_short_breaks_and_ends_when_nothing_is_at_work(monkeypatch):
    states = ["queued", *["partial"] * (overview.IDLE_LOOKS - 1), "running", *["done"] * 100]
    looks, sleeps = iter(states), []
    monkeypatch.setattr(overview, "overview", lambda results: ([Run(next(looks))], []))
    monkeypatch.setattr(overview.time, "sleep", sleeps.append)
    seen = [runs[0].state for runs, _ in overview.watch(Path("results"))]
    assert seen == states[: len(states) - 100 + overview.IDLE_LOOKS]
    assert sleeps == [overview.WATCH_SECONDS] * (len(seen) - 1)
