"""`fairbench report`: write an HTML page of the results."""

import shlex
from pathlib import Path
from typing import Any

import click

from fairbench.cli.command import Command
from fairbench.cli.options import open_registry, read_records, shared
from fairbench.cli.output import counted, echo, print_json


@click.command(
    "report",
    cls=Command,
    epilog="Example: fairbench report --datasets cifar10 --claims trix -o cifar10.html",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    metavar="FILE",
    help="File to write.",
)
@shared("results", "record", "claims", "registry", "json")
def report_command(
    output: Path,
    results: Path,
    attack: str | None,
    baseline: str,
    claims: str | None,
    registry_files: tuple[Path, ...],
    as_json: bool,
    **chosen: Any,
) -> None:
    """Write an HTML page with leaderboards, every class, and the runs behind each number.

    The page is one file that loads nothing from elsewhere: it can be sent, archived, printed and read without
    a network. `fairbench verify report.html` checks its tables against the records.
    """
    from fairbench.page import collect_content, require_folder, write_page
    from fairbench.tables.published_results import read_published

    require_folder(output)
    published = None if claims is None else read_published(claims)
    records, problems = read_records(results, baseline=baseline, **chosen)
    content = collect_content(
        records,
        open_registry(registry_files),
        baseline=baseline,
        attack=attack,
        published=published,
        sources=claims or "",
        problems=problems,
        results=str(results),
        registry_files=[str(file) for file in registry_files],
        made_with=typed_command(click.get_current_context()),
        file=output.name,
    )
    megabytes = write_page(content, output) / 1e6
    if as_json:
        print_json({"file": str(output), "runs": len(content.runs), "megabytes": megabytes})
        return
    sizes = (content.methods, "method"), (content.sections, "setting"), (content.runs, "run")
    counts = ", ".join(counted(len(things), noun) for things, noun in sizes)
    echo(f"{output}: {counts}, {megabytes:.1f} MB; open it in a browser")


def typed_command(ctx: click.Context) -> str:
    """The command line that was typed, with the options in one order and the defaults left out."""
    words = ["fairbench", "report"]
    for option in ctx.command.params:
        value = ctx.params.get(option.name or "")
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and each != option.get_default(ctx):
                words += [option.opts[0], each.name if option.name == "output" else str(each)]
    return shlex.join(words)
