"""What all commands have: grouped options in their help, `--output` and `--quiet`."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click

OUTPUT, QUIET = "fairbench.output", "fairbench.quiet"
GENERAL, OWN = "Files, device and output", "Options"


class Command(click.Command):
    """A command whose help groups its options, and whose output can go to a file."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        taken = {name for param in self.params for name in param.opts}
        self.params += [option for option in general_options() if not taken & set(option.opts)]

    def invoke(self, ctx: click.Context) -> Any:
        with ExitStack() as stack:
            if ctx.meta.get(OUTPUT) not in (None, Path("-")):
                stack.enter_context(output_to(ctx.meta[OUTPUT]))
            if ctx.meta.get(QUIET):
                stack.enter_context(redirect_stderr(OnlyWarnings(sys.stderr)))
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {OWN: []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                groups.setdefault(vars(param).get("heading", OWN), []).append(record)
        groups[GENERAL] = groups.pop(GENERAL, [])  # last
        for heading, records in groups.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def general_options() -> list[click.Option]:
    """The options that every command has."""

    def remember(key: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
        def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
            ctx.meta[key] = value
            return value

        return callback

    place = click.Path(path_type=Path, dir_okay=False)
    options = [
        click.Option(
            ["-o", "--output"],
            metavar="FILE",
            type=place,
            expose_value=False,
            callback=remember(OUTPUT),
            help="Write what is printed to this file instead.",
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=remember(QUIET),
            help="No notes and no progress, only results, warnings and errors.",
        ),
    ]
    for option in options:
        vars(option)["heading"] = GENERAL
    return options


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Collect what is printed, and write it to a file at the end, also when the command fails after that."""
    from fairbench.core.files import make_folder, write_atomic

    text = io.StringIO()
    try:
        with redirect_stdout(text):
            yield
    finally:
        if text.getvalue():
            make_folder(path.absolute().parent)
            content = text.getvalue().encode()
            write_atomic(path, lambda file: file.write(content))


class OnlyWarnings(io.TextIOBase):
    """A stream that passes on lines that begin with "warning", and drops all others."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.rest = ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if line.casefold().startswith("warning"):
                self.stream.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        self.stream.flush()
