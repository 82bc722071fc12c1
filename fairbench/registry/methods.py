"""Methods from entry points, plugin files and registry files, joined by name."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairbench.core.errors import PluginError
from fairbench.core.home import expanded
from fairbench.registry.components import COMPONENTS, component_faults, own_options
from fairbench.registry.declare import Declarations, Declared
from fairbench.registry.faults import Fault, KeyPath, unknown_key
from fairbench.registry.fields import NAME
from fairbench.registry.plugin import PluginSource, describe, locate, parse_target
from fairbench.registry.registry import BrokenPlugin
from fairbench.registry.schema import MethodEntry
from fairbench.registry.trained_weights import FINE_TUNE, TEACHERS, combined

GROUP = "fairbench.methods"
"""Entry-point group: name = method name, value = module:Class."""


@dataclass(frozen=True)
class Provider:
    """A method class from an entry point or a plugin file, with its name."""

    name: str
    target: str
    origin: str


class MethodResolver:
    """Joins providers with declared entries.

    Plugins that cannot be used go to `broken`, faults in files to `declarations.faults`.
    """

    def __init__(self, declarations: Declarations, files: Sequence[Path], entry_points: bool) -> None:
        self.declarations = declarations
        self.providers: dict[str, Provider] = {}
        self.entries: dict[str, MethodEntry] = {}
        self.plugins: dict[str, PluginSource] = {}
        self.broken: dict[str, BrokenPlugin] = {}
        self.origins: dict[str, str] = {}
        if entry_points:
            self._offer_entry_points()
        for path in files:
            self._offer_file(path)

    def resolve(self) -> None:
        """Fill `entries`, `plugins`, `broken` and `origins`."""
        for declared in self.declarations.parents_first("method", self.names()):
            if declared.name not in self.broken:
                self._add_declared(declared, self.providers.get(declared.name))
        for name in self.providers:
            self._add_undeclared(name)

    def names(self) -> list[str]:
        """Names of all methods, those with broken plugins included."""
        declared = self.declarations.of("method")
        return list(dict.fromkeys([*declared, *self.providers, *self.broken]))

    def _offer_entry_points(self) -> None:
        for point in importlib.metadata.entry_points(group=GROUP):
            package = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
            target = point.value.partition("[")[0].replace(" ", "")
            provider = Provider(point.name, target, f"entry point of {package}")
            if not NAME.fullmatch(point.name):
                self._break(
                    provider.name, provider.origin, "its name is not lower-case letters, digits and hyphens"
                )
            elif (other := self.providers.pop(point.name, None)) is not None:
                reason = f"two packages offer it: {other.target} and {provider.target}; uninstall one"
                self._break(point.name, f"{other.origin} and {provider.origin}", reason)
            elif point.name in self.broken:
                origin = f"{self.broken[point.name].origin} and {provider.origin}"
                self._break(point.name, origin, self.broken[point.name].reason)
            else:
                self.providers[point.name] = provider

    def _offer_file(self, path: Path) -> None:
        try:
            plugin = describe(locate(str(path)))
        except PluginError as error:
            self._break(path.stem, str(path), error.message)
            return
        name = plugin.name
        if name is None or not NAME.fullmatch(name):
            self._break(
                path.stem, str(path), f"@method({name!r}): a name is lower-case letters, digits and hyphens"
            )
            return
        provider = Provider(name, f"{plugin.path}:{plugin.class_name}", str(path))
        if (other := self.providers.get(name)) is not None:
            message = (
                f"method {name!r} is already defined by {other.origin} ({other.target}); choose another name"
            )
            self.declarations.faults.append(Fault(str(path), 1, ("methods", name), message))
            return
        self.providers[name] = provider

    def _break(self, name: str, origin: str, reason: str) -> None:
        self.broken[name] = BrokenPlugin(name, origin, " ".join(reason.split()))

    def _add_undeclared(self, name: str) -> None:
        """Add the method of a provider, unless it is declared in a file, broken or there."""
        if name in self.providers and name not in {*self.declarations.of("method"), *self.entries}:
            target, origin = self.providers[name].target, self.providers[name].origin
            plugin = self._plugin(name, target, Path(), origin)
            if plugin is not None:
                self._add(MethodEntry(name=name, target=target), plugin, origin)

    def _add_declared(self, declared: Declared, provider: Provider | None) -> None:
        """Add a declared method with its target and inherited settings, unless it is broken or faulty."""
        name = declared.name
        entry = self.declarations.validate(declared, MethodEntry, declared.value)
        if entry is None:
            return
        entry = with_absolute_weights(entry, declared.source.folder)
        if provider is not None and (
            entry.extends is not None or entry.target not in (None, provider.target)
        ):
            message = (
                f"method {name!r} is already defined by {provider.origin} ({provider.target}); "
                "choose another name"
            )
            self.declarations.faults.append(declared.fault((), message))
            return
        parent = None
        if entry.extends is not None:
            self._add_undeclared(entry.extends)
            parent = self.entries.get(entry.extends)
            if entry.extends in self.broken:
                reason = f"it extends {entry.extends}: {self.broken[entry.extends].reason}"
                self._break(name, declared.origin, reason)
            if parent is None:
                return
        target = (
            entry.target or (provider.target if provider else None) or (parent.target if parent else None)
        )
        if target is None:
            reason = f"no entry point {name!r} in the group {GROUP}; install the package that provides it"
            self._break(name, declared.origin, reason)
            return
        if entry.target is None and parent is not None:
            plugin: PluginSource | None = self.plugins[parent.name]
        else:
            plugin = self._plugin(name, target, declared.source.folder, declared.origin)
        if plugin is None:
            return
        entry = self._in_option_types(declared, entry, plugin).model_copy(update={"target": target})
        origin = declared.origin if provider is None else f"{provider.origin}; {declared.origin}"
        self._add(entry if parent is None else inherit(entry, parent), plugin, origin)

    def _plugin(self, name: str, target: str, base: Path, origin: str) -> PluginSource | None:
        try:
            return describe(locate(target, base), parse_target(target).class_name)
        except PluginError as error:
            self._break(name, origin, error.message)
            return None

    def _add(self, entry: MethodEntry, plugin: PluginSource, origin: str) -> None:
        self.entries[entry.name], self.plugins[entry.name] = entry, plugin
        self.origins[entry.name] = origin

    def _in_option_types(self, declared: Declared, entry: MethodEntry, plugin: PluginSource) -> MethodEntry:
        """`entry` with its settings checked against the plugin's options, and in their types."""
        if plugin.options is None:
            return entry
        who = entry.title or entry.name
        config = self._typed(declared, ("config",), entry.config, plugin, who)
        datasets = {
            dataset: self._components(declared, entry, dataset)
            | self._typed(declared, ("datasets", dataset), own_options(values), plugin, who)
            for dataset, values in entry.datasets.items()
        }
        return entry.model_copy(update={"config": config, "datasets": datasets})

    def _components(self, declared: Declared, entry: MethodEntry, dataset: str) -> dict[str, Any]:
        """The data set's settings of components, checked together with those of the method."""
        values = entry.datasets[dataset]
        components = {name: values[name] for name in COMPONENTS if name in values}
        for name, settings in components.items():
            inherited: Any = getattr(entry, name)
            own = {} if inherited is None else inherited.model_dump(exclude_none=True)
            for where, message in component_faults(name, combined(own, settings)):
                self.declarations.faults.append(declared.fault(("datasets", dataset, name, *where), message))
        return components

    def _typed(
        self, declared: Declared, path: KeyPath, values: dict[str, Any], plugin: PluginSource, who: str
    ) -> dict[str, Any]:
        options = plugin.options or {}
        typed: dict[str, Any] = {}
        for key, value in values.items():
            try:
                if key in options:
                    typed[key] = options[key].accept(value)
                else:
                    self.declarations.faults.append(
                        declared.fault((*path, key), unknown_key(key, who, options))
                    )
            except ValueError as error:
                self.declarations.faults.append(declared.fault((*path, key), str(error)))
        return typed


