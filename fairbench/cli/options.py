"""Every option that more than one command has, and what turns their text into values."""

import re
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from fairbench.cli.command import GENERAL
from fairbench.cli.completion import KINDS, complete_names
from fairbench.cli.experiment import EXPERIMENT
from fairbench.cli.output import warn
from fairbench.metrics.rho import BASELINE
from fairbench.records.status import STATES

if TYPE_CHECKING:
    from fairbench.records.read import Record
    from fairbench.records.results_folder import Problem
    from fairbench.registry import Registry

PATH = click.Path(path_type=Path)
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Duration(click.ParamType):  # type: ignore[type-arg]  # which click 8.1 does not have
    """A time written as 90s, 45m, 12h or 2d. Its value is in seconds."""

    name = "duration"
    UNITS: ClassVar = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(s|m|min|h|d)", str(value).strip())
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is not a duration; write for example 90s, 45m, 12h or 2d.", param, ctx)
        return float(match[1]) * self.UNITS[match[2]]


class Device(click.ParamType):  # type: ignore[type-arg]
    """The name of a device. Raises EnvironmentFault for one on which fairbench does not compute."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from fairbench.core.devices import parse_device

        kind, number = parse_device(value)
        return kind if number is None else f"{kind}:{number}"


class RenamedOption(click.Option):
    """An option that also accepts its former spellings, which the help does not show."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        shown = copy(self)
        shown.opts = self.opts[:1]
        return super(RenamedOption, shown).get_help_record(ctx)


def value(name: str, metavar: str, help: str, **settings: Any) -> Decorator:
    """An option that takes a value; the help shows it as `metavar`. Shells complete names of the registry."""
    if name in KINDS:
        settings = {"shell_complete": complete_names(KINDS[name]), **settings}
    return click.option(name, metavar=metavar, help=help, **settings)


def renamed(option: str, former: str, metavar: str, help: str, *, name: str, **settings: Any) -> Decorator:
    """`value` for an option that had another spelling, which still works; `name` is the parameter's."""
    if option in KINDS:
        settings = {"shell_complete": complete_names(KINDS[option]), **settings}
    return click.option(option, former, name, cls=RenamedOption, metavar=metavar, help=help, **settings)


def count(name: str, help: str, least: int = 1, **settings: Any) -> Decorator:
    """An option whose value is a whole number of at least `least`."""
    return click.option(name, type=click.IntRange(min=least), metavar="N", help=help, **settings)


def together(*options: Decorator) -> Decorator:
    """One decorator for several options, which the help lists in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def shared(*names: str) -> Decorator:
    """One decorator for the options that SHARED has under these names, in this order."""
    return together(*(under(HEADINGS.get(name, GENERAL), SHARED[name]) for name in names))


def under(heading: str, options: Decorator) -> Decorator:
    """The same options under this heading of the help."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        before = {id(param) for param in getattr(command, "__click_params__", ())}
        command = options(command)
        for param in getattr(command, "__click_params__", ()):
            if id(param) not in before:
                vars(param)["heading"] = heading
        return command

    return decorate


