"""The protocol of a cell: the registry's, with the length and the options that a user set."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fairbench.core.errors import ConfigError
from fairbench.registry import Protocol, Registry
from fairbench.registry.faults import explain


def resolve_protocol(registry: Registry, method: str, name: str, overrides: Mapping[str, Any]) -> Protocol:
    """The protocol of a method under `name`, with the user's overrides by dotted option name.

    Raises ConfigError when an override does not fit.
    """
    registry.get("protocol", name, asked_by=f"--protocol {name}")
    chosen = registry.protocol_for(name, method)
    changed = dict(overrides)
    epochs = changed.pop("epochs", chosen.epochs)
    if isinstance(epochs, bool) or not isinstance(epochs, int):
        raise ConfigError(f"protocol.epochs: expected a whole number, got {epochs!r}.")
    chosen = chosen.with_epochs(epochs)
    if changed:  # in the epochs of this run: what a user sets by hand is not scaled
        data = chosen.model_dump()
        for path, value in changed.items():
            set_path(data, path, value)
        try:
            valid = Protocol.model_validate(data)
        except ValidationError as error:
            lines = [
                f"protocol.{'.'.join(map(str, path))}: {message}"
                for path, message in explain(error, Protocol, name)
            ]
            raise ConfigError("\n".join(lines), hint="set with: --set protocol.OPTION=VALUE") from error
        chosen = chosen.model_copy(update={name: getattr(valid, name) for name in Protocol.model_fields})
    return chosen


def set_path(data: dict[str, Any], path: str, value: Any) -> None:
    """Set the option at a dotted path of nested mappings, creating what is None on the way."""
    *parents, last = path.split(".")
    for key in parents:
        inner = data.get(key)
        if inner is None and key in data:
            inner = data[key] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"protocol.{path}: a protocol has no option {key!r} with options inside.")
        data = inner
    data[last] = value


def scaled_epochs(config: dict[str, Any], share: float) -> dict[str, Any]:
    """A method's or a component's options, with their epochs times `share`, the length of the run.

    Options whose name ends in `_epochs` or `_epoch` are given for the protocol's published length
    (DAFA's warm-up: 70 of 150); a shorter run scales them like the milestones of the learning rate.
    What a user sets by hand is taken as it is.
    """
    if share == 1:
        return config

    def scaled(name: str, value: Any) -> Any:
        if name == "milestones":
            return {max(1, round(int(epoch) * share)): factor for epoch, factor in value.items()}
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        if name.endswith("_epochs") or name == "epochs":  # a duration
            return max(1, round(value * share))
        if name.endswith("_epoch"):  # a position, counted from 1: the first epoch stays the first
            return 1 + round((value - 1) * share)
        return value

    return {name: scaled(name, value) for name, value in config.items()}
