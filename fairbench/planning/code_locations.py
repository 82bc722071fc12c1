"""Where the code of a cell is: as the user's own registry gives it, and nowhere else.

A run folder may come from another person. The paths of code in its cell.json are never used:
names are looked up in the registry, and the identity shows whether that is the code of the plan.
"""

from dataclasses import replace

from fairbench.core.errors import ConfigError, PluginError
from fairbench.planning.resolve import import_target, model_identity
from fairbench.records.cell import Cell
from fairbench.registry import Registry
from fairbench.registry.trained_weights import TEACHERS, ZOO

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
    _check_file_teachers(cell, registry)
    start = None if cell.start is None else located(cell.start, registry)
    teachers = {name: located(teacher, registry) for name, teacher in cell.teachers.items()}
    return replace(cell, locations=locations, start=start, teachers=teachers)


def with_network(cell: Cell, registry: Registry) -> Cell:
    """The cell with the place of its network's code alone. Raises PluginError as `located` does."""
    target = _checked_target(cell, cell.model, cell.identity.get("model"), registry)
    return replace(cell, locations={**cell.locations, "model": target})


def _check_file_teachers(cell: Cell, registry: Registry) -> None:
    """Raise PluginError unless the registry has the networks of teachers whose weights are in files."""
    identities = cell.identity.get("teachers") or {}
    for name in TEACHERS:
        teacher = getattr(cell.components, name)
        if teacher is not None and teacher.weights is not None:
            model = teacher.model or cell.model
            if not model.startswith(ZOO):
                _checked_target(cell, model, (identities.get(name) or {}).get("model"), registry)


def _checked_target(cell: Cell, model: str, identity: object, registry: Registry) -> str:
    """Where the code of a network is. Raises PluginError unless it is what the cell was planned with."""
    if not registry.has_model(model):
        raise PluginError(f"{cell.slot}: this registry has no model {model!r}.", hint=NAME_ITS_FILE)
    target: str = registry.get("model", model).target
    try:
        same = {"name": model, **model_identity(target)} == identity
    except ConfigError as error:
        raise PluginError(error.message, hint=error.hint) from error
    if not same:
        raise PluginError(
            f"{cell.slot}: the code of the model {model!r} ({target}) is not what it was planned with.",
            hint="undo the change, or run again; or " + NAME_ITS_FILE,
        )
    return target
