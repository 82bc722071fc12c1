"""Tables, status and the frame use no outcomes but those that the record was written with."""

import os
import random
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outcome_files import write_outcomes
from results_builder import ResultsBuilder

import fairbench
from fairbench.core.errors import RecordError
from fairbench.core.files import read_json, write_sealed
from fairbench.records import checked
from fairbench.records.outcomes import read_outcomes
from fairbench.records.results_folder import scan
from fairbench.records.run_folder import RunFolder

TWO = {"clean": ((9, 8, 7), (8, 8, 8)), "robust": ((6, 5, 4), (5, 5, 5)), "counted": True}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checked._remembered.cache_clear()
    yield tmp_path / "cache" / "fairbench" / "checked"
    checked._remembered.cache_clear()


@pytest.fixture
def folder(tmp_path, cache):
    return ResultsBuilder(tmp_path / "results").run(**TWO)


def forge_rows(folder, rng):
    """Turn broken images into robust ones, and seal the record again."""
    record = read_json(folder / "record.json")
    line = rng.choice(record["evaluations"])
    rows = read_outcomes(folder / line["file"]).copy()
    rows["correct"] = True
    line["digest"] = write_outcomes(folder / line["file"], rows["label"], rows["prediction"], rows["correct"])
    line["hits"] = [10, 10, 10]
    write_sealed(folder / "record.json", record)


def forge_counts(folder, rng):
    record = read_json(folder / "record.json")
    if rng.random() < 0.5:
        record["class_count"] = rng.choice(([10, 10, 11], [20, 10, 10], [100, 100, 100]))
    else:
        rng.choice(record["evaluations"])["hits"] = rng.choice(([10, 10, 10], [9, 8, 6], [0, 0, 0]))
    write_sealed(folder / "record.json", record)


def exchange(folder, rng):
    one, other = rng.sample(sorted(folder.glob("outcomes/*/*.npy")), 2)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def damage(folder, rng):
    path = rng.choice(sorted(folder.glob("outcomes/*/*.npy")))
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    else:
        del content[rng.randrange(len(content)) :]
    path.write_bytes(content)


def remove(folder, rng):
    rng.choice(sorted(folder.glob("outcomes/*/*.npy"))).unlink()


@pytest.mark.parametrize("spoil", [forge_rows, forge_counts, exchange, damage, remove])
@settings(
    max_examples=12,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_outcomes_that_are_not_the_records_are_used_nowhere(folder, tmp_path, spoil, seed):
    run = tmp_path / "other" / "runs" / folder.name
    shutil.rmtree(tmp_path / "other", ignore_errors=True)
    shutil.copytree(folder, run)
    assert RunFolder(run).recorded().state == "done"
    whole = len(fairbench.load_records(tmp_path / "other"))
    spoil(run, random.Random(seed))
    status = RunFolder(run).recorded()
    assert status.state == "partial"
    frame = fairbench.load_records(tmp_path / "other")
    assert len(frame) < whole
    assert frame.attrs["problems"]
    (record,), _ = scan(tmp_path / "other")
    refused = 0
    for e in record.evaluations:
        try:
            record.class_hits(e.attack, e.epoch)
        except RecordError:
            refused += 1
    assert refused == len(record.outcome_faults) > 0


def test_what_was_checked_is_not_read_again_until_a_file_changes(folder, cache, monkeypatch):
    def age():
        for path in folder.glob("outcomes/*/*.npy"):
            os.utime(path, (0, 0))

    read = []

    def watched(*given):
        read.append(given)
        return read_outcomes(*given)

    monkeypatch.setattr(checked, "SETTLED_NS", -(10**12))  # these files are young
    monkeypatch.setattr("fairbench.records.outcomes.read_outcomes", watched)
    age()
    for _ in range(2):
        assert RunFolder(folder).read().outcome_faults == {}
        assert len(read) == 4
        checked._remembered.cache_clear()  # as another process
    assert cache.stat().st_size == checked.KEY_BYTES
    path = next(folder.glob("outcomes/*/clean.npy"))
    rows = read_outcomes(path)
    write_outcomes(path, rows["label"], rows["prediction"], np.zeros(len(rows), bool))
    age()  # the same size and the same time: but another inode
    assert "digest" in str(RunFolder(folder).read().outcome_faults)


def test_a_young_file_is_not_remembered_and_a_damaged_memory_forgotten(folder, cache):
    assert RunFolder(folder).read().outcome_faults == {}
    assert not cache.exists()
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"x" * 17)
    checked._remember(b"k" * checked.KEY_BYTES)
    assert cache.read_bytes() == b"k" * checked.KEY_BYTES
    cache.unlink()
    cache.mkdir()
    checked._remember(b"k" * checked.KEY_BYTES)
    checked._remembered.cache_clear()
    assert RunFolder(folder).read().outcome_faults == {}


def test_without_a_home_folder_nothing_is_remembered(folder, monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("fairbench.core.home.Path.expanduser", homeless)
    monkeypatch.setattr(checked, "SETTLED_NS", -(10**12))
    assert RunFolder(folder).read().outcome_faults == {}
