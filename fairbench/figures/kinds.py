"""The kinds of figures by name. The module of a kind is imported when a figure of it is drawn."""

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fairbench.core.errors import ConfigError
from fairbench.figures.figure import Figure, FigureOptions, NothingToDrawError
from fairbench.records.read import Record

if TYPE_CHECKING:
    from fairbench.registry import Registry

KINDS = {  # what each shows
    "classes": "clean and robust accuracy of every class",
    "curves": "loss and accuracy while training, per epoch",
    "front": "average against worst-class accuracy",
    "eps": "robust accuracy at several radii of an attack",
    "confusion": "predicted classes of the images of each class",
    "weights": "values per class that a method logs while training",
    "forest": "differences to the baseline with their intervals",
    "success": "success of untargeted and targeted attacks per class",
    "disparity": "the spread of class accuracies",
    "features": "features of two classes, clean and attacked",
}
FEATURES = "features"  # the only kind that needs the weights and torch
WITH_BASELINE = ("forest",)  # kinds that show differences to the baseline
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
    registry: "Registry | None" = None,
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
    return features_figures(
        records, options, partial(project, registry=registry, device_name=device), classes
    )


def build_figures(kind: str, records: Sequence[Record], options: FigureOptions) -> list[Figure]:
    """The figures of a kind but FEATURES: for each setting, and for each attack if the kind depends on it.

    Raises NothingToDrawError, whose hint names what to run, and UnknownNameError for an attack that no record
    was evaluated under.
    """
    from fairbench.figures.panels import panels, training_panels
    from fairbench.figures.style import figure_style

    module = importlib.import_module(f"fairbench.figures.{kind}")
    with figure_style():
        if kind in ("eps", "forest", "success"):  # a figure of several attacks or settings
            draw_all: Callable[[Sequence[Record], FigureOptions], list[Figure]] = getattr(
                module, f"{kind}_figures"
            )
            return draw_all(records, options)
        draw_one: Callable[..., Figure] = getattr(module, f"{kind}_figure")
        if kind in ("curves", "weights") and options.attack is None:
            specs = training_panels(records, options, single_attack=kind == "curves")
        else:
            specs = panels(records, options)
        figures, errors = [], []
        for spec in specs:
            try:
                figures.append(draw_one(spec, options))
            except NothingToDrawError as error:
                errors.append(error)
        if not figures:
            raise errors[0]
        return figures
