"""Where the code of a cell is: where the user's own registry says, and nowhere else.

A run folder may come from anybody. What its cell.json says of files with code is never followed; names are
looked up in the registry, and the identity tells whether that is the code that the cell was planned with.
"""

from dataclasses import replace

from fairbench.core.errors import ConfigError, PluginError
from fairbench.planning.resolve import import_target, model_identity
from fairbench.records.cell import Cell
from fairbench.registry import Registry

NAME_ITS_FILE = "name the file that registers it: --registry FILE, or $FAIRBENCH_REGISTRY"


def located(cell: Cell, registry: Registry) -> Cell:
    """The cell with the places of its code on this machine.

    Raises PluginError when the registry does not have its method or network, or another network of that name.
    """
    locations = dict(with_network(cell, registry).locations)
    if cell.method not in registry.methods:
        raise PluginError(
            f"{cell.slot}: this registry has no method {cell.method!r}.",
            hint=NAME_ITS_FILE,
        )
    plugin = registry.readable_plugin(cell.method)
    locations["plugin"] = str(plugin.path)
    locations["target"] = import_target(registry.get("method", cell.method), plugin)
    start = None if cell.start is None else located(cell.start, registry)
    return replace(cell, locations=locations, start=start)


def with_network(cell: Cell, registry: Registry) -> Cell:
    """The cell with the place of its network's code alone. Raises PluginError as `located` does."""
    if cell.model not in registry.models:
        raise PluginError(f"{cell.slot}: this registry has no model {cell.model!r}.", hint=NAME_ITS_FILE)
    target = registry.get("model", cell.model).target
    try:
        same = {"name": cell.model, **model_identity(target)} == cell.identity.get("model")
    except ConfigError as error:
        raise PluginError(error.message, hint=error.hint) from error
    if not same:
        raise PluginError(
            f"{cell.slot}: the code of the model {cell.model!r} ({target}) is not what it was planned with.",
            hint="undo the change, or run again; or " + NAME_ITS_FILE,
        )
    return replace(cell, locations={**cell.locations, "model": target})
