"""The components of a method's training, with every option written out, and the files of weights in them."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairbench.core.errors import ConfigError
from fairbench.core.home import expanded
from fairbench.core.identity import digest_bytes
from fairbench.planning.protocols import scaled_epochs
from fairbench.registry import Protocol, Registry
from fairbench.registry.components import (
    Augment,
    HoldOut,
    component_of,
    is_component,
    is_off,
    mixed_labels_error,
    resolve_components,
)
from fairbench.registry.fields import identity_settings
from fairbench.registry.trained_weights import FINE_TUNE, TEACHERS


def method_components(
    registry: Registry, method: str, dataset: str, protocol: Protocol, overrides: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The components of a method, those that it needs included, in the length of its training.

    `overrides` are the user's settings by option path. Raises ConfigError for settings that cannot be.
    """
    who, published = f"methods.{method}", registry.method_components(method, dataset)
    changes = {path: value for path, value in overrides.items() if is_component(path)}

    def resolved(share: float) -> dict[str, dict[str, Any]]:
        return resolve_components(published, changes, who, lambda settings: scaled_epochs(settings, share))

    components = resolved(protocol.epochs / protocol.published_epochs)
    if FINE_TUNE in components:  # averages and perturbations begin in proportion to the tuning
        tuned = resolved(components[FINE_TUNE]["epochs"] / protocol.published_epochs)
        components = {**tuned, FINE_TUNE: components[FINE_TUNE]}
    needs = registry.plugin(method).needs
    measured = "validation" in needs and needs.get("validation_on", "") != "training"
    averaging = components.get("averaging", {})
    if (measured or averaging.get("kind") == "fawa") and "hold_out" not in components:
        if is_off("hold_out", changes.get("hold_out", 0.06)):
            needing = method if measured else "fawa"
            raise ConfigError(
                f"{who}.hold_out: {needing} measures held-out images, so some have to be held out.",
                hint=f"choose their share: --set {who}.hold_out=0.02",
            )
        components["hold_out"] = identity_settings(HoldOut())
    if "augment" in components:
        config = {**registry.method_config(method, dataset), **overrides}
        augment = Augment.model_validate(components.pop("augment"))
        _check_labels(method, augment, needs.get("one_label", ""), config)
        images = registry.get("dataset", dataset)
        augment = augment.fitted(images.reader, images.image_shape)
        if not augment.neutral:
            components["augment"] = identity_settings(augment, exclude_none=True)
    _check_teachers(method, needs, components, {component_of(path) for path in changes})
    return components


def _check_labels(method: str, augment: Augment, need: str, config: Mapping[str, Any]) -> None:
    """Raise ConfigError when the method cannot be trained with the augmentation.

    A need that depends on several options is checked when the run starts.
    """
    if augment.mixes and (need == "yes" or config.get(need.removeprefix("as option ")) is True):
        raise mixed_labels_error(method, augment.kind)


def _check_teachers(
    method: str, needs: Mapping[str, str], components: dict[str, dict[str, Any]], changed: set[str]
) -> None:
    """Take teachers out of `components` that the method does not ask.

    Raises ConfigError for one that the user has `changed`, and for one that the method needs and that is
    missing.
    """
    asked, always = teachers_of(needs)
    for name in TEACHERS:
        if name in asked and always and name not in components:
            raise missing_teacher(method, name)
        if name not in asked and name in components:
            del components[name]
            if name in changed:
                raise ConfigError(
                    f"methods.{method}.{name}: {method} learns from no such network.",
                    hint="see which methods do: fairbench list methods --verbose",
                )


def teachers_of(needs: Mapping[str, str]) -> tuple[tuple[str, ...], bool]:
    """The teachers that a method may ask, and whether it always does, by its needs as its source has them."""
    words = re.findall(r"\w+", needs.get("teachers", ""))
    return tuple(name for name in TEACHERS if name in words), set(words) <= set(TEACHERS)


def missing_teacher(method: str, name: str) -> ConfigError:
    """The error for a method that needs a teacher when none is given."""
    return ConfigError(
        f"method {method!r} learns from a trained network ({name}), and none is given.",
        hint=f"name a method that trains it: --set methods.{method}.{name}=trades\n"
        f"or a file with its weights: --set methods.{method}.{name}.weights=FILE",
    )


def take_files(method: str, components: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The files of weights by component; in `components` their digests take the place of their names.

    Raises ConfigError for a file that cannot be read.
    """
    files = {}
    for name in (FINE_TUNE, *TEACHERS):
        if "weights" in components.get(name, {}):
            owner = f"methods.{method}.{name}.weights"
            path = expanded(components[name]["weights"]).absolute()
            try:
                about = path.stat()
                content = _digest(path, about.st_size, about.st_mtime_ns)
            except OSError as error:
                raise ConfigError(
                    f"{owner}: cannot read the weights {path}: {error.strerror or error}.",
                    hint=f"give a file: --set {owner}=FILE",
                ) from error
            files[name] = str(path)
            components[name] = {**components[name], "weights": content}
    return files


@functools.lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:
    """The digest of a file's content; read again only when its size or time has changed."""
    return digest_bytes(path.read_bytes())
