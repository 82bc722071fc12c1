"""The command line: `fairbench COMMAND`. Each command is imported when it is used."""

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from fairbench.core import stopping
from fairbench.core.errors import FairbenchError, indent, suggest

COMMANDS = {  # the name, which is also its module's, and the line in the help
    "list": "Show what can be run.",
    "prepare": "Fetch and check data sets.",
    "plan": "Show the cells that a run would do.",
    "run": "Train, attack and tabulate.",
    "status": "Show what a results folder holds.",
    "table": "Print the tables.",
    "report": "Write a page to browse, send and archive.",
    "figure": "Draw the figures.",
    "verify": "Check a run's numbers against its weights.",
    "evaluate": "Attack a checkpoint from anywhere.",
    "export": "Write a run's model for others.",
    "merge": "Join the results folders of several people.",
    "logs": "Show what happened to a run.",
    "retry": "Work once more on runs that failed.",
    "clean": "Say what nobody needs any more, and delete it.",
    "cell": "Work on one run folder (what a scheduler starts).",
    "new": "Write a method to start from.",
    "check": "Hold a method against the contract.",
    "bench": "Measure how fast training is here.",
    "doctor": "Check this installation.",
}


class LazyGroup(click.Group):
    """Commands that cost nothing until they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"fairbench.cli.{name}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            close = suggest(args[0], COMMANDS)
            hint = f" Did you mean {close!r}?" if close else ""
            raise click.UsageError(f"No command called {args[0]!r}.{hint} See: fairbench --help", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `fairbench run`: it trains three methods on embedded images and prints a table.",
)
@click.version_option(package_name="fairbench-at", prog_name="fairbench")
@click.option("--debug", is_flag=True, help="Show tracebacks and the log.")
def cli(debug: bool) -> None:
    """Compare methods of fair adversarial training under identical seeds and schedules."""
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    for handler in logging.getLogger().handlers:  # a run's own log may be told more
        handler.setLevel(level)


def main(arguments: Sequence[str] | None = None) -> Any:
    """Entry point. A user's mistake is a message and an exit code, never a traceback."""
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    stopping.install_handlers()
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments), prog_name="fairbench", standalone_mode=False
        )
        sys.exit(code if isinstance(code, int) else 0)
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        cause = error.__cause__ or error  # click's Abort hides what it was
        _stop("interrupted; the same command again continues", getattr(cause, "exit_code", 130))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except FairbenchError as error:
        if debug:
            raise
        _stop(
            f"{type(error).__name__}: {error.message}" + (f"\n{indent(error.hint)}" if error.hint else ""),
            error.exit_code,
        )
    except BrokenPipeError:
        # Whoever read our output has stopped: not an error, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _stop(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)