def states_listed(command: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator: the list of all states in place of "{states}" in the help of a command."""
    lines = "".join(f"\n      {state:9} {meaning}" for state, meaning in STATES.items())
    command.__doc__ = (command.__doc__ or "").replace("{states}", f"\b\n    States{lines}")
    return command


HEADINGS = {
    "selection": "What to run",
    "executor": "How cells are run",
    "price": "Estimates and limits",
    "record": "Which results",
    "claims": "Which results",
}
SHARED: dict[str, Decorator] = {
    "results": value(
        "--results", "DIR", "Folder with the results of all runs.", type=PATH, default=Path("results")
    ),
    "data": value(
        "--data", "DIR", "Folder with the prepared data sets.  [default: $FAIRBENCH_DATA or the user's cache]"
    ),
    "registry": click.option(
        "--registry",
        "registry_files",
        multiple=True,
        envvar="FAIRBENCH_REGISTRY",
        type=PATH,
        metavar="FILE",
        help="Your own registry.yaml, or a .py file with a method; can be given several times.",
    ),
    "device": click.option(
        "--device",
        metavar="NAME",
        type=Device(),
        default="auto",
        help="Device to compute on: auto (a GPU if there is one), cpu, cuda, or cuda:N for GPU N.",
    ),
    "json": click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    "selection": together(  # what to run
        EXPERIMENT,
        value(
            "--suite",
            "NAME",
            "A named choice of methods, data sets, networks, seeds and protocol; other options replace parts "
            "of it.",
        ),
        value("--methods", "A,B|all", "Methods.  [default: those of the quickstart]"),
        value("--datasets", "A,B|all", "Data sets.  [default: digits]"),
        value("--models", "A,B|all", "Networks.  [default: that of each data set]"),
        value("--seeds", "0..4|0,1", "Seeds.  [default: 0..2]"),
        value(
            "--protocol",
            "NAME",
            "Protocol: threat model, schedule, evaluation.  [default: that of each data set]",
        ),
        value(
            "--attacks",
            "A,B@last|all",
            "Evaluation attacks; NAME@last attacks only the last checkpoint.  [default: those of each data "
            "set]",
        ),
        count("--epochs", "Number of epochs; the schedule is scaled to it."),
        count("--batch-size", "Images per training step.", least=2),
        value(
            "--augment",
            "KIND",
            "Extra augmentation for every method: autoaugment, cutout, mixup, cutmix, or none.",
        ),
        value("--averaging", "KIND", "Weight averaging for every method: ema, fawa, swa, or none."),
        value(
            "--awp",
            "GAMMA",
            "Adversarial weight perturbation for every method: its size, such as 0.005, or none.",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="PATH=VALUE",
            help="Change one setting, for example methods.trix.strength=1.5; several values, "
            "protocol.optimizer.lr=0.1,0.05, make cells of their own. Can be given several times.",
        ),
    ),
    "executor": together(  # where and how cells are run
        value(
            "--executor",
            "NAME",
            "How cells are run: inline (in this process), local (one process per device), slurm, ray, or "
            "file.py:function.  [default: inline; local with --pack, --gpus or --time-limit]",
        ),
        value(
            "--profile",
            "FILE",
            "YAML file with settings of the executor, such as partition, time and GPUs per cell.",
            type=PATH,
            envvar="FAIRBENCH_PROFILE",
        ),
        count("--pack", "Cells to run at the same time on each device, one process each.", default=1),
        value("--gpus", "0,1", "Numbers of the GPUs to use.  [default: all]"),
        value("--time-limit", "2h", "Stop an attempt at a cell after this time.", type=Duration()),
        count("--retries", "How often to restart a cell whose process died.", least=0, default=1),
        click.option(
            "--wait", is_flag=True, help="Wait for cells held by other processes; take over stale ones."
        ),
        click.option("--detach", is_flag=True, help="Submit the job and exit; see `fairbench status`."),
    ),
    "price": together(  # how the time of a plan is estimated and limited
        click.option(
            "--assume-devices",
            "--devices",
            "devices",
            cls=RenamedOption,
            type=click.IntRange(1, 10_000),
            default=1,
            metavar="N",
            help="Number of devices for the time estimate and --budget; it does not limit what a run uses.",
        ),
        value("--budget", "12h", "Choose only cells that fit in this time.", type=Duration()),
    ),
    "record": together(  # which results to show
        value("--methods", "A,B", "Only these methods; tables also show the baseline."),
        value("--datasets", "A,B", "Only these data sets."),
        value("--models", "A,B", "Only these networks."),
        value("--protocol", "NAME", "Only this protocol."),
        renamed("--attacks", "--attack", "A,B", "Only these evaluation attacks.", name="attack"),
        value("--baseline", "NAME", "Method to compare with.", default=BASELINE),
    ),
    "claims": value(
        "--claims",
        "NAMES|FILE",
        "Also show published results: trix, dafa, trix-2026, all, or your own .csv file.",
    ),
}

EXECUTOR_OPTIONS = ("executor", "profile", "pack", "gpus", "time_limit", "retries", "wait", "detach")


def open_registry(files: tuple[Path, ...]) -> "Registry":
    """The registry with the user's files. Prints a warning for each plugin that cannot be used."""
    from fairbench.registry import load_registry

    registry = load_registry(files)
    warn_of_broken(registry)
    return registry


def warn_of_broken(registry: "Registry") -> None:
    """Print a warning for each plugin that cannot be used."""
    for plugin in registry.broken:
        reason = f"{plugin.reason} ({plugin.origin})"
        warn(f"method {plugin.name!r} cannot be used: {reason}")


def read_records(results: Path, **chosen: Any) -> "tuple[list[Record], list[Problem]]":
    """The records that `choose_records` chooses, and the damaged runs. Prints a warning for each fault.

    Raises UnknownNameError for a name that no record has, NoRunsError when nothing fits.
    """
    from fairbench.records.results_folder import scan
    from fairbench.tables.record_choice import choose_records

    records, problems = scan(results)
    for problem in problems:
        warn(str(problem))
    chosen_records = choose_records(records, results, **chosen)
    for record in chosen_records:
        for fault in dict.fromkeys(record.outcome_faults.values()):
            warn(f"{record.folder.name}: {fault}; not used. The next `fairbench run` evaluates it again.")
    return chosen_records, problems


def split_names(text: str | None, option: str) -> list[str] | None:
    """The names in "trix, dafa"; None for all. Raises ConfigError when there are none."""
    from fairbench.core.errors import ConfigError

    if text is None:
        return None
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise ConfigError(f"{option} is empty.", hint="give names, or leave the option out for all")
    return names
