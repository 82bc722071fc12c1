"""A method as its page shows it: what its file and the registry say, and the settings that its runs had."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairbench.core.identity import canonical_json
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
    """A method with its runs. known: whether the registry has it; without it only the runs speak."""

    name: str
    title: str
    runs: tuple[RunHistory, ...]
    known: bool = False
    summary: str = ""
    doc: Mapping[str, str] = field(default_factory=dict)
    paper: Paper | None = None
    official: Official | None = None
    options: tuple[OptionFacts, ...] = ()
    changed: bool = False  # its code is not that of all runs


def method_facts(name: str, runs: Sequence[RunHistory], registry: Registry) -> MethodFacts:
    """What is known of method `name`; a registry that does not have it is no fault."""
    title = runs[0].record.title("method")
    configs = [run.record.identity("method").get("config") for run in runs]
    used = [config for config in configs if isinstance(config, dict)]
    if name not in registry.methods or name not in registry.plugins:
        return MethodFacts(name, title, tuple(runs), options=_options({}, used))
    entry, plugin = registry.methods[name], registry.plugins[name]
    declared = {option.name: (option.default, option.help) for option in (plugin.options or {}).values()}
    prints = {run.record.identity("method").get("fingerprint") for run in runs}
    return MethodFacts(
        name,
        title if title != name else entry.title or name,
        tuple(runs),
        True,
        plugin.summary,
        plugin.doc,
        entry.paper,
        entry.official,
        _options(declared, used),
        prints != {plugin.fingerprint},
    )


def _options(
    declared: Mapping[str, tuple[Any, str]], used: Sequence[Mapping[str, Any]]
) -> tuple[OptionFacts, ...]:
    names = list(dict.fromkeys([*declared, *(key for config in used for key in config)]))
    return tuple(
        OptionFacts(
            name,
            _shown(declared[name][0]) if name in declared else "",
            tuple(dict.fromkeys(_shown(config[name]) for config in used if name in config)),
            declared[name][1] if name in declared else "",
        )
        for name in names
    )


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return canonical_json(value)
    except (TypeError, ValueError):
        return str(value)
