"""What the house adds to a method's training: held-out images, averaged weights, perturbed weights, a start.

Each is a block of a method's registry entry and can be switched on for any method. Epochs are given for the
protocol's published length and scale with the run, like a method's own options.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from fairbench.core.errors import ConfigError, suggest
from fairbench.registry.faults import KeyPath, explain
from fairbench.registry.fields import Milestones, Model, Number, wrong


class HoldOut(Model):
    """Training images of each class that are never trained on; methods adapt to them."""

    share: Number = Field(default=0.06, gt=0, lt=1, description="of each class")
    min_per_class: int = Field(default=10, ge=1, description="images, but at most half of a class")
    pick: Literal["seeded", "first", "last"] = Field(
        default="seeded", description="a permutation of its own per seed, or the data set's order"
    )


_AVERAGING: dict[str, dict[str, Any]] = {
    "ema": {"decay": 0.999, "start_epoch": 1, "warmup": True, "batch_norm": "average"},
    "fawa": {"decay": 0.85, "start_epoch": 50, "threshold": 0.2},
    "swa": {"start_epoch": 56, "batch_norm": "recompute"},
}


class Averaging(Model):
    """Average the weights over training and evaluate the average.

    ema   after every step: decay * average + (1 - decay) * weights
    fawa  the same after every epoch whose worst validation class is robust enough (CFA, arXiv 2303.14460)
    swa   after every epoch: the plain mean so far (arXiv 1803.05407)
    """

    kind: Literal["ema", "fawa", "swa"]
    decay: Number | None = Field(default=None, ge=0, lt=1, description="ema 0.999, fawa 0.85")
    start_epoch: int | None = Field(default=None, ge=1, description="first epoch: ema 1, fawa 50, swa 56")
    threshold: Number | None = Field(
        default=None, description="fawa: least robust accuracy of the worst validation class, 0.2"
    )
    warmup: bool | None = Field(
        default=None, description="ema: decay at most (1 + t)/(10 + t) after t updates, on"
    )
    batch_norm: Literal["average", "copy", "recompute"] | None = Field(
        default=None, description="of running statistics: ema average, swa recompute on clean images"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_its_kind(cls, data: Any) -> Any:
        own = _AVERAGING.get(data.get("kind", "")) if isinstance(data, dict) else None
        if own is None:
            return data
        for key in data:
            if key in cls.model_fields and key not in own and key != "kind" and data[key] is not None:
                raise wrong(f"{data['kind']} has no {key!r}; it accepts {', '.join(own)}", key)
        return {**own, **data}


class WeightPerturbation(Model):
    """Take the gradient where the weights are adversarially perturbed (AWP, arXiv 2004.05884)."""

    gamma: Number = Field(default=0.005, ge=0, description="perturbation relative to each layer's norm")
    start_epoch: int = Field(default=11, ge=1, description="first epoch with it")
    inner: Literal["base", "full"] = Field(
        default="base",
        description="loss that is raised: without class weights and regularisers, or all of it",
    )


class FineTune(Model):
    """Start from trained weights instead of random ones, and train a shorter schedule at a small rate."""

    start: str = Field(
        default="trades", description="the method that trains the start, under the same protocol"
    )
    epochs: int = Field(default=40, ge=1, description="after the start's own")
    lr: Number = Field(default=0.001, gt=0)
    milestones: Milestones = Field(default={}, description="as a protocol's; none: a constant rate")
    nesterov: bool = False
    hold_out: bool = Field(default=True, description="whether the start too leaves the held-out images out")


COMPONENTS: dict[str, type[Model]] = {
    "hold_out": HoldOut,
    "averaging": Averaging,
    "awp": WeightPerturbation,
    "fine_tune": FineTune,
}
SHORTHAND = {"averaging": "kind", "awp": "gamma", "hold_out": "share", "fine_tune": "start"}
"""The option that a bare value means: `averaging=ema`, `awp=0.01`."""


def is_block(path: str) -> bool:
    """Whether an option path, such as "averaging.decay", belongs to the house rather than to the method."""
    return path.partition(".")[0] in COMPONENTS


def is_off(path: str, value: Any) -> bool:
    """Whether an override switches a whole block off: `averaging=none`, `awp=0`."""
    return "." not in path and value in (None, False, "none")


def without_blocks(values: Mapping[str, Any]) -> dict[str, Any]:
    """The method's own options among a data set's values."""
    return {key: value for key, value in values.items() if key not in COMPONENTS}


def component_faults(name: str, value: Any) -> list[tuple[KeyPath, str]]:
    """What is wrong with the block `name`; empty when it is valid."""
    try:
        COMPONENTS[name].model_validate(value)
    except ValidationError as error:
        return explain(error, COMPONENTS[name], name)
    return []


def resolve_components(
    blocks: Mapping[str, Mapping[str, Any]],
    changes: Mapping[str, Any],
    who: str,
    scale: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """The blocks in the length of the run, with a user's changes, every option written out.

    `changes` by path: {"averaging": "ema", "averaging.decay": 0.99, "awp": None}; None switches a block off.
    `scale` puts epochs in proportion to the run; what the user sets is taken as it is. Raises ConfigError for
    what does not fit.
    """
    asked: dict[str, dict[str, Any]] = {}
    off = set()
    for path, value in changes.items():
        name, _, option = path.partition(".")
        if is_off(path, value):
            off.add(name)
            asked.pop(name, None)
            continue
        off.discard(name)
        chosen = asked.setdefault(name, {})
        if option or value is not True:
            chosen[option or SHORTHAND[name]] = value
    found = {}
    for name in COMPONENTS:
        own, block = asked.get(name, {}), dict(blocks.get(name) or {})
        if name in off or (name not in blocks and name not in asked):
            continue
        if "kind" in own and own["kind"] != block.get("kind"):
            block = {"kind": own["kind"]}
        found[name] = _filled(name, {**scale(_filled(name, block, who)), **own}, who)
    return found


def _filled(name: str, block: dict[str, Any], who: str) -> dict[str, Any]:
    for where, message in component_faults(name, block):
        place = ".".join([who, name, *map(str, where)])
        raise ConfigError(f"{place}: {message}", hint=f"for instance: --set {who}.{EXAMPLES[name]}")
    return COMPONENTS[name].model_validate(block).model_dump(mode="json", exclude_none=True)


EXAMPLES = {
    "hold_out": "hold_out.share=0.06",
    "averaging": "averaging=ema",
    "awp": "awp=0.005",
    "fine_tune": "fine_tune.start=pgd-at",
}


def check_path(who: str, path: str) -> None:
    """Raise ConfigError when `path`, such as "averaging.decay", names no option of a block."""
    name, _, option = path.partition(".")
    known = list(COMPONENTS[name].model_fields)
    if option and option not in known:
        close = suggest(option, known)
        raise ConfigError(
            f"{who}.{name} has no option {option!r}.",
            hint=f"it accepts: {', '.join(known)}" + (f"\ndid you mean: {close}" if close else ""),
        )
