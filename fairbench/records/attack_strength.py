"""What a number obtained by an attack may be called, decided by the attack's settings and never by its name.

Every attack gives an upper bound on robust accuracy. Only the unabridged procedure in float32 may be called
AutoAttack; everything else is a valid bound under a name of its own.
"""

import math
from collections.abc import Mapping
from typing import Any

STANDARD = {"attacks": "standard", "num_steps": 100, "num_targets": 9, "num_queries": 5000}


def is_autoattack(settings: Mapping[str, Any]) -> bool:
    """Whether these settings of an evaluation are AutoAttack standard, computed exactly."""
    unabridged = all(settings.get(name) == value for name, value in STANDARD.items())
    return settings.get("kind") == "autoattack" and unabridged and settings.get("precision") == "float32"


def describe_strength(settings: Mapping[str, Any]) -> str:
    """One sentence for a caption: AutoAttack standard (exact), or a valid upper bound and of what kind."""
    kind, reduced = settings.get("kind"), settings.get("precision", "float32") != "float32"
    if is_autoattack(settings):
        engine = "the reference package" if settings.get("engine") == "reference" else "exact"
        return f"AutoAttack standard ({engine})."
    searched = f" searched in {settings['precision']} and verified in float32," if reduced else ""
    if kind == "autoattack":
        changed = [name for name, value in STANDARD.items() if settings.get(name) != value]
        with_ = f" with other {', '.join(changed)}," if changed and "attacks" not in changed else ""
        what = "parts of AutoAttack," if "attacks" in changed else "AutoAttack's parts,"
        return f"Robust accuracy is a valid upper bound by {what}{with_}{searched} not AutoAttack standard."
    name = {"a3": "A3", "pgd": "PGD"}.get(str(kind), "this attack")
    return f"Robust accuracy is a valid upper bound by {name} alone,{searched} not AutoAttack."


def bound(settings: Mapping[str, Any]) -> str:
    """The same in a few words, for a caption of three lines; "" for AutoAttack standard."""
    if is_autoattack(settings):
        return ""
    name = {"a3": "A3", "pgd": "PGD", "autoattack": "parts of AutoAttack"}.get(
        str(settings.get("kind")), "it"
    )
    precision = str(settings.get("precision", "float32"))
    searched = "" if precision == "float32" else f" in {precision}"
    end = "not AutoAttack standard" if name == "parts of AutoAttack" else "not AutoAttack"
    return f"Upper bound by {name}{searched}, {end}."


def published_as(settings: Mapping[str, Any]) -> str:
    """The attack of papers' tables that these settings are, "autoattack" or "pgd-20"; "" for any other.

    AutoAttack standard in Linf at 8/255; PGD with 20 steps of 0.003 at 0.031, as DAFA's and TRIX's programs.
    """

    def near(name: str, value: float) -> bool:
        return math.isclose(float(settings.get(name) or 0.0), value, rel_tol=1e-6)

    if settings.get("norm", "linf") != "linf":
        return ""
    if is_autoattack(settings):
        return "autoattack" if near("eps", 8 / 255) else ""
    plain = settings.get("loss", "ce") == "ce" and not settings.get("target")
    steps = settings.get("num_steps") == 20 and near("step_size", 0.003) and near("eps", 0.031)
    return "pgd-20" if settings.get("kind") == "pgd" and plain and steps else ""
