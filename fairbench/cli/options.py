"""Options that several commands share."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

if TYPE_CHECKING:
    from fairbench.planning.cells import Cell
    from fairbench.registry import Registry

Command = TypeVar("Command", bound=Callable[..., Any])

results_option = click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    metavar="DIR",
    help="Folder of the runs.",
)
data_option = click.option(
    "--data",
    metavar="DIR",
    help="Folder of prepared data sets.  [default: $FAIRBENCH_DATA or the user's cache]",
)
registry_option = click.option(
    "--registry",
    "registry_files",
    multiple=True,
    envvar="FAIRBENCH_REGISTRY",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A registry.yaml of your own, or a plugin's .py file; may be repeated.",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute.",
)


class Duration(click.ParamType):  # type: ignore[type-arg]  # which click 8.1 does not have
    """A time as people write it: 90s, 45m, 12h, 2d. Its value is in seconds."""

    name = "duration"
    UNITS: ClassVar = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(s|m|min|h|d)", str(value).strip())
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is no duration; write for instance 90s, 45m, 12h or 2d.", param, ctx)
        return float(match[1]) * self.UNITS[match[2]]


def executor_options(command: Command) -> Command:
    """The options that say where and how cells are worked on."""
    for option in reversed(
        (
            click.option(
                "--executor",
                metavar="NAME",
                help="Who works: inline (this process), local (a process for each device), slurm, ray, or "
                "file.py:function.  [default: inline, or local where processes are asked for]",
            ),
            click.option(
                "--profile",
                type=click.Path(path_type=Path),
                envvar="FAIRBENCH_PROFILE",
                metavar="FILE",
                help="YAML with the settings of executors: partition, time, GPUs, ...",
            ),
            click.option(
                "--pack",
                type=click.IntRange(min=1),
                default=1,
                show_default=True,
                metavar="N",
                help="Cells at a time on each device, each in a process of its own.",
            ),
            click.option("--gpus", metavar="0,1", help="The GPUs to use.  [default: all]"),
            click.option(
                "--time-limit", type=Duration(), metavar="2h", help="End an attempt at a cell after that."
            ),
            click.option(
                "--retries",
                type=click.IntRange(min=0),
                default=1,
                show_default=True,
                metavar="N",
                help="Start a cell again whose process died.",
            ),
            click.option(
                "--wait",
                is_flag=True,
                help="Stay for cells that others work on; take over the dead's.",
            ),
            click.option("--detach", is_flag=True, help="Submit and leave; see `fairbench status`."),
        )
    ):
        command = option(command)
    return command


def price_options(command: Command) -> Command:
    """The options that weigh a plan."""
    for option in reversed(
        (
            click.option(
                "--devices",
                type=click.IntRange(1, 10_000),
                default=1,
                show_default=True,
                metavar="N",
                help="Devices of this kind to reckon with.",
            ),
            click.option("--budget", type=Duration(), metavar="12h", help="Only what fits into this time."),
        )
    ):
        command = option(command)
    return command


EXECUTOR_OPTIONS = ("executor", "profile", "pack", "gpus", "time_limit", "retries", "wait", "detach")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def selection_options(command: Command) -> Command:
    """The options that say what to run."""
    for option in reversed(
        (
            click.option("--suite", default="quickstart", show_default=True, help="A named selection."),
            click.option("--methods", metavar="A,B|all", help="Methods, instead of the suite's."),
            click.option("--datasets", metavar="A,B|all", help="Data sets, instead of the suite's."),
            click.option("--models", metavar="A,B|all", help="Networks, instead of the suite's."),
            click.option("--seeds", metavar="0..4|0,1", help="Seeds, instead of the suite's."),
            click.option(
                "--protocol", metavar="NAME", help="Threat, schedule and evaluation, instead of the suite's."
            ),
            click.option(
                "--attacks",
                metavar="A,B@last|all",
                help="Evaluation attacks, instead of the protocol's; NAME@last only at the final checkpoint.",
            ),
            click.option(
                "--epochs", type=click.IntRange(min=1), help="Shorten or lengthen the schedule in proportion."
            ),
            click.option("--batch-size", type=click.IntRange(min=2), help="Images per step."),
            click.option(
                "--augment",
                metavar="KIND",
                help="Augment the images of every method: autoaugment, cutout, mixup, cutmix, or none.",
            ),
            click.option(
                "--averaging",
                metavar="KIND",
                help="Average the weights of every method: ema, fawa, swa, or none.",
            ),
            click.option(
                "--awp",
                metavar="GAMMA",
                help="Perturb the weights of every method adversarially: 0.005, or none.",
            ),
            click.option(
                "--set",
                "overrides",
                multiple=True,
                metavar="PATH=VALUE",
                help="Override one setting, for "
                "instance methods.trix.strength=1.5 or protocol.optimizer.lr=0.05.",
            ),
        )
    ):
        command = option(command)
    return command


def select(registry: "Registry", data_root: Path, chosen: dict[str, Any]) -> tuple[list["Cell"], list[str]]:
    """The cells that the selection options choose, and notes on what was added."""
    from fairbench.planning.resolve import resolve
    from fairbench.planning.selection import (
        Selection,
        parse_attacks,
        parse_names,
        parse_overrides,
        parse_seeds,
    )
    from fairbench.registry import read_scalar

    suite = registry.get("suite", chosen["suite"], asked_by=f"--suite {chosen['suite']}")
    overrides = parse_overrides(chosen["overrides"], registry)
    for option, name in (("epochs", "epochs"), ("batch_size", "batch_size")):
        if chosen[option] is not None:
            overrides.setdefault("protocol", {})[name] = chosen[option]
    for option in ("augment", "averaging", "awp"):
        if chosen[option] is not None:
            overrides.setdefault("house", {})[option] = read_scalar(chosen[option])
    selection = Selection(
        suite=suite.name,
        methods=parse_names("method", chosen["methods"], registry, option="--methods"),
        datasets=parse_names("dataset", chosen["datasets"], registry, option="--datasets"),
        models=parse_names("model", chosen["models"], registry, option="--models"),
        attacks=parse_attacks(chosen["attacks"], registry, option="--attacks"),
        seeds=parse_seeds(chosen["seeds"]),
        protocol=chosen["protocol"],
        overrides=overrides,
    )
    return resolve(selection, registry, data_root)


def open_registry(files: tuple[Path, ...]) -> "Registry":
    """The registry with the user's files; broken plugins are named, one line each."""
    from fairbench.registry import load_registry

    registry = load_registry(files)
    for plugin in registry.broken:
        click.echo(
            f"warning: method {plugin.name!r} cannot be used: {plugin.reason} ({plugin.origin})", err=True
        )
    return registry


def print_json(value: Any) -> None:
    """Print JSON; of a list each item on a line of its own."""
    if isinstance(value, list):
        click.echo("[\n" + ",\n".join(map(json.dumps, value)) + "\n]")
    else:
        click.echo(json.dumps(value, indent=1))


def columns(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Rows of text in aligned columns under a header."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
    return "\n".join(lines)
