"""Load the class of a method from its registry target."""

import inspect

from fairbench.core.errors import ContractError, PluginError
from fairbench.core.imports import load_object
from fairbench.objectives.contract import AdversarialObjective


def load_plugin(target: str, name: str) -> type[AdversarialObjective]:
    """The class of `module:Class` or `file.py:Class`. Raises PluginError when it cannot be loaded."""
    try:
        plugin = load_object(target)
    except (Exception, SystemExit) as error:  # a plugin's import may raise anything
        raise PluginError(
            f"method {name!r} ({target}) cannot be loaded: {type(error).__name__}: {error}."
        ) from error
    if not (inspect.isclass(plugin) and issubclass(plugin, AdversarialObjective) and "name" in vars(plugin)):
        raise ContractError(
            f"method {name!r} ({target}) is not a method.",
            hint="subclass fairbench.api.AdversarialObjective and decorate the class with @method(NAME)",
        )
    return plugin
