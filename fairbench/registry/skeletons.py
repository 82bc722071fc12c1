"""Plugins to start from: what `fairbench new --like` writes.

Each is a file of the folder `skeletons`, a working method called NAME, with the class and the title below.
"""

from dataclasses import dataclass

from fairbench.core.imports import shipped

NAME, CLASS, TITLE = "new-method", "NewMethod", "NEW-METHOD"

FINE_TUNE = """\
    # fine_tune: {start: trades, epochs: 2, lr: 0.01, fixed: true}  # FAAL starts from trained weights
"""

TEACHER = """\
    teacher: {start: trades}  # a method, which is trained first
    # teacher: {start: trades, model: NAME}  # the same with a larger network
    # teacher: {weights: FILE, model: NAME}  # your own weights
"""


@dataclass(frozen=True)
class Skeleton:
    """A plugin to start from, in `file`, and the components in its registry entry."""

    shape: str
    file: str
    option: str  # an example of a value per data set
    components: str = ""
    needs_registry: bool = False  # whether the method does not train without its registry entry

    def plugin(self, name: str, class_name: str, title: str) -> str:
        """The code of the plugin for a method with these names."""
        code = (shipped("skeletons") / f"{self.file}.py").read_text(encoding="utf-8")
        return code.replace(NAME, name).replace(CLASS, class_name).replace(TITLE, title)


DEFAULT = Skeleton("a class weight that is updated after every epoch", "default", "strength: 1.5")
SKELETONS = {
    "trades": Skeleton("an attack and a loss", "trades", "beta: 4.0"),
    "dafa": Skeleton("class weights and radii from the confusion between classes", "dafa", "strength: 1.5"),
    "faal": Skeleton("a class adversary in every batch", "faal", "radius: 0.3", FINE_TUNE),
    "rslad": Skeleton("a teacher", "rslad", "adv_share: 0.7", TEACHER, needs_registry=True),
}
"""Skeletons by the method whose structure they follow."""
