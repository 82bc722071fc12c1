"""`fairbench check`: test a method against the laws of the contract."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fairbench.cli.command import Command
from fairbench.cli.options import shared, warn_of_broken
from fairbench.cli.output import echo, print_json

if TYPE_CHECKING:
    from fairbench.testing import Outcome
    from fairbench.testing.method_check import MethodCheck


@click.command("check", cls=Command, epilog="Example: fairbench check mymethod.py")
@click.argument("method", metavar="NAME|FILE.py|all")
@shared("registry", "json")
def check_command(method: str, registry_files: tuple[Path, ...], as_json: bool) -> None:
    """Test a method, or all of them, against the laws of the contract, on toy images and the CPU.

    Prints a line per law: ok, FAILED with what to do about it, or skipped with the reason. The exit code is 1
    when a method breaks a law or cannot be used.
    """
    from fairbench.testing.method_check import check_method, methods_to_check

    registry, names = methods_to_check(method, registry_files)
    if method == "all":
        warn_of_broken(registry)
    checks = []
    for name in names:
        if not as_json:
            echo(f"{name}: {registry.plugin(name).summary}")
        checks.append(check_method(registry, name, (lambda outcome: None) if as_json else show_outcome))
        if not as_json:
            echo(verdict(checks[-1]) + ("\n" if name != names[-1] else ""))
    if as_json:
        print_json({check.name: check.to_json() for check in checks})
    unusable = method == "all" and registry.broken
    sys.exit(1 if unusable or any(check.broken for check in checks) else 0)


def show_outcome(outcome: "Outcome") -> None:
    """Print the outcome of one law, with advice when the method breaks it."""
    line = f"  {outcome.state:8}{outcome.law.name:13}{outcome.law.sentence}"
    if outcome.state == "FAILED":
        advice = (outcome.remark, *outcome.hint.splitlines())
        echo("\n".join([line, *(f"            {text}" for text in advice)]))
    else:
        echo(line + (f"  ({outcome.remark})" if outcome.remark else ""))


def verdict(check: "MethodCheck") -> str:
    """Whether the method keeps the contract, or which laws it breaks."""
    words = f"breaks {', '.join(check.broken)}" if check.broken else "keeps the contract"
    return f"{check.name} {words}  ({check.seconds:.1f} s)"
