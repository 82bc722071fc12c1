"""Components of training: held-out images, augmentation, weight averaging, AWP, fine-tuning, teachers.

Each is a key of a method's registry entry. All but teachers can be switched on for any method. Epochs are
given for the published length of the protocol and scale with the length of the run, like the options of a
method.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from fairbench.core.errors import ConfigError, suggest
from fairbench.registry.faults import KeyPath, explain
from fairbench.registry.fields import Model, Number, identity_settings, wrong
from fairbench.registry.trained_weights import TEACHERS, FineTune, Teacher, combined


class HoldOut(Model):
    """Leave images of each class out of training; methods and averages use them for validation."""

    share: Number = Field(default=0.06, gt=0, lt=1, description="of the images of each class")
    min_per_class: int = Field(default=10, ge=1, description="images; never more than half of a class")
    pick: Literal["seeded", "first", "last"] = Field(
        default="seeded",
        description="seeded: random images, others for each seed; first, last: by the order of the data set",
    )


_AUGMENT: dict[str, dict[str, Any]] = {
    "autoaugment": {"policy": None},
    "cutout": {"side": None},
    "mixup": {"alpha": 1.4, "min_share": 0.5},
    "cutmix": {"alpha": 1.0, "min_share": 0.5},
}
MIXING = ("mixup", "cutmix")
"""The kinds that give an image two labels."""

CUTOUT_SHARE = 14 / 32
"""Side of Cutout's square / side of the image: best for adversarial training in Rice et al. (ICML 2020)."""


