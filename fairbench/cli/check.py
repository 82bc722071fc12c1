"""`fairbench check`: hold a method against the laws of the contract."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairbench.cli.options import json_option, open_registry, registry_option
from fairbench.cli.output import print_json

if TYPE_CHECKING:
    from fairbench.testing import Outcome, Trial


@click.command("check", epilog="Example: fairbench check mymethod.py")
@click.argument("method", metavar="NAME|FILE.py|all")
@registry_option
@json_option
def check_command(method: str, registry_files: tuple[Path, ...], as_json: bool) -> None:
    """Hold a method, or all of them, against the laws of the contract, on toy images and the CPU.

    One line per law: ok, FAILED with what to do about it, or skipped with the reason. Ends with 1 when a
    law is broken.
    """
    import torch

    from fairbench.testing import LAWS, Trial, registered, subject

    torch.set_num_threads(1)  # networks this small only wait for each other's threads
    if method == "all":
        registry = open_registry(registry_files)
        names, broken = registry.names("method"), bool(registry.broken)
    else:
        registry, name = registered(method, registry_files)
        registry.get("method", name, asked_by=f"check {method}")
        names, broken = [name], False
    report: dict[str, Any] = {}
    for name in names:
        began = time.perf_counter()
        trial = Trial(subject(registry, name), LAWS)
        if not as_json:
            click.echo(f"{name}: {registry.plugin(name).summary}")
        outcomes = [_asked(trial, law, silent=as_json) for law in LAWS]
        failed = [outcome.law.name for outcome in outcomes if outcome.state == "FAILED"]
        seconds = time.perf_counter() - began
        report[name] = {
            "ok": not failed,
            "laws": {outcome.law.name: facts(outcome) for outcome in outcomes},
            "relative_cost": next(o.number for o in outcomes if o.law.name == "cost"),
            "seconds": round(seconds, 3),
        }
        if not as_json:
            verdict = f"breaks {', '.join(failed)}" if failed else "keeps the contract"
            click.echo(f"{name} {verdict}  ({seconds:.1f} s)" + ("\n" if name != names[-1] else ""))
    if as_json:
        print_json(report)
    sys.exit(0 if all(found["ok"] for found in report.values()) and not broken else 1)


def _asked(trial: "Trial", law: str, *, silent: bool) -> "Outcome":
    """What one law says; told at once unless `silent`."""
    outcome = trial.outcome(law)
    if not silent:
        line = f"  {outcome.state:8}{outcome.law.name:13}{outcome.law.sentence}"
        click.echo(line + (f"  ({outcome.remark})" if outcome.remark and outcome.state != "FAILED" else ""))
        if outcome.state == "FAILED":
            for text in (outcome.remark, *outcome.hint.splitlines()):
                click.echo(f"            {text}")
    return outcome


def facts(outcome: "Outcome") -> dict[str, Any]:
    """One law's outcome as plain data."""
    return {
        "sentence": outcome.law.sentence,
        "state": outcome.state.lower(),
        "remark": outcome.remark,
        "hint": outcome.hint,
        "seconds": round(outcome.seconds, 3),
    }
