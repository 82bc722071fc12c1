"""Everything a method plugin may import, and nothing else."""

from fairbench.attacks import pgd as attacks
from fairbench.attacks.budget import Budget
from fairbench.attacks.draws import Draws
from fairbench.data.batch import Batch
from fairbench.objectives import classes, losses
from fairbench.objectives.class_weighted import ClassWeighted
from fairbench.objectives.contract import (
    AdversarialObjective,
    Context,
    DataInfo,
    EpochStats,
    ValidationStats,
    method,
)
from fairbench.objectives.features import features
from fairbench.objectives.loss_terms import LossTerms
from fairbench.objectives.needs import Needs
from fairbench.objectives.state import per_class, per_class_pair, per_example
from fairbench.objectives.trades import convex_weights, trades_terms
from fairbench.objectives.validation import robust_validation

__all__ = [
    "AdversarialObjective",
    "Batch",
    "Budget",
    "ClassWeighted",
    "Context",
    "DataInfo",
    "Draws",
    "EpochStats",
    "LossTerms",
    "Needs",
    "ValidationStats",
    "attacks",
    "classes",
    "convex_weights",
    "features",
    "losses",
    "method",
    "per_class",
    "per_class_pair",
    "per_example",
    "robust_validation",
    "trades_terms",
]
