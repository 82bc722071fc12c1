"""How often a published mean that replicates perfectly is called low or high, by simulation.

    python benchmarks/verdicts.py [--tables 20000]

Our seeds and those of the paper are normal with the same mean. Columns, in percent: with the printed
deviation, by Welch's test, when the paper's spread is half of ours, the same, and twice ours; without a
printed deviation; and in brackets by our own interval alone, the rule of tables before.
"""

import argparse

import numpy as np

from fairbench.stats.intervals import t_interval
from fairbench.tables.published_results import verdict
from fairbench.tables.table import TableCell

SPREADS = (0.5, 1.0, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", type=int, default=20_000)
    tables = parser.parse_args().tables
    print(f"{tables} simulated values each; today (before)\n")
    print(
        "our seeds  paper's seeds  half the spread    same spread  twice the spread  none printed, one seed"
    )
    for ours in (3, 5):
        for theirs in (3, 5):
            texts = [rates(ours, theirs, spread, tables) for spread in SPREADS] + [
                rates(ours, 1, 1.0, tables)
            ]
            print(f"{ours:>9}  {theirs:>13}  {texts[0]:>15}  {texts[1]:>13}  {texts[2]:>16}  {texts[3]:>22}")


def rates(ours: int, theirs: int, spread: float, tables: int) -> str:
    """The share of replicated values called low or high, by today's rules and by those of before."""
    rng = np.random.default_rng(ours + 10 * theirs)
    own, paper = rng.normal(size=(tables, ours)), spread * rng.normal(size=(tables, theirs))
    called = {2: 0, 1: 0}
    for k in range(tables):
        interval = t_interval(own[k])
        cell = TableCell(interval.mean, interval.half_width, interval.sd, values=tuple(enumerate(own[k])))
        sd = float(paper[k].std(ddof=1)) if theirs > 1 else None
        published = TableCell(float(paper[k].mean()), sd=sd)
        for rules in called:
            called[rules] += verdict(published, theirs, cell, rules) != "inside"
    now, before = (100 * called[rules] / tables for rules in called)
    return f"{now:.1f} ({before:.1f})"


if __name__ == "__main__":
    main()
