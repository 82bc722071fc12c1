"""The attacks of an evaluation by name, with another radius or seed where the user asks for it."""

from typing import Any

from pydantic import ValidationError

from fairbench.core.errors import ConfigError
from fairbench.planning.defaults import requested_attacks
from fairbench.planning.selection import parse_names
from fairbench.registry import AttackEntry, Registry, read_scalar
from fairbench.registry.faults import explain
from fairbench.registry.fields import parse_number


def choose_attacks(
    names: str, registry: Registry, *, eps: str | None = None, seed: int | None = None
) -> dict[str, AttackEntry]:
    """The attacks in "pgd-20,autoattack" or "all", by name.

    eps: a radius such as "8/255" instead of the attacks' own; PGD's step size is scaled with it. seed: of the
    attacks' random numbers. Raises UnknownNameError for an attack, ConfigError for a radius that cannot be.
    """
    chosen = parse_names("attack", names, registry, option="--attacks")
    attacks: dict[str, AttackEntry] = {name: registry.get("attack", name) for name in chosen}
    norms = sorted({attack.norm for attack in attacks.values()})
    if eps is not None and len(norms) > 1:
        raise ConfigError(
            f"--eps {eps}: the attacks use different norms, {' and '.join(norms)}.",
            hint="evaluate each norm by itself; attacks that are done are not computed again",
        )
    return {name: _changed(attack, eps, seed) for name, attack in attacks.items()}


def default_attack(registry: Registry, dataset: str) -> str:
    """The PGD attack among the default attacks of a data set; pgd-20 where there is none.

    Raises UnknownNameError for a data set that is not registered.
    """
    defaults = registry.get("dataset", dataset, asked_by=f"--datasets {dataset}").defaults
    requested = () if defaults is None else requested_attacks(defaults.attacks, defaults.protocol, registry)
    names = [each.attack for each in requested]
    return next((name for name in names if registry.get("attack", name).kind == "pgd"), "pgd-20")


def _changed(attack: AttackEntry, eps: str | None, seed: int | None) -> AttackEntry:
    """The attack with this radius and seed; None leaves its own."""
    if eps is None and seed is None:
        return attack
    settings: dict[str, Any] = attack.model_dump()
    if seed is not None:
        settings["seed"] = seed
    if eps is not None:
        settings["eps"] = read_scalar(eps.strip())
        radius = parse_number(settings["eps"])
        if attack.kind == "pgd" and isinstance(radius, int | float):
            settings["step_size"] = attack.step_size * radius / attack.eps
    try:
        return type(attack).model_validate(settings)
    except ValidationError as error:
        _, message = explain(error, type(attack), "the attack")[0]
        raise ConfigError(f"--eps {eps}: {message}.", hint="write for instance --eps 8/255") from error
