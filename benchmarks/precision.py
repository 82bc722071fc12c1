"""The effect of precision on accuracy: the same cells in fp32, tf32 and bf16, paired over seeds.

python benchmarks/precision.py RESULTS [OPTIONS OF fairbench run...]

for instance

python benchmarks/precision.py results-precision --datasets cifar10 --models cnn-small --methods trades,trix \
    --seeds 0..4 --epochs 15 --device cuda --pack 4

Runs cells that are not finished yet, then prints for each method and precision the mean over seeds in
percent, the standard deviation, the paired difference to fp32 in points with its 95 % t interval, and the
time of an epoch divided by that in fp32.
"""

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

from scipy.stats import t as student

from fairbench import load_records

PRECISIONS = ("fp32", "tf32", "bf16")
CPU = ("fp32", "bf16")
results, options = Path(sys.argv[1]), sys.argv[2:]


def run(precision):
    """Run the cells in one precision."""
    command = [sys.executable, "-m", "fairbench.cli", "run", "--results", str(results), *options]
    command += ["--set", f"protocol.precision={precision}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def epoch_seconds(folder):
    """Median seconds of an epoch, without the first one, which warms up."""
    lines = (results / "runs" / folder / "epochs.jsonl").read_text().splitlines()
    return statistics.median(json.loads(line)["seconds"] for line in lines[1:] or lines)


def interval(values):
    """Mean and half-width of the 95 % t interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


for precision in CPU if "cpu" in options else PRECISIONS:
    run(precision)
frame = load_records(results)
frame = frame[frame.selected]
shares = frame.groupby(
    ["method", "precision", "seed", "attack", "epoch", "class"], observed=True
).accuracy.mean()
by_epoch = shares.groupby(["method", "precision", "seed", "attack", "epoch"], observed=True)
measures = {"average": by_epoch.mean(), "worst": by_epoch.min()}
seconds = {
    key: epoch_seconds(folder)
    for key, folder in frame.groupby(["method", "precision", "seed"], observed=True).record.first().items()
}
print(
    "method           precision  images  measure   mean    spread  difference to fp32, points  epoch / fp32"
)
for method in dict.fromkeys(frame.method):
    for attack in dict.fromkeys(frame.attack):
        for name, measured in measures.items():
            of = measured.groupby(["method", "precision", "seed", "attack"], observed=True).mean() * 100
            base = of[method, "fp32", :, attack]
            for precision in (p for p in PRECISIONS if p in set(frame.precision)):
                values = of[method, precision, :, attack]
                mean, spread = values.mean(), values.std()
                shown = f"{method:16} {precision:10} {attack:7.7} {name:8} {mean:6.2f}  {spread:6.2f}"
                if precision != "fp32":
                    difference, half = interval([values[seed] - base[seed] for seed in base.index])
                    ratio = statistics.median(
                        seconds[method, precision, seed] / seconds[method, "fp32", seed]
                        for seed in base.index
                    )
                    shown += f"  {difference:+6.2f} +- {half:5.2f}              {ratio:12.2f}"
                print(shown)
