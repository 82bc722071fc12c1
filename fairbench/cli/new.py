"""`fairbench new`: write a method to start from, alone or as a package."""

import importlib.metadata
import importlib.util
import keyword
import shlex
import sys
from pathlib import Path
from string import Template

import click

from fairbench.cli import templates
from fairbench.core.errors import ConfigError, ResultsError


@click.command("new", epilog="Example: fairbench new method floor")
@click.argument("kind", type=click.Choice(["method"]))
@click.argument("name")
@click.option(
    "--package",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a package that can be installed, in a new folder.",
)
def new_command(kind: str, name: str, package: Path | None) -> None:
    """Write a small method that works, its registry entry and its test; nothing is overwritten."""
    check_name(name, package)
    words = {"name": name, "module": module_of(name), "class_name": class_of(name), "title": name.upper()}
    files = alone(words) if package is None else packaged(words)
    folder = Path() if package is None else package
    write_new({folder / place: text for place, text in files.items()})
    click.echo(f"wrote {', '.join(str(folder / place) for place in files)}\n\nnext:")
    for line in next_steps(words, package):
        click.echo(f"  {line}")


def check_name(name: str, package: Path | None) -> None:
    """Raise ConfigError unless a method may be called so."""
    from fairbench.registry import load_registry, read_scalar
    from fairbench.registry.declare import RESERVED
    from fairbench.registry.fields import NAME

    module = module_of(name)
    words = (module, class_of(name))
    odd = name.endswith("-") or "--" in name or name in RESERVED or read_scalar(name) != name  # null, true
    if odd or not NAME.fullmatch(name) or not module.isidentifier() or any(map(keyword.iskeyword, words)):
        raise ConfigError(
            f"{name!r} cannot be the name of a method.",
            hint="lower-case letters, digits and hyphens, a letter first, no word of Python: my-method",
        )
    if name in load_registry().methods:
        raise ConfigError(
            f"there is a method called {name!r} already.", hint="see all: fairbench list methods"
        )
    taken = f"fairbench_{module}" if package is not None else module
    if taken in sys.stdlib_module_names or installed(taken):
        raise ConfigError(
            f"{taken!r} is an installed module, which {name!r} would hide.", hint="choose another name"
        )
    if package is not None and distributed(f"fairbench-{name}"):
        raise ConfigError(f"'fairbench-{name}' is installed already.", hint="choose another name")


def installed(module: str) -> bool:
    """Whether Python finds a module of this name elsewhere than in the current folder."""
    spec = importlib.util.find_spec(module)
    return spec is not None and (spec.origin is None or Path(spec.origin).parent != Path.cwd())


def distributed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def module_of(name: str) -> str:
    return name.replace("-", "_")


def class_of(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def alone(words: dict[str, str]) -> dict[Path, str]:
    """A plugin file, a registry file that names it, and its test."""
    module = words["module"]
    return {
        Path(f"{module}.py"): filled(templates.METHOD, words),
        Path("registry.yaml"): filled(templates.REGISTRY, words, target=filled(templates.TARGET, words)),
        Path(f"test_{module}.py"): filled(templates.TEST, words, method=f"{module}.py"),
    }


def packaged(words: dict[str, str]) -> dict[Path, str]:
    """The same as a package with an entry point."""
    module, source = words["module"], Path("src") / f"fairbench_{words['module']}"
    return {
        Path("pyproject.toml"): filled(templates.PYPROJECT, words),
        Path("README.md"): filled(templates.README, words),
        source / "__init__.py": filled(templates.INIT, words),
        source / f"{module}.py": filled(templates.METHOD, words),
        Path("registry.yaml"): filled(templates.REGISTRY, words, target=""),
        Path("tests") / f"test_{module}.py": filled(templates.TEST, words, method=words["name"]),
    }


def filled(template: str, words: dict[str, str], **more: str) -> str:
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


def next_steps(words: dict[str, str], package: Path | None) -> list[str]:
    """What to type next."""
    module, name = words["module"], words["name"]
    if package is not None:
        return [
            f"python -m pip install -e {shlex.quote(f'{package}[test]')}",
            f"fairbench check {name}",
            f"python -m pytest {shlex.quote(str(package))}",
            f"fairbench run --methods {name}",
        ]
    return [
        f"fairbench check {module}.py",
        f"python -m pytest test_{module}.py",
        f"fairbench run --registry registry.yaml --methods {name}",
    ]
