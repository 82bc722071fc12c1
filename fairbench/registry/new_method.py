"""Write a new method to start from, alone or as a package that can be installed."""

import importlib.util
import keyword
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

from fairbench.core.errors import ConfigError, ResultsError
from fairbench.core.imports import version_of
from fairbench.registry import load_registry, read_scalar, templates
from fairbench.registry.declare import RESERVED
from fairbench.registry.fields import NAME
from fairbench.registry.skeletons import DEFAULT, SKELETONS, Skeleton


@dataclass(frozen=True)
class NewMethod:
    """The files that were written, and the commands to type next."""

    files: tuple[Path, ...]
    commands: tuple[str, ...]


def write_method(name: str, package: Path | None = None, like: str | None = None) -> NewMethod:
    """Write a working method called `name` here, or as a package in the new folder `package`.

    `like` is a name in SKELETONS: the method whose shape the new one has. Raises ConfigError for a name that
    cannot be used and for a file that exists, and then writes nothing; ResultsError where nothing can be
    written.
    """
    check_name(name, packaged=package is not None)
    skeleton = DEFAULT if like is None else SKELETONS[like]
    words = words_of(name, package, skeleton)
    plugin = skeleton.plugin(name, class_of(name), name.upper())
    contents = templates.FILES if package is None else templates.PACKAGE
    files = {
        (package or Path()) / filled(place, words): filled(text, words) if text else plugin
        for place, text in contents.items()
    }
    write_new(files)
    commands = templates.COMMANDS if package is None else templates.PACKAGE_COMMANDS
    return NewMethod(tuple(files), tuple(filled(commands, words).splitlines()))


def words_of(name: str, package: Path | None, skeleton: Skeleton) -> dict[str, str]:
    """What the templates call `$name`, `$module` and so on."""
    words = {"name": name, "module": module_of(name), "class_name": class_of(name), "title": name.upper()}
    words |= {"components": skeleton.components, "option": skeleton.option}
    if package is None:
        return words | {"method": f"{words['module']}.py", "target": filled(templates.TARGET, words)}
    needed = skeleton.needs_registry
    return words | {
        "method": name,
        "target": "",
        "package": shlex.quote(str(package)),
        "package_with_tests": shlex.quote(f"{package}[test]"),
        "registry_option": " --registry registry.yaml" if needed else "",
        "own_registry": f" --registry {shlex.quote(str(package / 'registry.yaml'))}" if needed else "",
        "registry_use": templates.REQUIRED if needed else templates.OPTIONAL,
    }


def check_name(name: str, *, packaged: bool) -> None:
    """Raise ConfigError unless a method can be called `name`."""
    module = module_of(name)
    words = (module, class_of(name))
    odd = name.endswith("-") or "--" in name or name in RESERVED or read_scalar(name) != name  # null, true
    if odd or not NAME.fullmatch(name) or not module.isidentifier() or any(map(keyword.iskeyword, words)):
        raise ConfigError(
            f"{name!r} cannot be the name of a method.",
            hint="use lower-case letters, digits and hyphens, a letter first, and no Python keyword: "
            "my-method",
        )
    if name in load_registry().methods:
        raise ConfigError(
            f"there is a method called {name!r} already.", hint="see all: fairbench list methods"
        )
    taken = f"fairbench_{module}" if packaged else module
    if taken in sys.stdlib_module_names or installed(taken):
        raise ConfigError(
            f"{taken!r} is an installed module, which {name!r} would hide.", hint="choose another name"
        )
    if packaged and version_of(f"fairbench-{name}"):
        raise ConfigError(f"'fairbench-{name}' is installed already.", hint="choose another name")


def installed(module: str) -> bool:
    """Whether Python finds a module of this name outside the current folder."""
    spec = importlib.util.find_spec(module)
    return spec is not None and (spec.origin is None or Path(spec.origin).parent != Path.cwd())


def module_of(name: str) -> str:
    """The module of a method: my_method for my-method."""
    return name.replace("-", "_")


def class_of(name: str) -> str:
    """The class of a method: MyMethod for my-method."""
    return "".join(part.capitalize() for part in name.split("-"))


def filled(template: str, words: dict[str, str]) -> str:
    """A template with its words put in."""
    return Template(template).substitute(words)


def write_new(files: dict[Path, str]) -> None:
    """Write files that do not exist yet. Raises ConfigError, and writes nothing, when one does."""
    there = [str(path) for path in files if path.exists()]
    if there:
        raise ConfigError(
            f"{', '.join(there)} {'exist' if len(there) > 1 else 'exists'}, and nothing is overwritten.",
            hint="choose another name, or another folder: mkdir mymethod && cd mymethod",
        )
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ResultsError(
            f"cannot write {error.filename}: {error.strerror}.", hint="choose a folder that you may write to"
        ) from error
