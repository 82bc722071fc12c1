"""Real CIFAR-10 images from the data folder to the table."""

import json
from pathlib import Path

import pytest

from fairbench.cli.main import main
from fairbench.records.results_folder import scan

MICRO = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10-micro.npz"


def fairbench(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 0


@pytest.mark.skipif(not MICRO.exists(), reason="needs the real images of ../shared/data, which are not here")
def test_three_methods_meet_the_same_stream_of_real_images(tmp_path, capsys):
    registry = tmp_path / "registry.yaml"
    registry.write_text(
        "version: 1\n"
        f"datasets: {{cifar10-micro: {{reader: npz, path: {MICRO}, image_shape: [3, 32, 32]}}}}\n"
        "protocols:\n"
        "  tiny: {extends: trix-150, version: 1, epochs: 3, batch_size: 50, budget: {num_steps: 3},\n"
        "         selection: {last: 1}, evaluation: [pgd-20, small@last]}\n"
        "attacks:\n"
        "  small: {kind: autoattack, eps: 0.031, num_steps: 10, num_targets: 2, num_queries: 50}\n"
    )
    common = ["--registry", registry, "--datasets", "cifar10-micro"]
    fairbench("prepare", *common, "--root", tmp_path / "data")
    fairbench(
        *["run", *common, "--data", tmp_path / "data", "--results", tmp_path / "results", "--device", "cpu"],
        *[
            "--methods",
            "dafa,trix",
            "--models",
            "cnn-small",
            "--protocol",
            "tiny",
            "--seeds",
            "1",
            "--epochs",
            "3",
        ],
    )
    printed = capsys.readouterr().out
    records, problems = scan(tmp_path / "results")
    assert not problems
    assert {record.method for record in records} == {"trades", "dafa", "trix"}
    streams = set()
    for record in records:
        rows = [json.loads(line) for line in (record.folder / "epochs.jsonl").read_text().splitlines()]
        streams.add(tuple(row["stream"] for row in rows))
        assert len(rows) == 3
        assert rows[-1]["loss"] < rows[0]["loss"]
        assert len(record.outcomes("pgd-20", 3)) == 200
        assert (record.outcomes("small", 3)["correct"] <= record.outcomes("clean", 3)["correct"]).all()
        assert f"\n{record.method} " in printed
    assert len(streams) == 1
    fairbench("verify", records[0].folder, "--device", "cpu")
