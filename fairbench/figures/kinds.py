"""The kinds of figures by name. The module of a kind is imported when a figure of it is drawn."""

import importlib
from collections.abc import Callable, Sequence

from fairbench.figures.figure import Figure, FigureOptions, NothingToDrawError
from fairbench.records.read import Record

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
FEATURES = "features"  # needs the weights and torch: drawn by features.py, which is given them


def build_figures(kind: str, records: Sequence[Record], options: FigureOptions) -> list[Figure]:
    """The figures of a kind but FEATURES: for each setting, and for each attack if the kind depends on it.

    Raises NothingToDrawError, whose hint says what to run, and UnknownNameError for an attack that no record
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
