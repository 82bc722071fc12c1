"""`fairbench doctor`: what is installed, what is missing, and how to fix it."""

import sys
from pathlib import Path

import click

from fairbench.cli.command import Command
from fairbench.cli.options import shared
from fairbench.cli.output import columns, echo, print_json
from fairbench.data.manifest import data_root


@click.command("doctor", cls=Command)
@shared("results", "data", "registry", "json")
def doctor_command(results: Path, data: str | None, registry_files: tuple[Path, ...], as_json: bool) -> None:
    """Check packages, device, methods, data sets and folders; print how to fix problems.

    The exit code is 3 when something is missing that every run needs.
    """
    from fairbench.runner.installation import FATAL, check_installation

    findings = check_installation(results, data_root(data), registry_files)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        echo(columns(findings, ("what", "state", "")))
    sys.exit(3 if any(finding.state in FATAL for finding in findings) else 0)
