"""`fairbench new`: write a method to start from."""

from pathlib import Path

import click

from fairbench.cli.command import Command
from fairbench.cli.options import PATH, shared, value
from fairbench.cli.output import echo, print_json
from fairbench.registry.skeletons import DEFAULT, SKELETONS


@click.command("new", cls=Command, epilog="Example: fairbench new method floor --like dafa")
@click.argument("kind", type=click.Choice(["method"]))
@click.argument("name")
@click.option(
    "--like",
    type=click.Choice(list(SKELETONS)),
    help="Start from this shape: "
    + "; ".join(f"{name}, {skeleton.shape}" for name, skeleton in SKELETONS.items())
    + f". Without this option: {DEFAULT.shape}.",
)
@value("--package", "DIR", "Write an installable package into this new folder.", type=PATH)
@shared("json")
def new_command(kind: str, name: str, like: str | None, package: Path | None, as_json: bool) -> None:
    """Write a small working method with its registry entry and test. No file is overwritten."""
    from fairbench.registry.new_method import write_method

    new = write_method(name, package, like)
    if as_json:
        print_json({"files": [str(file) for file in new.files], "next": list(new.commands)})
        return
    echo(f"wrote {', '.join(map(str, new.files))}\n\nnext:")
    for command in new.commands:
        echo(f"  {command}")
