"""`fairbench verify`: check a table against its records, or a run's numbers against its own weights."""

from dataclasses import asdict
from pathlib import Path

import click

from fairbench.cli.options import device_option, json_option, open_registry, registry_option, results_option
from fairbench.cli.output import columns, print_json
from fairbench.core.errors import ConfigError, RecordError
from fairbench.records.results_folder import find_run, scan


@click.command(
    "verify",
    epilog="Examples: fairbench verify table.tex; fairbench verify trix.cifar10.resnet18.trix-150.seed0",
)
@click.argument("what", metavar="TABLE|RUN")
@click.option("--all", "everything", is_flag=True, help="Run PGD again on all images, not on the first 64.")
@results_option
@registry_option
@device_option
@json_option
@click.pass_context
def verify_command(
    ctx: click.Context,
    what: str,
    everything: bool,
    results: Path,
    registry_files: tuple[Path, ...],
    device: str,
    as_json: bool,
) -> None:
    """Check a table in a file against its records, or a RUN (its folder or name) against its weights.

    A table that `fairbench table` wrote as LaTeX, Markdown, HTML or CSV names the runs it was made
    from: their outcomes are read again, the table is rebuilt, and its lines compared, heads too.

    Of a run, clean predictions are computed anew, each image that AutoAttack or A3 broke is shown to the
    network in float32, and PGD is run again. Ends with 1 when anything is not as it says.
    """
    if Path(what).is_file():
        ctx.exit(verify_file(Path(what), results, as_json))
    found = find_run(what, results).read()
    if found.state != "done":
        raise RecordError(f"{found.folder.name} is {found.state}: there is nothing to verify yet.")

    from fairbench.runner.verify import verify_record

    checks = []
    for check in verify_record(
        found, open_registry(registry_files), device_name=device, everything=everything
    ):
        checks.append(check)
        if not as_json:
            good = check.checked - check.wrong
            click.echo(f"{check.attack} at epoch {check.epoch}: {good} of {check.checked}", err=True)
    if as_json:
        print_json({"folder": str(found.folder), "checks": [asdict(check) for check in checks]})
    else:
        lines = [(c.attack, str(c.epoch), str(c.checked), str(c.wrong), c.what) for c in checks]
        click.echo(columns(lines, ("attack", "epoch", "images", "wrong", "how")))
    wrong = sum(check.wrong for check in checks)
    if not as_json:
        verdict = "all as recorded" if not wrong else f"{wrong} verdicts are not as recorded"
        click.echo(f"\n{found.folder.name}: {verdict}")
    ctx.exit(1 if wrong else 0)


def verify_file(path: Path, results: Path, as_json: bool) -> int:
    """Check every table in the file and print what was found; 0 when all is as the records say, else 1."""
    from fairbench.tables.verify import is_report, verify_tables

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}.") from error
    checks = verify_tables(text, path.suffix.lower(), scan(results)[0])
    if is_report(text, path.suffix.lower()):
        click.echo(
            "note: of a report only the tables with numbers were checked, not its pictures, maps of classes, "
            "sentences and what a click shows",
            err=True,
        )
    if as_json:
        print_json([asdict(check) for check in checks])
        return 1 if any(check.faults for check in checks) else 0
    for check in checks:
        for fault in check.faults:
            click.echo(f"wrong: {fault}")
        verdict = f"{len(check.faults)} faults" if check.faults else "all as the records say"
        click.echo(
            f"{check.title}: {check.lines} lines from {check.records} records, {check.outcomes} outcomes "
            f"files read: {verdict}"
        )
    return 1 if any(check.faults for check in checks) else 0