class Augment(Model):
    """More augmentation of training images, after the protocol's crop and flip and before the attack.

    autoaugment  a learned policy of two image operations (arXiv 1805.09501)
    cutout       a square of zeros at a random place (arXiv 1708.04552)
    mixup        weighted mean of two images, with both labels (arXiv 1710.09412)
    cutmix       a rectangle of one image pasted into another, with both labels (arXiv 1905.04899)
    """

    kind: Literal["autoaugment", "cutout", "mixup", "cutmix"]
    policy: Literal["cifar10", "svhn", "imagenet"] | None = Field(
        default=None, description="autoaugment: svhn for SVHN, else cifar10"
    )
    side: int | None = Field(
        default=None, ge=0, description="cutout: pixels, by default 14/32 of the image's side; 0: off"
    )
    alpha: Number | None = Field(
        default=None, ge=0, description="lam ~ Beta(alpha, alpha): mixup 1.4, cutmix 1; 0: off"
    )
    min_share: Number | None = Field(
        default=None,
        ge=0.5,
        le=1,
        description="mixup, cutmix: class statistics use images with at least this share of one label, 0.5",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_its_kind(cls, data: Any) -> Any:
        return with_defaults(_AUGMENT, data)

    @property
    def neutral(self) -> bool:
        """Whether no image is changed: a side or an alpha of 0."""
        return self.side == 0 or self.alpha == 0

    @property
    def mixes(self) -> bool:
        """Whether images get two labels."""
        return self.kind in MIXING

    def fitted(self, reader: str, image_shape: Sequence[int]) -> "Augment":
        """These settings with the defaults that depend on the data set: the policy and the side."""
        if self.kind == "autoaugment" and self.policy is None:
            return self.model_copy(update={"policy": "svhn" if reader == "svhn" else "cifar10"})
        if self.kind == "cutout" and self.side is None:
            return self.model_copy(update={"side": round(CUTOUT_SHARE * min(image_shape[1:]))})
        return self


_AVERAGING: dict[str, dict[str, Any]] = {
    "ema": {"decay": 0.999, "start_epoch": 1, "warmup": True, "batch_norm": "average"},
    "fawa": {"decay": 0.85, "start_epoch": 50, "threshold": 0.2},
    "swa": {"start_epoch": 56, "batch_norm": "recompute"},
}


class Averaging(Model):
    """Average the weights over training, and evaluate the average.

    ema   after every step: average = decay * average + (1 - decay) * weights
    fawa  the same after each epoch in which the worst validation class reaches `threshold` (CFA, arXiv
          2303.14460)
    swa   after every epoch: mean of the weights of all epochs since `start_epoch` (arXiv 1803.05407)
    """

    kind: Literal["ema", "fawa", "swa"]
    decay: Number | None = Field(default=None, ge=0, lt=1, description="ema 0.999, fawa 0.85")
    start_epoch: int | None = Field(default=None, ge=1, description="first epoch: ema 1, fawa 50, swa 56")
    threshold: Number | None = Field(
        default=None, description="fawa: smallest robust accuracy of the worst validation class, 0.2"
    )
    warmup: bool | None = Field(
        default=None, description="ema: after t updates the decay is at most (1 + t)/(10 + t); on by default"
    )
    batch_norm: Literal["average", "copy", "recompute"] | None = Field(
        default=None, description="running statistics: ema averages them, swa recomputes them on clean images"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_its_kind(cls, data: Any) -> Any:
        return with_defaults(_AVERAGING, data)


def with_defaults(kinds: Mapping[str, dict[str, Any]], data: Any) -> Any:
    """`data` with the default options of its kind filled in.

    `kinds`: the options that belong to each kind, with their defaults. Raises PydanticCustomError for an
    option that belongs to other kinds only.
    """
    kind = data.get("kind") if isinstance(data, dict) else None
    options = kinds.get(kind) if isinstance(kind, str) else None
    if options is None:
        return data
    others = {key for each in kinds.values() for key in each} - set(options)
    for key in data:
        if key in others and data[key] is not None:
            raise wrong(f"{kind} has no {key!r}; it accepts {', '.join(options)}", key)
    return {**options, **data}


class WeightPerturbation(Model):
    """Compute gradients at adversarially perturbed weights (AWP, arXiv 2004.05884)."""

    gamma: Number = Field(
        default=0.005, ge=0, description="size of the perturbation relative to the norm of each layer"
    )
    start_epoch: int = Field(default=11, ge=1, description="first epoch with perturbed weights")
    inner: Literal["base", "full"] = Field(
        default="base",
        description="loss that the perturbation raises: without class weights and regularisers, or all of it",
    )


COMPONENTS: dict[str, type[Model]] = {
    "hold_out": HoldOut,
    "augment": Augment,
    "averaging": Averaging,
    "awp": WeightPerturbation,
    "fine_tune": FineTune,
    **dict.fromkeys(TEACHERS, Teacher),
}
SHORTHAND = {
    "augment": "kind",
    "averaging": "kind",
    "awp": "gamma",
    "hold_out": "share",
    "fine_tune": "start",
    **dict.fromkeys(TEACHERS, "start"),
}
"""The option that is set when only the component is named: `averaging=ema` sets `averaging.kind`."""


def component_of(path: str) -> str:
    """The first name of an option path: "averaging" of "averaging.decay"."""
    return path.partition(".")[0]


def is_component(path: str) -> bool:
    """Whether an option path, such as "averaging.decay", names a component, not an option of the method."""
    return component_of(path) in COMPONENTS


def is_off(path: str, value: Any) -> bool:
    """Whether an override switches a whole component off: `averaging=none`, `awp=0`."""
    return "." not in path and value in (None, False, "none")


def own_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without those of components: the options of the method itself."""
    return {key: value for key, value in values.items() if key not in COMPONENTS}


def mixed_labels_error(method: str, kind: str) -> ConfigError:
    """The error for a method that cannot be trained on images with two labels."""
    return ConfigError(
        f"method {method!r} cannot be trained with {kind}: it needs one label per image (one_label).",
        hint=f"leave it out: --set methods.{method}.augment=none",
    )


def component_faults(name: str, value: Any) -> list[tuple[KeyPath, str]]:
    """What is wrong with the settings of component `name`; empty when they are valid."""
    try:
        COMPONENTS[name].model_validate(value)
    except ValidationError as error:
        return explain(error, COMPONENTS[name], name)
    return []


def resolve_components(
    published: Mapping[str, Mapping[str, Any]],
    changes: Mapping[str, Any],
    owner: str,
    scale: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """The components of a run, with a user's changes and with every option written out.

    `published`: the settings of each component in the registry. `changes` by option path:
    {"averaging": "ema", "averaging.decay": 0.99, "awp": None}; None switches a component off. `scale`
    multiplies the published epochs by the length of the run; the user's own values are not scaled. `owner`
    ("methods.trix") begins the option paths in messages. Raises ConfigError for an option that does not exist
    or a value that is not allowed.
    """
    changed: dict[str, dict[str, Any]] = {}
    off = set()
    for path, value in changes.items():
        name, _, option = path.partition(".")
        if is_off(path, value):
            off.add(name)
            changed.pop(name, None)
            continue
        off.discard(name)
        options = changed.setdefault(name, {})
        if option or value is not True:
            options[option or SHORTHAND[name]] = value
    resolved = {}
    for name in COMPONENTS:
        own, settings = changed.get(name, {}), dict(published.get(name) or {})
        if name in off or (name not in published and name not in changed):
            continue
        if "kind" in own and own["kind"] != settings.get("kind"):
            settings = {"kind": own["kind"]}
        filled = _filled(name, settings or (own if name in TEACHERS else {}), owner)
        fixed = {**filled, **own}.get("fixed")  # a fine-tuning that does not scale
        resolved[name] = _filled(name, combined(filled if fixed else scale(filled), own), owner)
    return resolved


def _filled(name: str, settings: dict[str, Any], owner: str) -> dict[str, Any]:
    """The settings of component `name` with its defaults. Raises ConfigError for the first fault."""
    for where, message in component_faults(name, settings):
        place = ".".join([owner, name, *map(str, where)])
        raise ConfigError(f"{place}: {message}", hint=f"for instance: --set {owner}.{EXAMPLES[name]}")
    return identity_settings(COMPONENTS[name].model_validate(settings), exclude_none=True)


EXAMPLES = {
    "hold_out": "hold_out.share=0.06",
    "augment": "augment=cutout",
    "averaging": "averaging=ema",
    "awp": "awp=0.005",
    "fine_tune": "fine_tune.start=pgd-at",
    **{name: f"{name}.start=trades" for name in TEACHERS},
}


def check_path(owner: str, path: str) -> None:
    """Raise ConfigError when `path`, such as "averaging.decay", names no option of its component."""
    name, _, option = path.partition(".")
    known = list(COMPONENTS[name].model_fields)
    if option and option not in known:
        close = suggest(option, known)
        raise ConfigError(
            f"{owner}.{name} has no option {option!r}.",
            hint=f"it accepts: {', '.join(known)}" + (f"\ndid you mean: {close}" if close else ""),
        )
