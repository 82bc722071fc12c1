"""`fairbench new`: write a method to start from."""

from pathlib import Path

import click


@click.command("new", epilog="Example: fairbench new method floor")
@click.argument("kind", type=click.Choice(["method"]))
@click.argument("name")
@click.option(
    "--package",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write an installable package into this new folder.",
)
def new_command(kind: str, name: str, package: Path | None) -> None:
    """Write a small working method with its registry entry and test. No file is overwritten."""
    from fairbench.registry.new_method import write_method

    new = write_method(name, package)
    click.echo(f"wrote {', '.join(map(str, new.files))}\n\nnext:")
    for command in new.commands:
        click.echo(f"  {command}")
