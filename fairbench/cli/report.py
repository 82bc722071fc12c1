"""`fairbench report`: one self-contained page of a results folder."""

import shlex
from pathlib import Path

import click

from fairbench.cli.options import open_registry, registry_option, results_option
from fairbench.cli.table import BASELINE, choose, split_names
from fairbench.core.errors import ConfigError, FairbenchError
from fairbench.core.files import write_atomic
from fairbench.records.results_folder import scan


@click.command("report", epilog="Example: fairbench report --datasets cifar10 --claims trix -o cifar10.html")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    metavar="FILE",
    help="The page to write.",
)
@results_option
@click.option("--methods", metavar="A,B", help="Only these methods, and the baseline.")
@click.option("--datasets", metavar="A,B", help="Only these data sets.")
@click.option("--protocol", metavar="NAME", help="Only this protocol.")
@click.option("--attack", metavar="NAME", help="Only this evaluation attack.")
@click.option("--baseline", default=BASELINE, show_default=True, help="The method that rho compares with.")
@click.option(
    "--claims",
    metavar="NAMES|FILE",
    help="Show published values beside ours: trix, dafa, trix-2026, all, or a .csv of your own.",
)
@registry_option
def report_command(
    output: Path,
    results: Path,
    methods: str | None,
    datasets: str | None,
    protocol: str | None,
    attack: str | None,
    baseline: str,
    claims: str | None,
    registry_files: tuple[Path, ...],
) -> None:
    """Write a page for a browser: leaderboards to sort and filter, every class, every run behind a number.

    It is one file that loads nothing: send it, archive it, open it without a network, print it. `fairbench
    verify report.html` holds its tables against the records.
    """
    from fairbench.page import collect_content, render_page
    from fairbench.tables.published_results import read_published

    if not output.parent.is_dir():
        raise ConfigError(
            f"there is no folder {output.parent} for the page.", hint="write another one: -o FILE"
        )
    published = None if claims is None else read_published(claims)
    names = (split_names(methods, "--methods"), split_names(datasets, "--datasets"))
    chosen, any_record = choose(results, *names, protocol, baseline)
    if not chosen:
        raise FairbenchError(
            f"no runs to report in {results}" + (" fit the options." if any_record else "."),
            hint="see: fairbench status; start with: fairbench run",
        )
    content = collect_content(
        chosen,
        open_registry(registry_files),
        baseline=baseline,
        attack=attack,
        published=published,
        sources=claims or "",
        problems=scan(results)[1],
        results=str(results),
        registry_files=[str(file) for file in registry_files],
        made_with=_command(click.get_current_context()),
        file=output.name,
    )
    html = render_page(content).encode("utf-8", "backslashreplace")
    write_atomic(output, lambda file: file.write(html))
    count = len(content.sections)
    click.echo(
        f"{output}: {len(content.methods)} methods, {count} setting{'' if count == 1 else 's'}, "
        f"{len(content.runs)} runs, {len(html) / 1e6:.1f} MB; open it in a browser"
    )


def _command(ctx: click.Context) -> str:
    """What was typed, with the options in one order."""
    words = ["fairbench", "report"]
    for option in ctx.command.params:
        value = ctx.params.get(option.name or "")
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and each != option.get_default(ctx):
                words += [option.opts[0], each.name if option.name == "output" else str(each)]
    return shlex.join(words)
