"""A plan in words: a line per cell, and the sums that `plan`, `run` and `retry` print."""

from typing import Any

from fairbench.cli.output import columns, counted, duration, echo, print_json, size
from fairbench.planning.cost import Estimate
from fairbench.planning.plan import Plan
from fairbench.planning.planner import LONG
from fairbench.planning.status import CellStatus
from fairbench.records.cell import Cell

PROTOCOL = "protocol."  # begins the overrides that change the protocol
HEADER = ("method", "data set", "model", "protocol", "seed", "state", "time", "")


def show_plan(plan: Plan, device: str, as_json: bool) -> None:
    """Print the cells with state, time and disk space. Raises ConfigError for a cell that cannot be trained.

    torch is loaded only for settings that nothing but the code of a method or network can check.
    """
    if plan.doubtful:
        from fairbench.runner.cell_checks import check_cells

        check_cells(plan.doubtful, device)
    if as_json:
        print_json([plan_row(plan, item) for item in plan.planned])
        return
    for text in (*advice(plan), *(f"note: {note}" for note in plan.notes)):
        echo(text)
    echo(columns([line(plan, item) for item in plan.planned], HEADER) + "\n")
    for text in (*sums(plan), *ending(plan)):
        echo(text)


def advice(plan: Plan) -> list[str]:
    """For a long plan: what it costs here, and what to type instead."""
    if plan.seconds <= LONG:
        return []
    parts = [f"this plan takes about {duration(plan.seconds)} on this machine ({plan.device})"]
    if plan.shorter is not None:
        parts.append(f"quicker: {plan.shorter.options} (about {duration(plan.shorter.seconds)})")
    parts.append("on a cluster: fairbench run --executor slurm --profile FILE (docs/clusters.md)")
    return ["; ".join(parts)]


def ending(plan: Plan) -> list[str]:
    """What is printed again at the end: data sets that are skipped, and those that have to be prepared."""
    lines = [f"skipped, see above: {', '.join(plan.skipped)}"] if plan.skipped else []
    names, are = ", ".join(plan.missing_data), "is" if len(plan.missing_data) == 1 else "are"
    return lines + ([f"{names} {are} not prepared: {plan.prepare}"] if plan.missing_data else [])


def line(plan: Plan, item: CellStatus) -> tuple[str, ...]:
    """A cell in the columns of HEADER."""
    cell = item.cell
    time = "" if item.status.finished else time_of(plan.costs[cell.id])
    reason = "left out: over the budget" if cell.id in plan.left_out else item.reason
    method = with_changes(cell.method, cell, protocol=False)
    protocol = with_changes(cell.protocol, cell, protocol=True)
    return (method, cell.dataset, cell.model, protocol, str(cell.seed), item.state, time, reason)


def with_changes(name: str, cell: Cell, *, protocol: bool) -> str:
    """The name of a cell's method or protocol with the settings of it that the user changed."""
    changed = ", ".join(
        f"{key.removeprefix(PROTOCOL)}={value}"
        for key, value in cell.overrides.items()
        if key.startswith(PROTOCOL) == protocol
    )
    return f"{name} ({changed})" if changed else name


def time_of(cost: Estimate) -> str:
    """A cell's time: ~ in front when it is estimated from other cells, ? when it is a guess."""
    return ("" if cost.measured else "~" if cost.scaled else "?") + duration(cost.seconds)


def sums(plan: Plan) -> list[str]:
    """How many cells are in which state, the time of all, what the budget leaves out, and the disk space."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(plan.states.items()))
    lines = [f"{counted(len(plan.planned), 'cell')}: {states}; {total(plan)}"]
    if plan.budget is not None:
        count = len(plan.to_do)
        lines.append(f"budget {duration(plan.budget)}: {count} of {count + len(plan.left_out)} cells fit")
        left = ", ".join(f"{count} x {method}" for method, count in plan.left_methods.items())
        lines += [f"left out: {left}"] if left else []
    if plan.to_do:
        need, free = plan.disk_bytes, plan.free_bytes
        lines.append(f"disk: about {size(need)} needed, {size(free)} free")
        if need > free:
            lines.append("warning: the disk is too small; see: fairbench clean, or choose --results DIR")
    return lines


def total(plan: Plan) -> str:
    """The time of all that is to be done."""
    if not plan.to_do:
        return "nothing to do"
    devices = "one device" if plan.devices == 1 else f"{plan.devices} devices"
    guess = " (a guess: no such cell has run on this kind of device)" if plan.guessed else ""
    return f"about {duration(plan.seconds)} on {devices}{guess}"


def plan_row(plan: Plan, item: CellStatus) -> dict[str, Any]:
    """What `plan --json` prints of a cell."""
    cost = plan.costs[item.cell.id]
    return {
        **status_row(item),
        "estimated_seconds": round(cost.seconds, 1),
        "measured": cost.measured,
        "estimated_bytes": round(cost.kept_bytes),
        "in_budget": item.cell.id not in plan.left_out,
    }


def status_row(item: CellStatus) -> dict[str, Any]:
    """What `run --json` prints of a cell."""
    cell = item.cell
    return {
        "id": cell.id,
        "folder": str(item.folder),
        **cell.setting,
        "overrides": cell.overrides,
        "state": item.state,
        "reason": item.reason,
    }
