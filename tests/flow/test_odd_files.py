"""A pipe, link, folder, huge file or deep JSON in place of any file: a message, and other runs are used."""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from flow_files import REGISTRY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairbench.cli.main import main

PLENTY = int(os.environ.get("FAIRBENCH_FUZZ", "1"))  # times as many
EXTRA = (
    *("claim", "error.txt", "progress.json", ".x.tmp"),
    *("checkpoints/resume.safetensors", "outcomes/epoch-0009/new.npy"),
)
TOP = ("steps.json", "slurm/1/job.json", "slurm/1/cells.txt", "evaluations", "exports")


def deep(path: Path) -> None:
    path.write_text('{"a":' * 3000 + "0" + "}" * 3000)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)  # without a block on the disk


KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "link to a file": lambda path: path.symlink_to("/etc/passwd"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to a folder": lambda path: path.symlink_to("/usr"),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "folder": Path.mkdir,
    "huge": huge,
    "deep": deep,
    "empty": Path.touch,
}
COMMANDS = (
    ("status",),
    ("table",),
    ("plan",),
    ("clean", "--weights", "--yes"),
    ("logs", "trades"),
    ("retry", "trades"),
    ("report", "-o", "page.html"),
    ("merge", "other"),
    ("verify", "trades"),
    ("export", "trades", "--to", "safetensors"),
    ("run",),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registry and the results of two runs."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "registry.yaml").write_text(REGISTRY)
    torch.set_num_threads(1)
    with in_time(), pytest.raises(SystemExit):
        main(words("run", folder))
    shutil.copytree(folder / "results", folder / "other")
    return folder


def words(command: str, folder: Path, *more: str) -> list[str]:
    given = [command, *more, "--results", str(folder / "results")]
    if command in ("plan", "run", "verify", "export", "retry"):
        given += ["--registry", str(folder / "registry.yaml")]
    if command in ("plan", "run"):
        given += ["--suite", "tiny", "--device", "cpu"]
    return given


@contextmanager
def in_time(seconds: int = 120) -> Iterator[None]:
    """Raise TimeoutError when the block takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def spoil(folder: Path, rng: random.Random) -> str:
    """Put something odd in the place of a file or folder of the run of trades, or of the results."""
    (run,) = (folder / "results" / "runs").glob("trades.*")
    inside = [path for path in sorted(run.rglob("*")) if not path.name.startswith(".")]
    places = [*inside, *(run / name for name in EXTRA), run, *(folder / "results" / name for name in TOP)]
    place, kind = rng.choice(places), rng.choice(sorted(KINDS))
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](place)
    return f"{kind} at {place.relative_to(folder)}"


def watched() -> dict[str, tuple[int, int]]:
    """What must not change outside."""
    places = (Path("/etc/passwd"), Path("/usr"))
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in places}


@settings(
    max_examples=30 * PLENTY,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_whatever_lies_in_a_run_folder_no_command_hangs_crashes_or_hides_the_other_run(
    made, tmp_path, capsys, monkeypatch, seed
):
    rng, before = random.Random(seed), watched()
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    what = spoil(folder, rng)
    capsys.readouterr()
    for command, *more in rng.sample(COMMANDS, 3):
        with in_time(60), pytest.raises(SystemExit) as ended:
            main(words(command, folder, *more))
        out, error = capsys.readouterr()
        assert ended.value.code in (None, 0, 1, 2, 3), (what, command, error)
        assert "Traceback" not in error, (what, command, error)
        if command in ("table", "status"):
            assert "dafa" in out, (what, command, out + error)
    assert watched() == before


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "folder", "huge"])
def test_a_registry_that_is_no_file_is_a_message(tmp_path, capsys, kind):
    KINDS[kind](tmp_path / "mine.yaml")
    with in_time(60), pytest.raises(SystemExit) as ended:
        main(["plan", "--registry", str(tmp_path / "mine.yaml")])
    assert ended.value.code == 2
    assert "cannot read the registry file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cell.json", "record.json", "provenance.json", "outcomes", "epochs.jsonl"])
def test_json_nested_a_thousand_deep_hides_no_other_run(made, tmp_path, capsys, monkeypatch, name):
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    (run,) = (folder / "results" / "runs").glob("trades.*")
    path = next(run.glob("outcomes/*/clean.json")) if name == "outcomes" else run / name
    try:
        value = json.loads(path.read_text())
        value["training"] = value["identity"] = json.loads("[" * 900 + "]" * 900)
    except ValueError:
        value = None
    path.write_text(json.dumps(value) if value else "[" * 900 + "]" * 900 + "\n")
    for command, *more in (
        ("status",),
        ("table",),
        ("plan",),
        ("logs", "trades"),
        ("report", "-o", "page.html"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words(command, folder, *more))
        out, error = capsys.readouterr()
        assert ended.value.code in (None, 0, 1, 2), error
        if command in ("table", "status"):
            assert "dafa" in out
