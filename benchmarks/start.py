"""Median seconds of the commands that must start fast, as whole processes, alternating.

python benchmarks/start.py [RESULTS_FOLDER]
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 9
results = sys.argv[1] if len(sys.argv) > 1 else "results"
COMMANDS = {
    "--help": ["--help"],
    "list": ["list"],
    "plan": ["plan", "--results", results],
    "plan of 9,990 cells": ["plan", "--suite", "table1", "--seeds", "0..369", "--results", results],
    "the same, --json": ["plan", "--suite", "table1", "--seeds", "0..369", "--results", results, "--json"],
    "status": ["status", "--results", results],
    "table": ["table", "--results", results],
}

seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
for round_number in range(ROUNDS + 1):
    for name, arguments in COMMANDS.items():
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "fairbench.cli", *arguments], stdout=subprocess.DEVNULL, check=True
        )
        if round_number:  # the first round fills the disk cache
            seconds[name].append(time.perf_counter() - began)
for name, values in seconds.items():
    print(f"{name:20} median {statistics.median(values):.2f} s, {min(values):.2f} to {max(values):.2f} s")
