"""Class names: what makes a list of them unusable in a table."""

from collections.abc import Sequence


def class_names_fault(names: Sequence[str]) -> str | None:
    """Why `names` cannot name the classes of a data set, or None: one is blank, repeated or unprintable."""
    for position, name in enumerate(names):
        if not name.strip():
            return f"the name of class {position} is blank"
        if not name.isprintable():
            return f"the name of class {position}, {name!r}, has characters that cannot be printed"
    seen: dict[str, int] = {}
    for position, name in enumerate(names):
        first = seen.setdefault(name.strip(), position)
        if first != position:
            return f"two classes have the same name: {first} and {position} are {name.strip()!r}"
    return None
