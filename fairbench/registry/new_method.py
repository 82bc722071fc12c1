"""Write a new method to start from, alone or as a package that can be installed."""

import importlib.metadata
import importlib.util
import keyword
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

from fairbench.core.errors import ConfigError, ResultsError
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
    words = {"name": name, "module": module_of(name), "class_name": class_of(name), "title": name.upper()}
    skeleton = DEFAULT if like is None else SKELETONS[like]
    contents = (single_files if package is None else package_files)(words, skeleton)
    files = {(package or Path()) / place: text for place, text in contents.items()}
    write_new(files)
    return NewMethod(tuple(files), tuple(next_commands(words, package, skeleton)))


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
    if packaged and distributed(f"fairbench-{name}"):
        raise ConfigError(f"'fairbench-{name}' is installed already.", hint="choose another name")


def installed(module: str) -> bool:
    """Whether Python finds a module of this name outside the current folder."""
    spec = importlib.util.find_spec(module)
    return spec is not None and (spec.origin is None or Path(spec.origin).parent != Path.cwd())


def distributed(name: str) -> bool:
    """Whether a package of this name is installed."""
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def module_of(name: str) -> str:
    """The module of a method: my_method for my-method."""
    return name.replace("-", "_")


def class_of(name: str) -> str:
    """The class of a method: MyMethod for my-method."""
    return "".join(part.capitalize() for part in name.split("-"))


def single_files(words: dict[str, str], skeleton: Skeleton) -> dict[Path, str]:
    """A plugin file, a registry file that names it, and its test: text by path."""
    module = words["module"]
    return {
        Path(f"{module}.py"): filled(skeleton.plugin, words),
        Path("registry.yaml"): registry_file(words, skeleton, target=filled(templates.TARGET, words)),
        Path(f"test_{module}.py"): filled(templates.TEST, words, method=f"{module}.py"),
    }


def package_files(words: dict[str, str], skeleton: Skeleton) -> dict[Path, str]:
    """A package with an entry point for the method, and its test: text by path."""
    module, source = words["module"], Path("src") / f"fairbench_{words['module']}"
    return {
        Path("pyproject.toml"): filled(templates.PYPROJECT, words),
        Path("README.md"): readme(words, skeleton),
        source / "__init__.py": filled(templates.INIT, words),
        source / f"{module}.py": filled(skeleton.plugin, words),
        Path("registry.yaml"): registry_file(words, skeleton, target=""),
        Path("tests") / f"test_{module}.py": filled(templates.TEST, words, method=words["name"]),
    }


def registry_file(words: dict[str, str], skeleton: Skeleton, target: str) -> str:
    """The registry file that names the method."""
    more = {"components": skeleton.components, "option": skeleton.option}
    return filled(templates.REGISTRY, words, target=target, **more)


def readme(words: dict[str, str], skeleton: Skeleton) -> str:
    """The README of a package."""
    needed = skeleton.needs_registry
    return filled(
        templates.README,
        words,
        registry_option=" --registry registry.yaml" if needed else "",
        registry_use=templates.REQUIRED if needed else templates.OPTIONAL,
    )


def filled(template: str, words: dict[str, str], **more: str) -> str:
    """A template with its words put in."""
    return Template(template).substitute(words | more)


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


def next_commands(words: dict[str, str], package: Path | None, skeleton: Skeleton) -> list[str]:
    """The commands that install, check, test and run the new method."""
    module, name = words["module"], words["name"]
    if package is not None:
        registry = f" --registry {shlex.quote(str(package / 'registry.yaml'))}"
        return [
            f"python -m pip install -e {shlex.quote(f'{package}[test]')}",
            f"fairbench check {name}",
            f"python -m pytest {shlex.quote(str(package))}",
            f"fairbench run{registry if skeleton.needs_registry else ''} --methods {name}",
        ]
    return [
        f"fairbench check {module}.py",
        f"python -m pytest test_{module}.py",
        f"fairbench run --registry registry.yaml --methods {name}",
    ]
