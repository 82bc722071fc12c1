"""From a selection to a plan on this machine: what is skipped, and what is quicker when a plan is long."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fairbench.core.errors import FairbenchError
from fairbench.planning.plan import Plan, Shorter, make_plan
from fairbench.planning.prepared import prepared_only, skipped_note
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.registry import Registry

LONG = 12 * 3600.0  # a plan longer than this many seconds names quicker choices
QUICKER: dict[bool, dict[str, Any]] = {  # by whether the device is a CPU
    True: {"protocol": "cpu-subset", "models": ("cnn-small",)},
    False: {"protocol": "budget-30"},
}


def plan_selection(selection: Selection, registry: Registry, results: Path, root: Path, **price: Any) -> Plan:
    """The plan of a selection; `price` are the device, the number of devices and the budget of `make_plan`.

    Data sets that `all` or a pattern chose and that are not prepared are skipped. Raises the errors of
    `resolve` and of `prepared_only`.
    """
    selection, skipped = prepared_only(selection, registry, root)
    cells, notes = resolve(selection, registry, root)
    if skipped:
        notes.insert(0, skipped_note(skipped, registry, root))
    if len(selection.seeds) == 1:
        notes.append(f"seed {selection.seeds[0]} alone gives no interval; --seeds 0..4 is five seeds")
    plan = make_plan(cells, registry, results, root, notes=notes, **price)
    shorter = _shorter(plan, selection, registry, root, **price) if plan.seconds > LONG else None
    return replace(plan, skipped=skipped, shorter=shorter)


def _shorter(
    plan: Plan, selection: Selection, registry: Registry, root: Path, **price: Any
) -> Shorter | None:
    """What to type for a quicker plan of the same methods and data sets; None when it is not much quicker."""
    changes = QUICKER[plan.device == "cpu"]
    seconds = plan.seconds
    with suppress(FairbenchError):  # of a selection that does not go with these options
        cells, _ = resolve(replace(selection, **changes), registry, root)
        seconds = make_plan(cells, registry, plan.results, root, **price).seconds
    if not 0 < seconds < plan.seconds / 2:
        return None
    return Shorter(" ".join(f"--{name} {_text(value)}" for name, value in changes.items()), seconds)


def _text(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ",".join(value)
