"""The selection grammar of the command line: names, seeds and `--set` overrides."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from fairbench.core.errors import ConfigError
from fairbench.planning.overrides import one_or_grid, parse_component, parse_overrides, split_values
from fairbench.registry import Registry
from fairbench.registry.names import DEFAULT, Base, Term, names_of
from fairbench.registry.protocol import RequestedAttack, Tier
from fairbench.registry.schema import SuiteEntry
from fairbench.registry.seeds import read_seeds

QUICKSTART = "quickstart"
"""The suite that gives methods, data sets and seeds where the user names no suite."""


@dataclass(frozen=True)
class Selection:
    """What to run, by name. What is empty or None is chosen by `fairbench.planning.defaults`."""

    suite: str | None = None
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    attacks: tuple[RequestedAttack, ...] = ()
    seeds: tuple[int, ...] = ()
    protocol: str | None = None
    by_pattern: frozenset[str] = frozenset()
    """The data sets that were not named: chosen by `all`, a pattern or a tag."""
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By section: `protocol`, `methods.<name>`, and `all_methods`; each option name to value or Grid."""


def parse_selection(
    registry: Registry,
    *,
    suite: str | None = None,
    methods: str | None = None,
    datasets: str | None = None,
    models: str | None = None,
    seeds: str | None = None,
    protocol: str | None = None,
    attacks: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    augment: str | None = None,
    averaging: str | None = None,
    awp: str | None = None,
    overrides: Sequence[str] = (),
) -> Selection:
    """The selection that the options of `run` and `plan` describe; each argument is the text of one option.

    Raises ConfigError or UnknownNameError, which name the option.
    """
    changes = parse_overrides(overrides, registry)
    schedule = {"epochs": epochs, "batch_size": batch_size}
    changes.setdefault("protocol", {}).update({k: v for k, v in schedule.items() if v is not None})
    components = {"augment": augment, "averaging": averaging, "awp": awp}
    default = registry.get("suite", suite or QUICKSTART, asked_by=f"--suite {suite}")

    def base(kind: str) -> Base:
        """The names that an exclusion alone takes away from; without a suite, networks have no such names."""
        return lambda: () if suite is None and kind == "model" else suite_names(default, kind, registry)

    chosen = {} if suite is None or datasets is not None else suite_terms(default, "dataset", registry)
    if datasets is not None:
        chosen = names_of(registry, "dataset").choose(datasets, "--datasets", base("dataset"))
    return Selection(
        suite=suite,
        methods=parse_names("method", methods, registry, option="--methods", base=base("method")),
        datasets=tuple(chosen),
        models=parse_names("model", models, registry, option="--models", base=base("model")),
        attacks=parse_attacks(attacks, registry, option="--attacks", base=default.evaluation),
        seeds=parse_seeds(seeds),
        protocol=protocol,
        by_pattern=frozenset(name for name, term in chosen.items() if not term.is_name),
        overrides={
            **changes,
            "all_methods": {
                name: one_or_grid([parse_component(name, part) for part in split_values(text)])
                for name, text in components.items()
                if text is not None
            },
        },
    )


def suite_terms(suite: SuiteEntry, kind: str, registry: Registry) -> dict[str, Term]:
    """The methods, data sets or networks of a suite, each with the term that chooses it."""
    text = ",".join(getattr(suite, f"{kind}s"))
    return names_of(registry, kind).choose(text, f"suites.{suite.name}.{kind}s:")


def suite_names(suite: SuiteEntry, kind: str, registry: Registry) -> tuple[str, ...]:
    """The methods, data sets or networks of a suite."""
    return tuple(suite_terms(suite, kind, registry))


def parse_names(
    kind: str, text: str | None, registry: Registry, *, option: str, base: Base | None = None
) -> tuple[str, ...]:
    """The names that the text of an option chooses, as in `fairbench.registry.names`; () for None."""
    return () if text is None else tuple(names_of(registry, kind).choose(text, option, base))


def parse_attacks(
    text: str | None, registry: Registry, *, option: str, base: Sequence[RequestedAttack] | None = None
) -> tuple[RequestedAttack, ...]:
    """The attacks in "pgd-20,autoattack@last" or "all", each with the checkpoints it is for."""
    if text is None:
        return ()
    own = {item.attack: item.at for item in base or ()}
    chosen = names_of(registry, "attack").choose(text, option, None if base is None else lambda: tuple(own))
    return tuple(
        RequestedAttack(
            attack=name,
            at=own[name] if term.text == DEFAULT else cast("Tier", term.at or "selected"),
        )
        for name, term in chosen.items()
    )


def parse_seeds(text: str | None) -> tuple[int, ...]:
    """The seeds in "0..4", "3" or "0,1,7": a range includes both ends. Raises ConfigError."""
    try:
        return () if text is None else read_seeds(text)
    except ValueError as error:
        raise ConfigError(f"--seeds {text!r}: {error}.", hint="write 0..4, or 0,1,2") from error
