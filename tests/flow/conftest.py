"""The command line in a temporary folder: a protocol of seconds, on part of the embedded digits."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from flow_files import PLUGIN, REGISTRY

from fairbench.cli.main import main


@dataclass
class Bench:
    """A results folder with a registry beside it, and the command line on both."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    results: Path

    @property
    def registry(self) -> Path:
        return self.folder / "registry.yaml"

    def arguments(self, command: str, *extra: str) -> list[str]:
        given = [command, "--registry", str(self.registry), "--data", str(self.folder / "data")]
        given += ["--results", str(self.results)]
        return [*given, *(["--suite", "tiny"] if command in ("run", "plan") else []), *extra]

    def call(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What `fairbench ARGUMENTS` prints on standard output and error; it must end with `code`."""
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, error = self.capsys.readouterr()
        assert (ended.value.code or 0) == code, error + out
        assert "Traceback" not in error
        return out, error

    def run(self, *extra: str, code: int = 0) -> tuple[str, str]:
        return self.call(*self.arguments("run", *extra), code=code)

    def plan(self, *extra: str) -> list[dict[str, Any]]:
        out, _ = self.call(*self.arguments("plan", "--json", *extra))
        planned: list[dict[str, Any]] = json.loads(out)
        return planned

    def states(self, *extra: str) -> dict[str, str]:
        """State by method and seed, for instance {"trades.0": "done"}."""
        return {f"{item['method']}.{item['seed']}": item["state"] for item in self.plan(*extra)}

    def folder_of(self, method: str, seed: int = 0) -> Path:
        (found,) = (self.results / "runs").glob(f"{method}.*.seed{seed}.*")
        return found

    def record(self, method: str, seed: int = 0) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder_of(method, seed) / "record.json").read_text())
        return record

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`fairbench ARGUMENTS` in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", "from fairbench.cli.main import main; main()", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.delenv("FAIRBENCH_REGISTRY", raising=False)
    monkeypatch.delenv("FAIRBENCH_DATA", raising=False)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    return Bench(tmp_path, capsys, tmp_path / "results")


@pytest.fixture
def write_plugin(tmp_path: Path) -> Callable[[str], Path]:
    """Write a method's file and return its path."""

    def write(text: str = PLUGIN) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(text)
        return path

    return write