def with_absolute_weights(entry: MethodEntry, folder: Path) -> MethodEntry:
    """`entry` with the files of weights that it names relative to `folder`, that of the registry file."""

    def absolute(weights: str) -> str:
        return str(folder / expanded(weights))

    components = {name: getattr(entry, name) for name in (FINE_TUNE, *TEACHERS)}
    changed: dict[str, Any] = {
        name: component.model_copy(update={"weights": absolute(component.weights)})
        for name, component in components.items()
        if component is not None and component.weights is not None
    }
    datasets = {
        dataset: {
            key: {**value, "weights": absolute(value["weights"])}
            if key in components and isinstance(value, dict) and isinstance(value.get("weights"), str)
            else value
            for key, value in values.items()
        }
        for dataset, values in entry.datasets.items()
    }
    return entry.model_copy(update={**changed, "datasets": datasets})


def inherit(child: MethodEntry, parent: MethodEntry) -> MethodEntry:
    """`child` with the keys that it does not set taken from `parent`.

    A key of the child replaces that of the parent; its `config` also replaces the parent's values per data
    set.
    """
    replaced = {*child.config, *(name for name in COMPONENTS if name in child.model_fields_set)}
    datasets = {
        name: {key: value for key, value in values.items() if key not in replaced}
        for name, values in parent.datasets.items()
    }
    for name, values in child.datasets.items():
        datasets[name] = {**datasets.get(name, {}), **values}
    return child.model_copy(
        update={
            "config": {**parent.config, **child.config},
            "datasets": {name: values for name, values in datasets.items() if values},
            **{
                name: getattr(child if name in child.model_fields_set else parent, name)
                for name in COMPONENTS
            },
            "paper": child.paper or parent.paper,
            "official": child.official or parent.official,
            "tags": (*parent.tags, *child.tags),
            "cost": child.cost if "cost" in child.model_fields_set else parent.cost,
        }
    )
