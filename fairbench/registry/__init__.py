"""Methods, data sets, models, attacks, protocols and suites: read from files, checked, and found by name.

    registry = load_registry([Path("registry.yaml"), Path("mymethod.py")])
    registry.get("protocol", "trix-150").with_epochs(30)
    registry.method_config("trix", "cifar100")

Without torch.
"""

from fairbench.registry.attacks import A3Attack, AttackEntry, AutoAttack, PgdAttack, read_attack
from fairbench.registry.load import load_registry
from fairbench.registry.plugin import PluginSource, describe, locate
from fairbench.registry.protocol import Protocol
from fairbench.registry.registry import Registry
from fairbench.registry.schema import DatasetEntry, MethodEntry, ModelEntry
from fairbench.registry.source import read_scalar

__all__ = [
    "A3Attack",
    "AttackEntry",
    "AutoAttack",
    "DatasetEntry",
    "MethodEntry",
    "ModelEntry",
    "PgdAttack",
    "PluginSource",
    "Protocol",
    "Registry",
    "describe",
    "load_registry",
    "locate",
    "read_attack",
    "read_scalar",
]
