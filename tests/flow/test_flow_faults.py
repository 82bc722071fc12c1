"""What disks, people and plugins do to a results folder: found, told, mended, and nothing lost."""

import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from flow_files import HOOK, content

from fairbench.core import files

ONE = ("--methods", "trades", "--epochs", "3", "--device", "cpu")


@pytest.fixture
def stopped(bench, monkeypatch) -> Callable[[int], Path]:
    """A run that a full disk stopped at its file number so and so; its folder."""

    def stop(number: int) -> Path:
        sync, count = os.fsync, 0

        def full(handle: int) -> None:
            nonlocal count
            count += 1
            if count >= number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(handle)

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "fsync", full)
            _, error = bench.run(*ONE, code=3)
        assert "No space left on device" in error
        assert "free space" in error
        return bench.folder_of("trades") if list(bench.results.glob("runs/*/cell.json")) else bench.results

    return stop


@pytest.fixture
def reference(bench) -> dict[str, object]:
    """What the run leaves when nothing happens to it."""
    here, bench.results = bench.results, bench.folder / "reference"
    bench.run(*ONE)
    found = content(bench.folder_of("trades"))
    bench.results = here
    return found


@pytest.mark.parametrize("number", range(1, 24, 2))
def test_a_full_disk_stops_a_run_and_loses_nothing(bench, stopped, reference, number):
    stopped(number)
    assert not list(bench.results.rglob(".*.tmp"))
    bench.run(*ONE)
    assert content(bench.folder_of("trades")) == reference


def damage(path: Path, rng: random.Random) -> None:
    """Flip a bit, or cut the end off."""
    data = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
    else:
        data = data[: rng.randrange(len(data))]
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_damaged_in_an_unfinished_run_is_made_again(bench, stopped, reference, seed):
    """Stopped in its evaluation, when the folder holds one of everything; then some file is damaged."""
    rng = random.Random(seed)
    folder = stopped(20 + seed % 4)
    assert not (folder / "record.json").exists()
    victims = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    victims = [path for path in victims if path.name != "worker.log"]
    damage(victims[seed % len(victims)], rng)
    bench.run(*ONE)
    assert content(bench.folder_of("trades")) == reference


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["record.json", "cell.json"])
def test_a_damaged_record_is_found_and_made_again_from_what_lies_beside_it(bench, name, seed):
    bench.run(*ONE)
    folder = bench.folder_of("trades")
    before, trained = content(folder), (folder / "epochs.jsonl").stat().st_mtime_ns
    damage(folder / name, random.Random(seed))
    assert bench.states(*ONE)["trades.0"] == "failed"
    _, error = bench.call("status", "--results", str(bench.results))
    assert name in error
    bench.run(*ONE)
    assert content(bench.folder_of("trades")) == before
    assert (folder / "epochs.jsonl").stat().st_mtime_ns == trained


@pytest.mark.skipif(os.getuid() != 0, reason="becomes somebody else, which only root may")
def test_a_folder_that_may_not_be_written_is_an_error_and_stays_as_it_is(bench, tmp_path_factory):
    bench.run("--methods", "trades")
    before = sorted(bench.results.rglob("*"))
    top = tmp_path_factory.getbasetemp()
    for path in (bench.folder, *bench.folder.parents):  # others may look into the folders of this test
        if path.is_relative_to(top) or (top.is_relative_to(path) and "pytest" in path.name):
            path.chmod(0o755)
    os.seteuid(65534)
    try:
        _, error = bench.run("--methods", "trades,dafa", code=3)
        assert "Permission denied" in error
        assert "--results DIR" in error
        assert bench.states("--methods", "trades")["trades.0"] == "done"
        bench.call("table", "--results", str(bench.results))
    finally:
        os.seteuid(0)
    assert sorted(bench.results.rglob("*")) == before


