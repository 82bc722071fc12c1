"""Methods and networks in files of the user's own; parts of a run that fail or vanish."""

import json

from flow_files import PLUGIN, REGISTRY

from fairbench.core.files import write_sealed

SECOND = """

@method("other")
class Other(Mine):
    pass
"""

NETWORK = """
from torch import nn


def net(num_classes, image_shape):
    pixels = image_shape[0] * image_shape[1] * image_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, num_classes))
"""


def test_methods_of_one_file_stay_apart_in_the_table(bench):
    (bench.folder / "both.py").write_text(
        "from __future__ import annotations\n" + PLUGIN.split('"""', 2)[2] + SECOND
    )
    bench.registry.write_text(
        REGISTRY + "methods:\n  mine: {target: both.py:Mine}\n  again: {extends: trades}\n"
    )
    out, _ = bench.run("--methods", "trades,mine,again")
    rows = [line.split()[0] for line in out.splitlines() if line[:6].strip() in ("trades", "mine", "again")]
    assert sorted(rows) == ["again", "mine", "trades"]


def test_a_network_in_a_file_is_trained_and_its_code_is_part_of_the_cell(bench):
    (bench.folder / "net.py").write_text(NETWORK)
    bench.registry.write_text(REGISTRY + "models:\n  mynet: {target: net.py:net}\n")
    bench.run("--methods", "trades", "--models", "mynet")
    assert bench.states("--methods", "trades", "--models", "mynet") == {"trades.0": "done"}
    (bench.folder / "net.py").write_text(NETWORK.replace("nn.Flatten()", "nn.Flatten(), nn.Identity()"))
    assert bench.states("--methods", "trades", "--models", "mynet") == {"trades.0": "stale"}


def test_a_config_that_cannot_be_read_without_running_it_is_refused(bench, write_plugin):
    plugin = write_plugin(PLUGIN.replace("beta: float = 6.0", "beta: float = float('6')"))
    _, error = bench.run("--registry", str(plugin), "--methods", "mine", code=2)
    assert "cannot be read without running" in error


def test_an_attack_that_fails_leaves_the_others_and_the_cell_alone(bench):
    bench.registry.write_text(
        REGISTRY.replace(
            "attacks:\n", "attacks:\n  far: {kind: pgd, version: 1, eps: 0.1, step_size: 0.1, num_steps: 1}\n"
        )
    )
    bench.run("--methods", "trades", "--attacks", "far,pgd-2")
    folder = bench.folder_of("trades")
    cell = json.loads((folder / "cell.json").read_text())
    del cell["digest"]
    cell["evaluation"].insert(0, {"name": "gone", "id": "0", "kind": "no such kind"})
    write_sealed(folder / "cell.json", cell)
    (folder / "record.json").unlink()
    _, error = bench.call("cell", str(folder), "--registry", str(bench.registry), code=1)
    assert "failed" in error
    record = bench.record("trades")
    assert record["state"] == "done"
    (failed,) = [item for item in record["evaluations"] if "error" in item]
    assert failed["attack"] == "gone"
    done = {item["attack"] for item in record["evaluations"] if "error" not in item}
    assert done == {"clean", "pgd-2", "far"}
    out, _ = bench.call("table", "--results", str(bench.results))
    assert "far" in out


def test_outcomes_that_are_gone_are_made_again_without_training(bench):
    bench.run("--methods", "trades")
    folder = bench.folder_of("trades")
    lost = next((folder / "outcomes").rglob("clean.npy"))
    content, curve = lost.read_bytes(), (folder / "epochs.jsonl").read_bytes()
    lost.unlink()
    assert bench.states("--methods", "trades") == {"trades.0": "partial"}
    bench.run("--methods", "trades")
    assert lost.read_bytes() == content
    assert (folder / "epochs.jsonl").read_bytes() == curve


def test_a_warm_up_without_an_end_is_said_in_the_table(bench):
    out, _ = bench.run("--methods", "dafa", "--set", "methods.dafa.warmup_epochs=5")
    assert "warmup_epochs=5 lasts to the end of the run" in " ".join(out.split())
