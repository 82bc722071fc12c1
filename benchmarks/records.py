"""Time and memory to make tables and a data frame from 10,000 records, without torch and GPU.

    python benchmarks/records.py [--records 10000] [--classes 10]

Writes synthetic run folders of finished runs (five checkpoints; clean, PGD and AutoAttack; hits per class, no
outcome files), then reads them in one process per task. Times are wall-clock seconds of the task including
imports; memory is the peak resident set of the process.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TASKS = {
    "every main table as LaTeX": """
from fairbench.records.results_folder import scan
from fairbench.tables.formats import render
from fairbench.tables.request import TableRequest
from fairbench.tables.views import build_tables
records, problems = scan(Path(sys.argv[1]))
tables = build_tables(records, TableRequest())
text = render(tables, "latex")
print(len(records), len(problems), len(tables), len(text), "records, problems, tables, bytes")
""",
    "every fairness table as LaTeX": """
from fairbench.records.results_folder import scan
from fairbench.tables.formats import render
from fairbench.tables.request import TableRequest
from fairbench.tables.views import build_tables
records, problems = scan(Path(sys.argv[1]))
tables = build_tables(records, TableRequest(view="fairness"))
text = render(tables, "latex")
print(len(records), len(problems), len(tables), len(text), "records, problems, tables, bytes")
""",
    "fairbench.load_records": """
import fairbench
frame = fairbench.load_records(sys.argv[1])
print(len(frame), int(frame.memory_usage(deep=True).sum() / 2**20), "rows, MiB in the frame")
""",
}
TIMED = """
import resource, sys, time
from pathlib import Path
began = time.perf_counter()
{task}
seconds = time.perf_counter() - began
assert "torch" not in sys.modules
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
ATTACKS = [
    {"name": "pgd-20", "id": "pgd0", "kind": "pgd", "version": 1, "eps": 0.031, "norm": "linf"},
    {"name": "autoattack", "id": "aa00", "kind": "autoattack", "version": 2, "eps": 8 / 255, "norm": "linf"},
]
METHODS = ("trades", "frl", "bat", "wat", "cfa", "fairtat", "dafa", "trix", "pgd-at", "mart")
EPOCHS = range(146, 151)


def write_records(results: Path, count: int, num_classes: int) -> None:
    """Write `count` finished runs: ten methods, five seeds, and as many data sets as needed."""
    rng = np.random.default_rng(0)
    size = 10_000 // num_classes
    for k in range(count):
        method, rest = METHODS[k % 10], k // 10
        seed, dataset = rest % 5, f"set{rest // 5}"
        identity = {
            "method": {"name": method, "config": {"beta": 6.0}, "fingerprint": "f" * 12},
            "dataset": {"name": dataset, "digest": "d" * 64},
            "model": {"target": "fairbench.models.resnet:resnet18"},
            "protocol": {"name": "trix-150", "version": 1, "epochs": 150, "selection": {"last": 5}},
        }
        head = {"schema": 1, "id": f"{k:012x}", "entry": f"{method}.{dataset}"}
        names = {"method": method, "dataset": dataset, "model": "resnet18", "protocol": "trix-150"}
        folder = results / "runs" / f"{method}.{dataset}.resnet18.trix-150.seed{seed}.{k:012x}"
        folder.mkdir(parents=True)
        cell = {**head, **names, "seed": seed, "overrides": {}, "identity": identity, "evaluation": ATTACKS}
        (folder / "cell.json").write_text(json.dumps(cell))
        share = rng.uniform(0.2, 0.9, num_classes)
        evaluations = [
            {
                "attack": attack,
                "id": id,
                "epoch": epoch,
                "file": f"outcomes/epoch-{epoch:04d}/{attack}.npy",
                "digest": rng.bytes(32).hex(),
                "hits": rng.binomial(size, share * factor).tolist(),
                "about": {},
            }
            for epoch in EPOCHS
            for attack, id, factor in (
                ("clean", "clean", 1.0),
                ("pgd-20", "pgd0", 0.6),
                ("autoattack", "aa00", 0.5),
            )
        ]
        record = {
            **head,
            "state": "done",
            "num_classes": num_classes,
            "class_names": [f"class {c}" for c in range(num_classes)],
            "class_count": [size] * num_classes,
            "epochs_evaluated": list(EPOCHS),
            "evaluations": evaluations,
            "warnings": [],
            "finished": "2026-11-22T10:00:00Z",
        }
        (folder / "record.json").write_text(json.dumps(record))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_records(Path(folder), arguments.records, arguments.classes)
        print(f"{arguments.records} records, {arguments.classes} classes, 15 evaluations each")
        for name, task in TASKS.items():
            done = subprocess.run(
                [sys.executable, "-c", TIMED.format(task=task), folder],
                capture_output=True,
                text=True,
                check=True,
            )
            result, measured = done.stdout.splitlines()[-2:]
            seconds, mebibytes = map(float, measured.split())
            print(f"{name}: {seconds:.1f} s, {mebibytes:.0f} MiB ({result})")


if __name__ == "__main__":
    main()
