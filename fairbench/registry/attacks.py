"""Evaluation attacks in the registry: PGD, AutoAttack and its parts, A3.

Everything that can change the result of an attack is a setting here, and has a version. Settings that only
change its speed are not.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fairbench.attacks.few_classes import classes_needed
from fairbench.core.errors import ConfigError
from fairbench.registry.fields import (
    TAGS,
    Number,
    RegistryEntry,
    Texts,
    added_later,
    check_pixel_units,
    distinct,
    parse_norm,
    wrong,
)

Norm = Annotated[Literal["linf", "l2"], BeforeValidator(parse_norm)]


def _check_radius(value: float, info: ValidationInfo) -> float:
    if info.data.get("norm") == "l2":  # a length of the whole image; 2 is usual on MNIST
        if value < 0:
            raise wrong(f"expected a number of at least 0, got {value:g}")
        return value
    return check_pixel_units(value, info)


Radius = Annotated[Number, AfterValidator(_check_radius)]


class BaseAttack(RegistryEntry):
    """The settings that all attacks have."""

    version: int = Field(default=1, ge=1, description="increased when the same settings give other results")
    norm: Norm = "linf"
    eps: Radius = Field(description="radius, pixel units of [0, 1]; for l2 a length of the whole image")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="seed of the noise, which is drawn for each image by itself"
    )
    tags: Texts = TAGS


class PgdAttack(BaseAttack):
    """Projected gradient descent (PGD): ascent of a loss inside the ball around an image."""

    kind: Literal["pgd"]
    step_size: Radius = Field(description="same units as eps")
    num_steps: int = Field(ge=1)
    start: Literal["uniform", "gaussian", "none"] = Field(
        default="uniform", description="noise added to the image"
    )
    clip_start: bool = Field(
        default=False, description="clip the noisy start to [0, 1] before the first gradient"
    )
    loss: Literal["ce", "margin"] = Field(
        default="ce", description="cross-entropy, or the margin of Carlini and Wagner"
    )
    success: Literal["last", "every-step"] = Field(
        default="last", description="robust: correct at the last step, or at every step"
    )
    target: Literal["random"] | None = added_later(
        None,
        description="random: move towards a random wrong class, instead of away from the true class",
    )

    @field_validator("target")
    @classmethod
    def _target_needs_cross_entropy(cls, target: str | None, info: ValidationInfo) -> str | None:
        if target is not None and info.data.get("loss") == "margin":
            raise wrong(
                "a target needs loss ce; the margin already moves towards the most probable wrong class"
            )
        return target


AUTOATTACK_PARTS = ("apgd-ce", "apgd-t", "fab-t", "square")


class AutoAttack(BaseAttack):
    """AutoAttack, or some of its parts, each on the images that are still classified correctly."""

    kind: Literal["autoattack"]
    attacks: Literal["standard"] | Texts = Field(
        default="standard", description="standard: all four parts; or a list of parts"
    )
    num_steps: int = Field(default=100, ge=1, description="iterations of apgd-ce, apgd-t and fab-t")
    num_targets: int = Field(
        default=9, ge=1, description="wrong classes that the targeted parts try, at most C - 1"
    )
    num_queries: int = Field(default=5000, ge=1, description="queries of square per image")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the search; its results are always verified in float32"
    )
    engine: Literal["fairbench", "reference"] = Field(
        default="fairbench", description="reference: the authors' code in the package pyautoattack"
    )

    @field_validator("attacks", mode="before")
    @classmethod
    def _standard_or_known(cls, attacks: Any) -> Any:
        if attacks == "standard":
            return attacks
        if not isinstance(attacks, list | tuple) or not attacks:
            raise wrong(f"expected 'standard' or a list of {', '.join(AUTOATTACK_PARTS)}")
        for index, attack in enumerate(attacks):
            if attack not in AUTOATTACK_PARTS:
                raise wrong(f"expected one of {', '.join(AUTOATTACK_PARTS)}, got {attack!r}", index)
        return distinct(tuple(attacks))

    @model_validator(mode="after")
    def _reference_is_as_packaged(self) -> "AutoAttack":
        if self.engine == "reference" and self.num_steps != 100:
            raise wrong("the reference package runs 100 steps only", "num_steps")
        if self.engine == "reference" and self.precision != "float32":
            raise wrong("the reference package searches in float32 only", "precision")
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts in the order in which they run."""
        return AUTOATTACK_PARTS if self.attacks == "standard" else self.attacks


class A3Attack(BaseAttack):
    """Adaptive Auto Attack (arXiv 2203.05154): learned starts, and more steps on easier images."""

    kind: Literal["a3"]
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the search; its results are always verified in float32"
    )


AttackEntry = PgdAttack | AutoAttack | A3Attack
ATTACK_KINDS: dict[str, type[AttackEntry]] = {"pgd": PgdAttack, "autoattack": AutoAttack, "a3": A3Attack}
REFERENCE = ":reference"


def impossible(attack: AttackEntry, num_classes: int | None) -> str:
    """Why the attack cannot be run on images of so many classes; "" when it can, or None are known."""
    needed = classes_needed(attack.parts) if isinstance(attack, AutoAttack) else 2
    if num_classes is None or num_classes >= needed:
        return ""
    return f"it needs at least {needed} classes, and there are {num_classes}"


def require_possible(attacks: Iterable[AttackEntry], num_classes: int | None, dataset: str) -> None:
    """Raise ConfigError when one of the attacks cannot be run on the images of `dataset`."""
    for attack in attacks:
        if reason := impossible(attack, num_classes):
            raise ConfigError(
                f"{attack.name} cannot be run on {dataset}: {reason}.",
                hint="choose other attacks; see: fairbench list attacks",
            )


def read_attack(settings: dict[str, Any]) -> AttackEntry:
    """The attack of a plan's settings, which `model_dump` made."""
    kind = ATTACK_KINDS[settings["kind"]]
    return kind.model_validate({name: settings[name] for name in kind.model_fields if name in settings})
