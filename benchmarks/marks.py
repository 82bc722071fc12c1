"""How often marks are wrong, by simulation: bold for the best mean, a dagger for what is not worse.

    python benchmarks/marks.py [--tables 10000]

Each simulated column has normal values, one per method and seed, without a common effect of the seed (the
rules remove it). Columns of the output, in percent, each by the rule of today and by unmoderated paired t
tests (the rule of tables before):

best loses     the truly best of equal methods has no mark: with equal spreads; when its own spread is four
               times that of the others; when another's is
equal loses    columns of equal methods, with equal spreads, in which one or more methods have no mark
inferior keeps share of inferior methods with a dagger when the best is ahead by four standard deviations
               over seeds
"""

import argparse

import numpy as np

from fairbench.stats.best import near_best, near_best_unmoderated

METHODS, SEEDS = (2, 3, 8, 20), (3, 5, 10)
HEADS = ("best loses", ".. noisy best", ".. noisy other", "equal loses", "inferior keeps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", type=int, default=10_000)
    tables = parser.parse_args().tables
    print(f"{tables} simulated columns each; today (before)\n")
    print("methods  seeds  " + "  ".join(f"{head:>15}" for head in HEADS))
    for methods in METHODS:
        for seeds in SEEDS:
            pairs = zip(*(rates(rule, methods, seeds, tables) for rule in RULES), strict=True)
            texts = (f"{100 * now:.1f} ({100 * before:.1f})" for now, before in pairs)
            print(f"{methods:>7}  {seeds:>5}  " + "  ".join(f"{text:>15}" for text in texts), flush=True)


RULES = (near_best, near_best_unmoderated)


def rates(rule, methods: int, seeds: int, tables: int) -> list[float]:
    """The five rates of one rule, in the order of HEADS; the first method is the truly best one."""
    values = np.random.default_rng(100 * methods + seeds).normal(size=(tables, methods, seeds))
    noisy_best, noisy_other, ahead = values.copy(), values.copy(), values.copy()
    noisy_best[:, 0] *= 4
    noisy_other[:, -1] *= 4
    ahead[:, 0] += 4
    marks = [np.array([rule(table) for table in kind]) for kind in (values, noisy_best, noisy_other, ahead)]
    lost = [1 - float(kind[:, 0].mean()) for kind in marks[:3]]
    return [*lost, 1 - float(marks[0].all(axis=1).mean()), float(marks[3][:, 1:].mean())]


if __name__ == "__main__":
    main()
