"""A real Ray cluster of two nodes: cells where there is room, a node that goes down, and nothing lost."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flow_files import HOOK

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is not installed"),
]
PACED = "time.sleep(float(os.environ.get('TEST_PACE', 0)))\n        "
CLUSTER = """
import sys, warnings
warnings.simplefilter("ignore")
from ray.cluster_utils import Cluster
node = dict(num_cpus=1, include_dashboard=False, object_store_memory=80 * 2**20)
cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0})
del node["include_dashboard"]
first = cluster.add_node(**node)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "swap":  # the node that works goes down, another one comes
        cluster.remove_node(first, allow_graceful=False)
        cluster.add_node(**node)
        print("swapped", flush=True)
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[subprocess.Popen[str]]:
    """A cluster in a process of its own, its address in `args`; told to swap, it loses its working node."""
    env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "TEST_PACE": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=env,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.args = process.stdout.readline().strip()
        yield process
        process.stdin.close()


def test_cells_go_on_when_their_node_is_removed_and_end_as_they_would_alone(
    bench, write_plugin: Callable[..., Path], cluster, monkeypatch
):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    text = write_plugin().read_text().replace("from dataclasses", "import os\nimport time\nfrom dataclasses")
    plugin = write_plugin(text.replace(HOOK, PACED + HOOK))
    profile = bench.folder / "cluster.yaml"
    profile.write_text(f"ray: {{address: '{cluster.args}', cpus: 1}}\n")
    chosen = ("--registry", str(plugin), "--methods", "mine", "--epochs", "3", "--device", "cpu")
    run = bench.start(*bench.arguments("run", *chosen, "--executor", "ray", "--profile", str(profile)))
    logs = bench.results / "runs"
    end = time.monotonic() + 90
    while not any("epoch 1 of 3" in path.read_text() for path in logs.glob("mine*/worker.log")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end
        time.sleep(0.2)
    cluster.stdin.write("swap\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "swapped\n"
    _, error = run.communicate()
    assert run.returncode == 0, error
    assert "Traceback" not in error
    log = (bench.folder_of("mine") / "worker.log").read_text()
    assert "resuming after epoch" in log
    ray_results, bench.results = bench.results, bench.folder / "alone"
    bench.run(*chosen)
    for path in [*ray_results.rglob("epoch-*.safetensors"), *ray_results.rglob("*.npy")]:
        assert path.read_bytes() == (bench.results / path.relative_to(ray_results)).read_bytes()


def test_without_a_cluster_none_is_started(bench):
    profile = bench.folder / "cluster.yaml"
    profile.write_text("ray: {address: '127.0.0.1:1'}\n")
    _, error = bench.run("--executor", "ray", "--profile", str(profile), "--device", "cpu", code=3)
    assert "no Ray cluster" in error
    assert "ray start --head --node-ip-address 127.0.0.1" in error
