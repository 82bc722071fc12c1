"""What a number obtained by an attack may be called, decided by the attack's settings and never by its name.

Every attack gives an upper bound on robust accuracy. Only the unabridged procedure in float32 may be called
AutoAttack; everything else is a valid bound under a name of its own.
"""

import math
import re
from collections.abc import Mapping
from fractions import Fraction
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


def same_attack(described: str, name: str, settings: Mapping[str, Any]) -> bool:
    """Whether an attack of a paper, such as "pgd-20" or "pgd-100 8/255 step 2/255", has these settings.

    "autoattack", "a3", "pgd-N" and "cw-N" (PGD on the margin loss) are compared by their settings, never by
    their name: norm, radius, and for the last two steps and step size. Without a radius they have that of the
    programs of the papers: 8/255 for ensembles; 0.031 with steps of 0.003 for PGD, as DAFA and TRIX do. "l2"
    and "targeted" may follow. Any other text is the `name` of an attack in the registry.
    """
    known = _DESCRIBED.fullmatch(described.strip().lower())
    if known is None:
        return described.strip() == name
    kind, norm = known["kind"] or "pgd", "l2" if known["l2"] else "linf"
    radius = _number(known["eps"]) or (0.5 if norm == "l2" else 0.031 if known["loss"] else 8 / 255)
    if settings.get("norm", "linf") != norm or not _near(settings.get("eps"), radius):
        return False
    if kind != "pgd":
        return is_autoattack(settings) if kind == "autoattack" else settings.get("kind") == kind
    loss = {"pgd": "ce", "cw": "margin"}[known["loss"]]
    step = _number(known["step"]) or (0.003 if (loss, norm, known["eps"]) == ("ce", "linf", None) else None)
    return (
        settings.get("kind") == "pgd"
        and settings.get("loss", "ce") == loss
        and bool(settings.get("target")) == bool(known["targeted"])
        and settings.get("num_steps") == int(known["steps"])
        and (step is None or _near(settings.get("step_size"), step))
    )


_NUMBER = r"\d+(?:\.\d+)?(?:/\d+)?"
_DESCRIBED = re.compile(
    rf"(?:(?P<kind>autoattack|a3)|(?P<loss>pgd|cw)-(?P<steps>\d+))(?P<l2> l2)?(?: (?P<eps>{_NUMBER}))?"
    rf"(?: step (?P<step>{_NUMBER}))?(?P<targeted> targeted)?"
)


def _number(text: str | None) -> float | None:
    return None if text is None else float(Fraction(text))


def _near(value: object, expected: float) -> bool:
    return isinstance(value, int | float) and math.isclose(float(value), expected, rel_tol=1e-6)
