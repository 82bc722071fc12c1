"""The effect of each deviation of an official program: option minus default on the digits, paired over seeds.

python benchmarks/deviations.py RESULTS_FOLDER [SEEDS]
"""

import subprocess
import sys
from pathlib import Path

from fairbench.records.read import Record
from fairbench.records.results_folder import scan
from fairbench.stats.intervals import t_interval
from fairbench.tables.entries import reduce_side

OPTIONS = {
    "trades": ["bn_order=clean-adv-clean"],
    "pgd-at": ["attack_bn=train", "start=gaussian"],
    "mart": ["stable_log=false"],
    "bat": ["tau=0", "shared_trajectory=true"],
    "dafa": ["ties=subtract", "weight_rule=pre_2024_09"],
    "dafa-pgd": ["base=pgd-at-double-step"],
    "trix": ["threshold=classes", "w_stats=untargeted"],
    "frl": ["bn_order=clean-adv-clean", "step=per-sample", "margin_floor=0.0", "fine_tune.start=pgd-at"],
    "wat": ["bn_order=clean-adv", "cost_norm=program", "normalise=mean"],
    "cfa": ["accuracy=program", "normalise=false", "averaging=none"],
    "cfa-at": ["attack_bn=train"],
    "fairtat": ["accuracy=program", "collisions=program", "averaging=none"],
    "fairtat-at": ["attack_bn=eval"],
    "faal": ["absent=program", "count_weighted=false", "clean_forward=false", "fine_tune.start=pgd-at"],
    "faal-mart": ["stable_log=false"],
}
ATTACK = "pgd-20-digits"


def run(results: Path, seeds: str, method: str, *change: str) -> None:
    """Run the cells of a method, with one change or none; finished cells are not run again."""
    settings = [part for option in change for part in ("--set", f"methods.{method}.{option}")]
    command = ["run", "--methods", method, "--seeds", seeds, "--results", str(results), "--device", "cpu"]
    subprocess.run(
        [sys.executable, "-m", "fairbench.cli", *command, *settings], stdout=subprocess.DEVNULL, check=True
    )


def accuracies(record: Record) -> tuple[float, float, float]:
    """Clean average, robust average and robust worst of one run, in percent."""
    clean, robust = (reduce_side(record, attack, record.epochs_evaluated) for attack in ("clean", ATTACK))
    return 100 * clean.average, 100 * robust.average, 100 * robust.worst


def main() -> None:
    results, seeds = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "0..4"
    for method, options in OPTIONS.items():
        run(results, seeds, method)
        for option in options:
            run(results, seeds, method, option)
    done: dict[tuple[str, str], dict[int, tuple[float, float, float]]] = {}
    for record in scan(results)[0]:
        if record.state == "done" and not record.preparation:
            change = ",".join(f"{name}={str(v).lower()}" for name, v in record.overrides.items())
            done.setdefault((record.method, change), {})[record.seed] = accuracies(record)
    print("option minus default, percentage points, mean and 95 % half-width over the seeds they share")
    print(f"{'method':12}{'option':28}{'clean average':>18}{'robust average':>18}{'robust worst':>18}")
    for method, options in OPTIONS.items():
        default = done[method, ""]
        for option in options:
            changed = done[method, option]
            common = sorted(set(default) & set(changed))
            cells = []
            for side in range(3):
                gain = t_interval([changed[seed][side] - default[seed][side] for seed in common])
                cells.append(f"{gain.mean:+.2f} ± {gain.half_width or 0:.2f}")
            print(f"{method:12}{option:28}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
