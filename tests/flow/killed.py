"""A process that works on a cell and is killed on its way, for the tests of exact resume."""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import fairbench.runner.worker as worker
from fairbench.records.progress import ProgressListener
from fairbench.registry import load_registry

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.link", "os.mkdir")


class Silent(ProgressListener):
    """Notes each step and each part of an evaluation."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note

    def step(self, *place: Any) -> None:
        self.note("training")

    def epoch(self, row: dict[str, Any]) -> None:
        pass

    def evaluation(self, attack: str, epoch: int, progress: object) -> None:
        self.note("evaluation")


def work(folder: str, phase: str, die_at: int, deaths: str) -> None:
    """Work on the cell in `folder`; be killed at moment `die_at` of a phase, or of all ("any").

    Moments are steps of the training, parts of an evaluation, and every change of a file: when it is opened
    for writing, renamed, removed. Where it died is added to the file `deaths`; if it did not, how many
    moments each phase had.
    """
    torch.set_num_threads(1)
    told = os.open(deaths, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    counts = Counter[str]()

    def note(here: str) -> None:
        counts.update((here, "any"))
        if phase in (here, "any") and counts[phase] == die_at:
            os.write(told, f"{here}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and int(arguments[2] or 0) & WRITING):
            path = str(arguments[0])
            if folder.rpartition("/")[0] in path:
                note(phase_of(Path(path)))

    sys.addaudithook(hook)
    worker.run_cell(Path(folder), Silent(note), load_registry(), "cpu")
    os.write(told, f"{json.dumps(counts)}\n".encode())


def phase_of(path: Path) -> str:
    """What a file is written for."""
    if path.parent.name == "checkpoints" or path.name.startswith(("epochs.jsonl", ".epochs.jsonl")):
        return "checkpoint"
    if "outcomes" in path.parts:
        return "outcomes"
    return "record" if "record.json" in path.name else "other files"
