"""Commands that take a selection: options, or one file that holds them."""

from pathlib import Path
from typing import Any

import click

from fairbench.cli.command import Command
from fairbench.core.errors import ConfigError, indent


class SelectionCommand(Command):
    """A command whose argument EXPERIMENT names a YAML file with options; typed options beat the file's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [] if ctx.resilient_parsing else self._from_file(ctx, args)
        return super().parse_args(ctx, [*words, *args])

    def invoke(self, ctx: click.Context) -> Any:
        from fairbench.planning.blame import blamed, typed_settings

        given = {name: ctx.params.get(name) for name in ("epochs", "batch_size")}
        with blamed(typed_settings(ctx.params.get("overrides", ()), **given)):
            return super().invoke(ctx)

    def _from_file(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The words that the experiment's file stands for, without options that only other commands have."""
        try:
            path = self.make_parser(ctx).parse_args(list(args))[0].get("experiment")
        except click.UsageError:
            return []  # the whole line is wrong: `parse_args` raises
        if not isinstance(path, str):
            return []
        from fairbench.planning.experiment import read_experiment

        own = options_of(self)
        kinds = {name: kind(option) for name, option in every_option(ctx).items()}
        words: list[str] = []
        for typed in read_experiment(Path(path), kinds):
            if typed.option in own:
                check(own[typed.option], ctx, typed.words[1::2], typed.where)
                words += typed.words
        return words


def every_option(ctx: click.Context) -> dict[str, click.Option]:
    """The options of `run` and `plan`: an experiment is written for both."""
    from fairbench.cli.main import cli

    commands = (cli.get_command(ctx, name) for name in ("run", "plan"))
    return {name: option for each in commands if each for name, option in options_of(each).items()}


def options_of(command: click.Command) -> dict[str, click.Option]:
    """The options of a command by each of their names without dashes."""
    return {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    }


def kind(option: click.Option) -> Any:
    """How an experiment writes the option: an `OptionKind`."""
    if option.is_flag:
        return "flag"
    if option.multiple:
        return "several"
    return "path" if isinstance(option.type, click.Path) or option.name == "data" else "text"


def check(option: click.Option, ctx: click.Context, values: tuple[str, ...], where: str) -> None:
    """Raise ConfigError, with the place, for a value that the option refuses."""
    for value in () if option.multiple else values:
        try:
            option.type_cast_value(ctx, value)
        except click.UsageError as error:
            raise ConfigError(f"{where}\n{indent(error.message)}") from error


EXPERIMENT = click.argument(
    "experiment", required=False, metavar="[EXPERIMENT.yaml]", expose_value=False, type=click.Path()
)
