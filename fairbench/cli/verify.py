"""`fairbench verify`: check a table against its records, or a run against its weights."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from fairbench.cli.command import Command
from fairbench.cli.options import open_registry, shared
from fairbench.cli.output import columns, echo, print_json
from fairbench.records.results_folder import find_run, scan

HEADER = ("attack", "epoch", "images", "wrong", "how")


@click.command(
    "verify",
    cls=Command,
    epilog="Examples: fairbench verify table.tex; fairbench verify trix.cifar10",
)
@click.argument("what", metavar="TABLE|RUN")
@click.option("--all", "everything", is_flag=True, help="Attack all images again, not only 64 of them.")
@shared("results", "registry", "device", "json")
def verify_command(
    what: str,
    everything: bool,
    results: Path,
    registry_files: tuple[Path, ...],
    device: str,
    as_json: bool,
) -> None:
    """Check a table in a file against its records, or a run against its weights.

    TABLE is a LaTeX, Markdown, HTML or CSV file that `fairbench table` or `report` wrote. It names the runs
    that it was made from: their outcomes are read again, the table is built again, and every line is
    compared.

    RUN is a run's folder, or the beginning of its name. The record's counts are compared with its outcomes,
    and the order of the training images with that of its seed. Clean predictions are computed again. The
    images with which AutoAttack or A3 broke the network are classified again in float32, and no image that
    one of them broke may be robust under the other at the same or a larger radius (up to 1 % may differ). PGD
    is run again, and images that withstood AutoAttack or A3 are attacked again, on images chosen at random.

    The exit code is 1 when anything differs.
    """
    if Path(what).is_file():
        right = verify_table(Path(what), results, as_json)
    else:
        right = verify_run(what, results, registry_files, device, everything, as_json)
    sys.exit(0 if right else 1)


def verify_table(path: Path, results: Path, as_json: bool) -> bool:
    """Check every table in a file and print what was found; whether all is right."""
    from fairbench.tables.verify import verify_file

    checks, page = verify_file(path, scan(results)[0])
    if page:
        note = "note: only the tables with numbers were checked, not the page's figures, class maps and texts"
        echo(note, err=True)
    if as_json:
        print_json([asdict(check) for check in checks])
    for check in () if as_json else checks:
        for fault in check.faults:
            echo(f"wrong: {fault}")
        verdict = f"{len(check.faults)} faults" if check.faults else "all as in the records"
        source = f"{check.records} records, {check.outcomes} outcomes files read"
        echo(f"{check.title}: {check.lines} lines from {source}: {verdict}")
    return not any(check.faults for check in checks)


def verify_run(
    run: str, results: Path, registry_files: tuple[Path, ...], device: str, everything: bool, as_json: bool
) -> bool:
    """Check a run's recorded predictions and print what was found; whether all are right."""
    from fairbench.runner.verify import verify_record

    record = find_run(run, results).read()
    checks = []
    registry = open_registry(registry_files)
    for check in verify_record(record, registry, device_name=device, everything=everything):
        checks.append(check)
        if not as_json:
            right = f"{check.checked - check.wrong} of {check.checked} images as recorded"
            echo(f"{check.attack} at epoch {check.epoch}: {right}", err=True)
    wrong = sum(check.wrong for check in checks)
    if as_json:
        print_json({"folder": str(record.folder), "checks": [asdict(check) for check in checks]})
    else:
        rows = [(c.attack, str(c.epoch), str(c.checked), str(c.wrong), c.what) for c in checks]
        verdict = f"{wrong} verdicts are not as recorded" if wrong else "all as recorded"
        echo(f"{columns(rows, HEADER)}\n\n{record.folder.name}: {verdict}")
    return not wrong
