"""The validated registry: entries by name, plugins by method, and settings by method and data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairbench.core.errors import ConfigError, PluginError, UnknownNameError, suggest
from fairbench.registry.attacks import REFERENCE, AttackEntry, AutoAttack
from fairbench.registry.components import COMPONENTS, check_path, is_component, own_options
from fairbench.registry.options import REQUIRED
from fairbench.registry.plugin import PluginSource
from fairbench.registry.protocol import AnyProtocol, Protocol
from fairbench.registry.schema import DatasetEntry, MethodEntry, ModelEntry, SuiteEntry, timm_entry
from fairbench.registry.source import read_scalar
from fairbench.registry.trained_weights import combined

COMPONENT_TAGS = {
    "hold_out": "hold-out",
    "augment": "augmentation",
    "averaging": "averaging",
    "awp": "awp",
    "fine_tune": "fine-tuning",
    "teacher": "teacher",
    "natural_teacher": "teacher",
}


@dataclass(frozen=True)
class BrokenPlugin:
    """A method that cannot be used: where it is declared, and the reason in one line."""

    name: str
    origin: str
    reason: str


@dataclass(frozen=True)
class Registry:
    """All entries by name. Made by `load_registry`, which validates them."""

    methods: Mapping[str, MethodEntry] = field(default_factory=dict)
    datasets: Mapping[str, DatasetEntry] = field(default_factory=dict)
    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    attacks: Mapping[str, AttackEntry] = field(default_factory=dict)
    protocols: Mapping[str, AnyProtocol] = field(default_factory=dict)
    suites: Mapping[str, SuiteEntry] = field(default_factory=dict)
    plugins: Mapping[str, PluginSource] = field(default_factory=dict)  # by method
    broken: tuple[BrokenPlugin, ...] = ()
    origins: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (kind, name) -> where declared
    files: tuple[Path, ...] = ()  # besides the built-in registry.yaml

    def names(self, kind: str) -> list[str]:
        """Names of the usable entries of a kind ("method", "dataset", ...), in the order of declaration."""
        return list(self._entries(kind))

    def get(self, kind: str, name: str, asked_by: str = "") -> Any:
        """The entry `name` of a kind ("method", "dataset", ...).

        NAME:reference is the AutoAttack entry NAME, computed by the reference package; the model timm:NAME
        is a network of the package timm. Raises UnknownNameError, or PluginError for a method whose plugin is
        broken.
        """
        entries = self._entries(kind)
        if name in entries:
            return entries[name]
        if kind == "method":
            for plugin in self.broken:
                if plugin.name == name:
                    raise PluginError(
                        f"method {name!r} cannot be used: {plugin.reason}.",
                        hint=f"declared in: {plugin.origin}",
                    )
        if kind == "attack" and name.endswith(REFERENCE):
            own = entries.get(name.removesuffix(REFERENCE))
            if isinstance(own, AutoAttack):
                return own.model_copy(update={"name": name, "engine": "reference", "precision": "float32"})
        if kind == "model" and (network := timm_entry(name)):
            return network
        raise UnknownNameError(kind, name, entries, asked_by=asked_by)

    def has_model(self, name: str) -> bool:
        """Whether `get` has an entry for this network."""
        return name in self.models or timm_entry(name) is not None

    def plugin(self, name: str) -> PluginSource:
        """The facts in the source of method `name`. Raises as `get` does."""
        self.get("method", name)
        return self.plugins[name]

    def tags(self, kind: str, name: str) -> tuple[str, ...]:
        """The words that `tag:WORD` chooses an entry by: declared ones, and those of its settings."""
        entry = self.get(kind, name)
        tags = list(getattr(entry, "tags", ()))
        if kind == "method":
            tags = [*self.plugin(name).tags, *tags]
            tags += [COMPONENT_TAGS[component] for component in self.method_components(name)]
        elif kind == "dataset":
            tags.append("grey" if entry.image_shape[0] == 1 else "colour")
        elif kind == "attack":
            tags += [entry.kind, entry.norm, *(["targeted"] if getattr(entry, "target", None) else [])]
        return tuple(dict.fromkeys(tags))

    def readable_plugin(self, name: str) -> PluginSource:
        """`plugin(name)`. Raises PluginError also when its options cannot be read without running code."""
        plugin = self.plugin(name)
        if plugin.options is None:
            raise PluginError(
                f"method {name!r}: its Config cannot be read without running {plugin.path.name}.",
                hint="write its options as plain fields with literal defaults in the class's own Config",
            )
        return plugin

    def protocol_for(self, protocol: str, method: str) -> Protocol:
        """The protocol that trains `method`: `protocol`, or for `official` the method's own."""
        chosen: AnyProtocol = self.get("protocol", protocol)
        if isinstance(chosen, Protocol):
            return chosen
        entry: MethodEntry = self.get("method", method)
        if entry.official is None or entry.official.protocol is None:
            raise ConfigError(
                f"method {method!r} has no official protocol, so it cannot be trained under {protocol!r}.",
                hint=f"choose one with --protocol, or write methods.{method}.official.protocol",
            )
        own: Protocol = self.get("protocol", entry.official.protocol)
        return own

    def method_config(self, name: str, dataset: str | None = None) -> dict[str, Any]:
        """All options of method `name` on `dataset`.

        Values for the data set replace the `config` of the entry, which replaces the defaults of the plugin.
        Defaults that cannot be read without running the plugin are missing.
        """
        entry: MethodEntry = self.get("method", name)
        options = self.plugins[name].options or {}
        defaults = {
            option.name: option.default for option in options.values() if option.default is not REQUIRED
        }
        return {**defaults, **entry.config, **own_options(entry.datasets.get(dataset or "", {}))}

    def method_components(self, name: str, dataset: str | None = None) -> dict[str, dict[str, Any]]:
        """Settings of the components (hold_out, averaging, ...) that method `name` uses on `dataset`."""
        entry: MethodEntry = self.get("method", name)
        special = entry.datasets.get(dataset or "", {})
        components = {}
        for component in COMPONENTS:
            own = getattr(entry, component)
            if own is not None or component in special:
                values = {} if own is None else own.model_dump(mode="json", exclude_none=True)
                components[component] = combined(values, special.get(component, {}))
        return components

    def check_override(self, name: str, field: str, value: Any) -> Any:
        """`value` for option `field` of method `name`, in the type of the option; text is read as in YAML.

        For `--set methods.NAME.FIELD=VALUE`. FIELD may also name a component, "averaging", or an option of
        it, "averaging.decay". Raises ConfigError that names the option, or those accepted.
        """
        if is_component(field):
            check_path(f"methods.{name}", field)
            return read_scalar(value) if isinstance(value, str) else value
        options = self.plugin(name).options
        if options is None:
            return read_scalar(value) if isinstance(value, str) else value
        if field not in options:
            close = suggest(field, options)
            raise ConfigError(
                f"method {name!r} has no option {field!r}.",
                hint=f"it accepts: {', '.join(options) or 'none'}; and the components {', '.join(COMPONENTS)}"
                + (f"\ndid you mean: {close}" if close else ""),
            )
        fault: ValueError | None = None
        for candidate in (value, read_scalar(value)) if isinstance(value, str) else (value,):
            try:
                return options[field].accept(candidate)
            except ValueError as error:
                fault = error
        raise ConfigError(f"methods.{name}.{field}: {fault}.") from fault

    def _entries(self, kind: str) -> Mapping[str, Any]:
        entries: Mapping[str, Any] = getattr(self, f"{kind}s")
        return entries
