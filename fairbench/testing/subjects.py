"""Load the method to test: a registered name, or a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairbench.core.errors import ConfigError, PluginError
from fairbench.objectives.load import load_plugin
from fairbench.planning.resolve import import_target
from fairbench.registry import Registry, describe, load_registry, locate
from fairbench.testing.law import Subject
from fairbench.testing.training import EPOCHS

PUBLISHED_EPOCHS = 150  # of a method without a protocol of its own


def find(
    method: str,
    registry_files: Sequence[Path] = (),
    *,
    option_context: Mapping[str, Mapping[str, Any]] | None = None,
    option_values: Mapping[str, tuple[Any, ...]] | None = None,
) -> Subject:
    """The method `method`: a registered name or the path of a .py file.

    Raises UnknownNameError, PluginError or ConfigError when it cannot be loaded.
    """
    registry, name = registered(method, registry_files)
    return subject(registry, name, option_context or {}, option_values or {})


def registered(method: str, registry_files: Sequence[Path] = ()) -> tuple[Registry, str]:
    """The registry with the method, and the name of the method in it."""
    if not method.endswith(".py"):
        return load_registry(registry_files), method
    path = locate(method)
    name = describe(path).name or ""
    registry = load_registry(registry_files)
    if name not in registry.methods or registry.plugins[name].path.resolve() != path.resolve():
        registry = load_registry([*registry_files, path])
    for plugin in registry.broken:
        if plugin.origin == str(path):
            raise PluginError(f"{path} cannot be used: {plugin.reason}.")
    return registry, name


def subject(
    registry: Registry,
    name: str,
    option_context: Mapping[str, Mapping[str, Any]] | None = None,
    option_values: Mapping[str, tuple[Any, ...]] | None = None,
) -> Subject:
    """A registered method with its registered settings, scaled to the epochs of toy training.

    `option_context` and `option_values` are added to those that the class declares beside its Config.
    """
    entry, plugin = registry.get("method", name), registry.readable_plugin(name)
    try:
        published = registry.protocol_for("official", name).published_epochs
    except ConfigError:
        published = PUBLISHED_EPOCHS
    cls = load_plugin(import_target(entry, plugin), name)
    return Subject(
        name=name,
        cls=cls,
        config=in_toy_epochs(registry.method_config(name), published),
        option_context={**getattr(cls, "option_context", {}), **(option_context or {})},
        option_values={**getattr(cls, "option_values", {}), **(option_values or {})},
        twin_of=entry.extends,
        path=plugin.path,
    )


def in_toy_epochs(config: Mapping[str, Any], published: int) -> dict[str, Any]:
    """Settings with their epochs scaled to toy training, but at least one where there was one."""

    def scaled(name: str, value: Any) -> Any:
        if not name.endswith(("_epochs", "_epoch")) or type(value) is not int or value < 1:
            return value
        return max(1, round(value * EPOCHS / published))

    return {name: scaled(name, value) for name, value in config.items()}
