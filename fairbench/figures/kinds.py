"""The kinds of figures by name. Light: a kind's module is imported when it is drawn."""

import importlib
from collections.abc import Callable, Sequence

from fairbench.figures.figure import Figure, Options
from fairbench.records.read import Record

KINDS = {  # what each shows
    "classes": "clean and robust accuracy of every class",
    "curves": "training, epoch by epoch",
    "front": "average against worst-class accuracy",
    "eps": "robust accuracy over the radius",
    "confusion": "which class the images of each are taken for",
    "weights": "what a method keeps per class while it trains",
    "forest": "differences to the baseline with their intervals",
    "success": "success of untargeted and targeted attacks per class",
    "disparity": "the spread of class accuracies",
    "features": "features of two classes, clean and attacked",
}
FEATURES = "features"  # needs the weights, and so a door that this room does not have


def build_figures(kind: str, records: Sequence[Record], options: Options) -> list[Figure]:
    """The figures of a kind: for each data set, network, protocol and attack, as far as it depends on them.

    Raises NothingToDrawError, which says what to run, and UnknownNameError for an attack that nobody was
    evaluated under.
    """
    from fairbench.figures.panels import every, panels, without_attacks
    from fairbench.figures.style import house_style

    module = importlib.import_module(f"fairbench.figures.{kind}")
    with house_style():
        if kind in ("eps", "forest", "success"):
            whole: Callable[[Sequence[Record], Options], list[Figure]] = getattr(module, f"{kind}_figures")
            return whole(records, options)
        single: Callable[..., Figure] = getattr(module, f"{kind}_figure")
        training = kind in ("curves", "weights") and options.attack is None
        found = (
            without_attacks(records, options, lone=kind == "curves") if training else panels(records, options)
        )
        return every(found, lambda panel: single(panel, options))
