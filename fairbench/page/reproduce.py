"""The commands that make the runs of a page again."""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fairbench.page.markup import number_range, value_text
from fairbench.records.cell import EvaluationAttack
from fairbench.records.read import Record
from fairbench.tables.groups import method_overrides, setting_overrides


class RunGroup(NamedTuple):
    """The options that the runs of one command share. In the order in which commands are listed."""

    dataset: str
    model: str
    protocol: str
    attacks: str
    settings: tuple[str, ...]  # of --set
    seeds: str = ""


def run_commands(
    records: Sequence[Record], results: str, registry_files: Sequence[str] = ()
) -> Iterator[str]:
    """One `fairbench run` for each group of runs that differ in method and seed only."""
    files = [part for file in registry_files for part in ("--registry", file)]
    for group, methods in _groups(records).items():
        words = ["fairbench", "run", "--methods", ",".join(methods), "--datasets", group.dataset]
        words += ["--models", group.model, "--protocol", group.protocol, "--seeds", group.seeds]
        words += ["--attacks", group.attacks] if group.attacks else []
        words += [part for setting in group.settings for part in ("--set", setting)]
        yield shlex.join([*words, *files, *results_option(results)])


def results_option(results: str) -> list[str]:
    """The words of --results; none for the default folder."""
    return ["--results", results] if results != "results" else []


def _groups(records: Sequence[Record]) -> dict[RunGroup, list[str]]:
    """The methods of each group, sorted."""
    seeds: dict[tuple[RunGroup, str], set[int]] = defaultdict(set)
    for record in records:
        attacks = ",".join(map(_attack, record.cell.evaluation))
        prefixes = {
            "protocol": setting_overrides(record),
            f"methods.{record.method}": method_overrides(record),
        }
        settings = tuple(
            f"{prefix}.{key}={value_text(value)}"
            for prefix, overrides in prefixes.items()
            for key, value in sorted(overrides.items())
        )
        group = RunGroup(record.dataset, record.model, record.protocol, attacks, settings)
        seeds[(group, record.method)].add(record.seed)
    methods: dict[RunGroup, list[str]] = defaultdict(list)
    for (group, method), numbers in seeds.items():
        methods[group._replace(seeds=number_range(sorted(numbers), "..", ","))].append(method)
    return {group: sorted(methods[group]) for group in sorted(methods)}


def _attack(attack: EvaluationAttack) -> str:
    return attack.name + ("" if attack.at == "selected" else f"@{attack.at}")
