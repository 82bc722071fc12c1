"""Draw the figures of any kind from chosen records."""

from collections.abc import Sequence

from fairbench.core.errors import ConfigError
from fairbench.figures.figure import Figure, FigureOptions
from fairbench.figures.kinds import FEATURES, build_figures
from fairbench.metrics.projection import Projection
from fairbench.records.read import Record
from fairbench.registry import Registry

WITH_BASELINE = ("forest",)  # kinds that mean nothing without the baseline
BOTH_SIDES = ("eps", "weights", "success", FEATURES)  # kinds that cannot show one side alone


def check_options(kind: str, options: FigureOptions, classes: Sequence[str] = ()) -> None:
    """Raise ConfigError for an option that a kind does not have."""
    if classes and kind != FEATURES:
        raise ConfigError(f"--classes is for {FEATURES}; {kind} shows all classes.")
    if options.side is not None and kind in BOTH_SIDES:
        raise ConfigError(
            f"--side {options.side}: {kind} cannot show one side alone.", hint="leave --side out"
        )


def draw_figures(
    kind: str,
    records: Sequence[Record],
    options: FigureOptions,
    *,
    classes: Sequence[str] = (),
    registry: Registry | None = None,
    device: str = "auto",
) -> list[Figure]:
    """The figures of a kind from records that have the baseline's with them.

    For FEATURES only: classes, the two classes; registry, where the code of the networks is found; device,
    where they are computed. Raises NothingToDrawError where the records lack what the kind shows,
    UnknownNameError for an attack or class, ConfigError for an option that the kind does not have.
    """
    check_options(kind, options, classes)
    if options.methods and kind not in WITH_BASELINE:
        records = [record for record in records if record.method in options.methods]
    if kind != FEATURES:
        return build_figures(kind, records, options)
    from fairbench.figures.features import features_figures
    from fairbench.runner.features import project

    assert registry is not None
    networks = registry

    def projected(record: Record, pair: Sequence[int], attack: str, id: str) -> Projection:
        return project(record, networks, pair, attack, id, device)

    return features_figures(records, options, projected, classes)
