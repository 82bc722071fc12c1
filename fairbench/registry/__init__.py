"""Methods, data sets, models, attacks, protocols and suites: read from files, checked, and found by name.

    registry = load_registry([Path("registry.yaml"), Path("mymethod.py")])
    registry.get("protocol", "trix-150").with_epochs(30)
    registry.method_config("trix", "cifar100")

Without torch. Each name is imported when it is first used, so that `import fairbench.registry` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairbench.registry.attacks import A3Attack, AttackEntry, AutoAttack, PgdAttack, read_attack
    from fairbench.registry.faults import Fault
    from fairbench.registry.load import load_registry
    from fairbench.registry.options import REQUIRED, Option
    from fairbench.registry.plugin import PluginSource, describe, locate
    from fairbench.registry.protocol import AnyProtocol, PerMethodProtocol, Protocol
    from fairbench.registry.registry import BrokenPlugin, Registry
    from fairbench.registry.schema import DatasetEntry, MethodEntry, ModelEntry, SuiteEntry
    from fairbench.registry.source import read_scalar

_HOMES = {
    "attacks": ("A3Attack", "AttackEntry", "AutoAttack", "PgdAttack", "read_attack"),
    "faults": ("Fault",),
    "load": ("load_registry",),
    "options": ("REQUIRED", "Option"),
    "plugin": ("PluginSource", "describe", "locate"),
    "protocol": ("AnyProtocol", "PerMethodProtocol", "Protocol"),
    "registry": ("BrokenPlugin", "Registry"),
    "schema": ("DatasetEntry", "MethodEntry", "ModelEntry", "SuiteEntry"),
    "source": ("read_scalar",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "REQUIRED",
    "A3Attack",
    "AnyProtocol",
    "AttackEntry",
    "AutoAttack",
    "BrokenPlugin",
    "DatasetEntry",
    "Fault",
    "MethodEntry",
    "ModelEntry",
    "Option",
    "PerMethodProtocol",
    "PgdAttack",
    "PluginSource",
    "Protocol",
    "Registry",
    "SuiteEntry",
    "describe",
    "load_registry",
    "locate",
    "read_attack",
    "read_scalar",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
