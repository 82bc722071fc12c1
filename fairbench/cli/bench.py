"""`fairbench bench`: measure the training speed of this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairbench.cli.command import Command
from fairbench.cli.options import PATH, count, open_registry, renamed, shared, value
from fairbench.cli.output import columns, echo, print_json

if TYPE_CHECKING:
    from fairbench.speed.run import SpeedReport


@click.command("bench", cls=Command)
@value("--methods", "A,B|all", "Methods to time.", default="trades,trix")
@value("--models", "A,B", "Networks to train.", default="resnet18")
@value("--precisions", "A,B", "Any of torch, fp32, tf32, bf16.", default="torch")
@renamed(
    "--datasets",
    "--dataset",
    "NAME",
    "Data set that gives the image size and the number of images.",
    name="dataset",
    default="cifar10",
)
@value(
    "--protocol", "NAME", "Protocol that gives attack, optimiser and number of epochs.", default="trix-150"
)
@count("--batch-size", "Images per step, instead of the protocol's.", least=2)
@value("--seconds", "S", "Length of a timing block.", type=click.FloatRange(min=0.01), default=5.0)
@count("--rounds", "Timing blocks per measurement.", default=3)
@click.option("--reference/--no-reference", default=True, help="Also time a plain PyTorch loop.")
@click.option("--ablate", is_flag=True, help="Also time the last method without each speed-up.")
@click.option(
    "--profile", is_flag=True, help="Also list the operations that take the time of the last method."
)
@click.option("-o", "--output", metavar="FILE", type=PATH, help="Also write the result to this file.")
@shared("json", "device", "registry")
def bench_command(
    output: Path | None,
    as_json: bool,
    device: str,
    registry_files: tuple[Path, ...],
    **options: Any,
) -> None:
    """Measure the training speed of this machine.

    Times the training steps of `run` on random images; their content does not change the speed. As a
    reference, a plain PyTorch loop trains the same network, in PyTorch's default precision; on a GPU it is
    also timed in strict float32. All are timed in turn, block by block.

    \b
    Examples
      fairbench bench --device cuda --precisions torch,fp32,bf16 --ablate
      fairbench bench --models cnn-small --methods all --seconds 2
    """
    from fairbench.speed.request import parse_request
    from fairbench.speed.run import run

    registry = open_registry(registry_files)
    request = parse_request(registry, **options)
    report = None
    try:
        for report in run(request, registry, device, lambda text: echo(text, err=True)):
            if output is not None:  # after each row, so that nothing is lost when the command is stopped
                output.write_text(text_of(report))
    finally:
        if report is not None and as_json:
            print_json({"about": report.about, "rows": report.rows, "tables": report.tables})
        elif report is not None:
            echo(text_of(report), nl=False)


def text_of(report: "SpeedReport") -> str:
    """The report as text."""
    header = tuple(dict.fromkeys(key for row in report.rows for key in row))
    lines = [*report.about, "", columns([cells(row, header) for row in report.rows], header)]
    for title, rows in report.tables.items():
        lines += ["", title, columns(rows[1:], rows[0])]
    if report.profile:
        lines += ["", report.profile]
    return "\n".join(line.rstrip() for line in "\n".join(lines).splitlines()) + "\n"


def cells(row: dict[str, Any], header: tuple[str, ...]) -> tuple[str, ...]:
    """A row as text: shares in percent, numbers to three digits."""
    shares = ("limit", "data", "attack", "outer", "bookkeeping")
    texts = []
    for name in header:
        value = row.get(name, "")
        if isinstance(value, float):
            value = f"{100 * value:.1f} %" if name in shares else f"{value:.3g}"
        texts.append(str(value))
    return tuple(texts)
