"""A method as its page shows it: the facts of its file and of the registry, and the settings of its runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairbench.page.markup import value_text
from fairbench.page.runs import RunHistory
from fairbench.registry import Registry
from fairbench.registry.schema import Official, Paper


@dataclass(frozen=True)
class OptionFacts:
    """An option: its default in the file, the values that the runs had, and its comment."""

    name: str
    default: str
    used: tuple[str, ...]
    help: str


@dataclass(frozen=True)
class MethodFacts:
    """A method with its runs. known: whether the registry has it; without it only the runs are described."""

    name: str
    title: str
    runs: tuple[RunHistory, ...]
    known: bool = False
    summary: str = ""
    doc: Mapping[str, str] = field(default_factory=dict)
    paper: Paper | None = None
    official: Official | None = None
    options: tuple[OptionFacts, ...] = ()
    changed: bool = False  # its code differs from that of some runs


def method_facts(name: str, runs: Sequence[RunHistory], registry: Registry) -> MethodFacts:
    """The facts of the registry and of the runs about method `name`; the registry need not have it."""
    title = runs[0].record.title("method")
    codes = [run.record.cell.code for run in runs]
    configs = [code.config for code in codes]
    if name not in registry.methods or name not in registry.plugins:
        return MethodFacts(name, title, tuple(runs), options=_options({}, configs))
    entry, plugin = registry.methods[name], registry.plugins[name]
    declared = {option.name: (option.default, option.help) for option in (plugin.options or {}).values()}
    return MethodFacts(
        name,
        title if title != name else entry.title or name,
        tuple(runs),
        True,
        plugin.summary,
        plugin.doc,
        entry.paper,
        entry.official,
        _options(declared, configs),
        {code.fingerprint for code in codes} != {plugin.fingerprint},
    )


def _options(
    declared: Mapping[str, tuple[Any, str]], configs: Sequence[Mapping[str, Any]]
) -> tuple[OptionFacts, ...]:
    """The declared options, then those that only the runs have."""
    names = dict.fromkeys([*declared, *(key for config in configs for key in config)])
    return tuple(
        OptionFacts(
            name,
            value_text(declared[name][0]) if name in declared else "",
            tuple(dict.fromkeys(value_text(config[name]) for config in configs if name in config)),
            declared[name][1] if name in declared else "",
        )
        for name in names
    )
