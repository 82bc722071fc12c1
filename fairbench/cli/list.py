"""`fairbench list`: what the registry holds."""

from collections.abc import Sequence
from pathlib import Path

import click

from fairbench.cli.command import Command
from fairbench.cli.completion import complete_names
from fairbench.cli.options import open_registry, shared
from fairbench.cli.output import columns, echo, print_json
from fairbench.planning.catalogue import KINDS, describe, facts, lines, tag_counts
from fairbench.registry import Registry
from fairbench.registry.names import names_of


@click.command(
    "list",
    cls=Command,
    epilog="Examples: fairbench list methods --verbose; fairbench list methods tag:margin",
)
@click.argument("kind", type=click.Choice(KINDS), required=False)
@click.argument("selection", metavar="[NAMES]", required=False, shell_complete=complete_names(""))
@click.option("--verbose", "-v", is_flag=True, help="Also print options, papers and origins.")
@shared("registry", "json")
def list_command(
    kind: str | None, selection: str | None, verbose: bool, registry_files: tuple[Path, ...], as_json: bool
) -> None:
    """List the methods, data sets, networks, attacks, protocols and suites that can be used.

    NAMES is a choice as in `fairbench run`: tag:reweighting, 'trix-*', or all,-frl.
    """
    registry = open_registry(registry_files)
    names = {
        each: list(names_of(registry, each[:-1]).choose(selection or "all", each))
        for each in ([kind] if kind else KINDS)
    }
    if as_json:
        print_json({k: {name: facts(registry, k, name) for name in names[k]} for k in names})
        return
    for each in names:
        show_entries(registry, each, names[each], verbose)
        if each != list(names)[-1]:
            echo()


def show_entries(registry: Registry, kind: str, names: Sequence[str], verbose: bool) -> None:
    """Print a line per entry; with `verbose`, then everything known of each."""
    echo(columns([(name, describe(registry, kind, name)) for name in names], (kind, "")))
    if counts := tag_counts(registry, kind, names):
        echo("tags: " + ", ".join(f"{tag} ({count})" for tag, count in counts.items()))
    for name in names if verbose else ():
        echo(f"\n{name}")
        for key, text in lines(registry, kind, name).items():
            echo(f"  {key}: {text}".replace(": \n", ":\n"))
