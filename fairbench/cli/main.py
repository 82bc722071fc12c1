"""The command line: `fairbench COMMAND`. Each command is imported when it is used."""

import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

from fairbench.cli.output import PlainFormatter, echo
from fairbench.cli.streams import discard, end_streams, guarded
from fairbench.core import stopping
from fairbench.core.errors import FairbenchError, indent, suggest

COMMANDS = {  # its name, which is also its module's, and its line in the help
    "list": "List methods, data sets, networks, attacks, protocols, suites.",
    "prepare": "Download and check data sets.",
    "plan": "List the cells that a run would do, with time and disk space.",
    "run": "Train, attack and print the tables.",
    "status": "List the runs in a results folder and their progress.",
    "table": "Print tables of the results.",
    "report": "Write an HTML page of the results.",
    "figure": "Draw figures of the results.",
    "verify": "Check a table or a run against what it was made from.",
    "evaluate": "Attack a model that was trained elsewhere.",
    "export": "Write a run's model for use elsewhere.",
    "merge": "Copy runs from other results folders.",
    "logs": "Show the attempts, log and error of a run.",
    "retry": "Run failed cells again.",
    "clean": "List files that are no longer needed, or delete them.",
    "cell": "Run the cell of a run folder; schedulers start this.",
    "new": "Write a new method from a template.",
    "check": "Test a method against the contract.",
    "bench": "Measure the training speed of this machine.",
    "doctor": "Check this installation.",
}


class LazyGroup(click.Group):
    """Commands whose modules are imported when they are used."""

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
        known = ctx.resilient_parsing or args[:1] == [] or args[0].startswith("-") or args[0] in COMMANDS
        if not known:
            close = suggest(args[0], COMMANDS)
            hint = f" Did you mean {close!r}?" if close else ""
            raise click.UsageError(f"No command called {args[0]!r}.{hint} See: fairbench --help", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
    epilog="Start with `fairbench run`: it trains three methods on small built-in images and prints a table.",
)
@click.version_option(package_name="fairbench-at", prog_name="fairbench")
@click.option("--debug", is_flag=True, help="Print tracebacks and log messages.")
def cli(debug: bool) -> None:
    """Compare fair adversarial training methods under the same seeds and schedules."""
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    for handler in logging.getLogger().handlers:  # the log file of a run may hold more
        handler.setLevel(level)
        handler.setFormatter(PlainFormatter("%(name)s: %(message)s"))


def main(arguments: Sequence[str] | None = None) -> Any:
    """Run the command line. Errors are a message and an exit code; --debug shows the traceback."""
    stopping.install_handlers()
    with guarded():
        code = _exit_code(arguments)
        try:
            end_streams()
        except BrokenPipeError:
            discard(sys.stdout)
        except FairbenchError as error:
            discard(sys.stdout)
            _say(error)
            code = code or error.exit_code
    sys.exit(code)


def _exit_code(arguments: Sequence[str] | None) -> int | str | None:
    """Run a command; its exit code, after a message for an error."""
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments), prog_name="fairbench", standalone_mode=False
        )
        return code if isinstance(code, int) else 0
    except SystemExit as ended:
        return ended.code
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        cause = error.__cause__ or error  # click's Abort hides the first one
        echo("interrupted; run the same command again to continue", err=True)
        return int(getattr(cause, "exit_code", 130))
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FairbenchError as error:
        if debug:
            raise
        _say(error)
        return error.exit_code
    except PermissionError as error:
        if debug:
            raise
        message = f"EnvironmentFault: {error.filename}: {error.strerror}.\n  check its owner and permissions"
        echo(message, err=True)
        return 3
    except BrokenPipeError:
        discard(sys.stdout)  # the program that reads the output has ended, as `head` does: not an error
        return 0


def _say(error: FairbenchError) -> None:
    hint = f"\n{indent(error.hint)}" if error.hint else ""
    echo(f"{type(error).__name__}: {error.message}{hint}", err=True)
