"""`fairbench verify`: check a run's numbers against its own weights."""

from dataclasses import asdict
from pathlib import Path

import click

from fairbench.cli.options import columns, device_option, json_option, print_json, results_option
from fairbench.core.errors import RecordError
from fairbench.records.read import find_run, read_record


@click.command("verify", epilog="Example: fairbench verify trix.cifar10.resnet18.trix-150.seed0")
@click.argument("record")
@click.option("--all", "everything", is_flag=True, help="Run PGD again on all images, not on the first 64.")
@results_option
@device_option
@json_option
@click.pass_context
def verify_command(
    ctx: click.Context, record: str, everything: bool, results: Path, device: str, as_json: bool
) -> None:
    """Check the run RECORD (its folder, or its name in the results) against its weights.

    Computes clean predictions anew, shows the network each image that AutoAttack or A3 broke, in
    float32, and runs PGD again. Ends with 1 when anything is not as the record says.
    """
    found = read_record(find_run(record, results))
    if found.state != "done":
        raise RecordError(f"{found.folder.name} is {found.state}: there is nothing to verify yet.")

    from fairbench.runner.verify import verify_record

    checks = []
    for check in verify_record(found, device_name=device, everything=everything):
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
