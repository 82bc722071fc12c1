"""From the target of a registry entry to the class of a method."""

import inspect

from fairbench.core.errors import ContractError, PluginError
from fairbench.core.imports import load_object
from fairbench.objectives.contract import AdversarialObjective


def load_plugin(target: str, name: str) -> type[AdversarialObjective]:
    """Import `module:Class` or `file.py:Class`. Raises PluginError with the reason when that fails."""
    try:
        found = load_object(target)
    except (Exception, SystemExit) as error:  # a plugin's import may raise anything
        raise PluginError(
            f"method {name!r} ({target}) cannot be loaded: {type(error).__name__}: {error}."
        ) from error
    if not (inspect.isclass(found) and issubclass(found, AdversarialObjective) and "name" in vars(found)):
        raise ContractError(
            f"method {name!r} ({target}) is not a method.",
            hint="subclass fairbench.api.AdversarialObjective and decorate the class with @method(NAME)",
        )
    return found