@pytest.mark.parametrize("schema", [0, 3, None, "1"])
def test_what_another_version_wrote_is_refused_with_a_reason_and_not_touched(bench, schema):
    bench.run("--methods", "trades")
    folder = bench.folder_of("trades")
    for name in ("record.json", "cell.json"):
        data = json.loads((folder / name).read_text())
        whole = (folder / name).read_bytes()
        del data["digest"]
        (folder / name).write_text(json.dumps({**data, "schema": schema}))
        changed = (folder / name).read_bytes()
        _, error = bench.run("--methods", "trades,dafa", code=1)
        assert "this version reads 1" in error
        assert bench.states()["dafa.0"] == "done"
        assert (folder / name).read_bytes() == changed
        _, error = bench.call("status", "--results", str(bench.results))
        assert "schema" in error
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("raise MemoryError", "MemoryError"),
        ("import torch; raise torch.OutOfMemoryError('CUDA out of memory.')", "CUDA out of memory"),
        ("import torch; torch.empty(1 << 55)", "can't allocate memory"),
        ("raise SystemError('odd')", "SystemError: odd"),
    ],
)
def test_a_plugin_that_asks_for_too_much_fails_alone(bench, write_plugin, what, said):
    plugin = write_plugin()
    plugin.write_text(plugin.read_text().replace(HOOK, f"if ctx.epoch == 2: {what}\n        {HOOK}"))
    bench.run("--registry", str(plugin), "--methods", "mine,trades", code=1)
    assert bench.states("--registry", str(plugin), "--methods", "mine,trades")["trades.0"] == "done"
    record = bench.record("mine")
    assert record["state"] == "failed"
    assert said in record["reason"]
    assert (record.get("fault") == "memory") == ("emory" in said)


@pytest.mark.slow  # a process of its own: it forks
def test_a_plugin_that_forks_does_not_write_twice(bench, write_plugin, monkeypatch):
    plugin = write_plugin()
    text = plugin.read_text().replace("from dataclasses", "import os\nfrom dataclasses")
    forks = "if ctx.epoch == 2 and ctx.step == 1 and os.environ.get('TEST_FORK'):\n            os.fork()"
    plugin.write_text(text.replace(HOOK, f"{forks}\n        {HOOK}"))
    mine = ("--registry", str(plugin), "--methods", "mine")
    bench.run(*mine)
    alone = content(bench.folder_of("mine"))
    bench.results = bench.folder / "forked"
    monkeypatch.setenv("TEST_FORK", "1")
    process = bench.start(*bench.arguments("run", *mine))
    _, error = process.communicate(timeout=300)
    assert "a method called os.fork" in error
    assert content(bench.folder_of("mine")) == alone
    assert not (bench.folder_of("mine") / "claim").exists()


@pytest.mark.slow  # a process of its own: it hangs
def test_a_plugin_that_hangs_is_ended_at_its_time_limit_and_the_others_go_on(
    bench, write_plugin, monkeypatch
):
    monkeypatch.setattr("fairbench.runner.executors.process.PATIENCE", 3.0)
    plugin = write_plugin()
    text = plugin.read_text().replace("from dataclasses", "import time\nfrom dataclasses")
    plugin.write_text(text.replace(HOOK, f"while ctx.epoch == 2: time.sleep(0.1)\n        {HOOK}"))
    mine = ("--registry", str(plugin), "--methods", "mine,trades", "--device", "cpu")
    _, error = bench.run(*mine, "--time-limit", "20s", code=1)
    assert "not done after 20 s, its time limit" in error
    assert bench.states(*mine) == {"mine.0": "partial", "trades.0": "done"}


def test_a_results_folder_removed_during_a_run_ends_it_and_is_not_made_again(bench, write_plugin):
    plugin = write_plugin()
    removes = f"__import__('shutil').rmtree({str(bench.results)!r}, ignore_errors=True)"
    plugin.write_text(plugin.read_text().replace(HOOK, f"if ctx.epoch == 2: {removes}\n        {HOOK}"))
    _, error = bench.run("--registry", str(plugin), "--methods", "mine,trades", code=3)
    assert "was removed, renamed or unmounted" in error
    assert not bench.results.exists()


def test_a_plugin_that_exits_at_import_is_a_broken_plugin_with_its_name(bench, write_plugin):
    plugin = write_plugin()
    plugin.write_text(
        plugin.read_text().replace('@method("mine")', 'raise SystemExit(0)\n\n\n@method("mine")')
    )
    _, error = bench.run("--registry", str(plugin), "--methods", "mine,trades", code=1)
    assert "raised SystemExit when it was imported" in error
    assert "mine" in error
    assert bench.states("--registry", str(plugin), "--methods", "mine,trades")["trades.0"] == "done"
