"""Scaling of independent cells over processes of the executor `local`.

Usage: python benchmarks/scaling.py [CELLS] [SECONDS]     writes a table to standard output

Each cell waits about SECONDS in its steps, like a process that waits for its own GPU. So the harness is
measured: starts, leases, checkpoints, the queue. With SECONDS 0 the cells are bound by the CPU. Efficiency is
the time with one process divided by N times the time with N. Each number of workers is measured twice, and
the smaller time is used.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REGISTRY = """
version: 1
protocols:
  scaling:
    extends: quickstart
    version: 1
    source: none; a benchmark
    epochs: 4
    batch_size: 64
    evaluation: []
    selection: {last: 1}
    subset: {train_per_class: 26, test_per_class: 5}
suites:
  scaling: {methods: [waits], datasets: [digits], models: [cnn-small], seeds: [0], protocol: scaling}
methods:
  waits: {target: "waits.py:Waits"}
"""
PLUGIN = '''"""WAITS: TRADES that waits in every step.

Idea       None.
"""

import os
import time
from dataclasses import dataclass

from fairbench.api import AdversarialObjective, attacks, losses, method, trades_terms


@method("waits")
class Waits(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term

    def perturb(self, model, batch, ctx):
        time.sleep(float(os.environ["PACE"]))
        target = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, target, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        return trades_terms(model, batch, x_adv, beta=self.config.beta, bn_order="adv-clean")
'''
STEPS = 20  # of a cell
WORKERS = (1, 2, 4, 8)


def seconds(folder: Path, cells: int, workers: int, pace: float) -> float:
    """Wall time of one `run` of `cells` cells in a new results folder."""
    results = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "fairbench.cli", "run", "--registry", str(folder / "registry.yaml")]
    command += [
        "--suite",
        "scaling",
        "--methods",
        "waits",
        "--seeds",
        f"0..{cells - 1}",
        "--results",
        str(results),
    ]
    command += ["--device", "cpu", "--executor", "local", "--pack", str(workers), "--json"]
    began = time.perf_counter()
    subprocess.run(command, env={**os.environ, "PACE": str(pace)}, check=True, capture_output=True)
    return time.perf_counter() - began


def main(cells: int = 8, wait: float = 20.0) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "registry.yaml").write_text(REGISTRY)
        (folder / "waits.py").write_text(PLUGIN)
        best: dict[int, float] = {}
        for workers in (*WORKERS, *reversed(WORKERS[1:])):
            took = seconds(folder, cells, workers, wait / STEPS)
            best[workers] = min(took, best.get(workers, took))
            print(f"# {workers} workers: {took:.1f} s", flush=True)
    print(f"{cells} cells of {wait:g} s of waiting each, {os.cpu_count()} CPU cores")
    print("workers  seconds  efficiency")
    for workers, took in best.items():
        print(f"{workers:7}  {took:7.1f}  {best[1] / (workers * took):10.2f}")


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, float), sys.argv[1:], strict=False)))
