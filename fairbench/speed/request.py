"""What `fairbench bench` measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from fairbench.core.errors import ConfigError
from fairbench.planning.selection import parse_names
from fairbench.registry import Registry
from fairbench.registry.protocol import Precision


@dataclass(frozen=True)
class SpeedRequest:
    """What to measure, in `rounds` timed blocks of about `seconds` each."""

    methods: Sequence[str]
    models: Sequence[str]
    precisions: Sequence[Precision]
    dataset: str
    protocol: str
    batch_size: int | None = None
    seconds: float = 5.0
    rounds: int = 3
    reference: bool = True
    ablate: bool = False
    profile: bool = False


def parse_request(
    registry: Registry, *, methods: str, models: str, precisions: str, **settings: Any
) -> SpeedRequest:
    """The request that the options of `bench` describe; names are separated by commas.

    Raises ConfigError or UnknownNameError, which name the option.
    """
    for kind in ("dataset", "protocol"):
        registry.get(kind, settings[kind], asked_by=f"--{kind}")
    return SpeedRequest(
        methods=parse_names("method", methods, registry, option="--methods"),
        models=parse_names("model", models, registry, option="--models"),
        precisions=parse_precisions(precisions),
        **settings,
    )


def parse_precisions(text: str) -> tuple[Precision, ...]:
    """The precisions in "fp32,bf16". Raises ConfigError for an unknown one."""
    known: tuple[Precision, ...] = get_args(Precision)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--precisions {text}: no precision called {name!r}.", hint=f"known: {', '.join(known)}"
            )
    return tuple(name for name in known if name in names)
