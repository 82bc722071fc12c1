"""The facts about a method that can be read from its file without running it.

Commands without torch list options, check settings and compute identities. So they read the source code only:
nothing of a plugin or its package is imported here.
"""

import ast
import functools
import importlib.util
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fairbench.core.errors import PluginError
from fairbench.core.home import expanded
from fairbench.core.identity import digest_bytes
from fairbench.core.regular import read_regular
from fairbench.registry.needs import read_needs
from fairbench.registry.options import Option, last_name, read_options

CONTRACT = "AdversarialObjective"
_LABEL = re.compile(r"([A-Z][a-z]+) {2,}(.*)")


@dataclass(frozen=True)
class PluginSource:
    """The facts in the source of one method."""

    path: Path
    class_name: str
    name: str | None  # of its @method decorator
    tags: tuple[str, ...]
    summary: str  # first line of the module's docstring
    doc: dict[str, str]  # its paragraphs: Idea, Objective, Source, Deviates, Cost
    options: dict[str, Option] | None  # None: Config cannot be read without running it
    fingerprint: str  # hash of the code; comments, docstrings and layout do not change it
    needs: dict[str, str] = field(default_factory=dict)  # what the trainer must provide, from `Needs(...)`


@dataclass(frozen=True)
class Target:
    """The two parts of `module:Class` or `file.py:Class`."""

    place: str
    class_name: str | None

    @property
    def is_file(self) -> bool:
        return self.place.endswith(".py")


def parse_target(target: str) -> Target:
    """Module or file, and class, of `target`; the class is None when the target names none."""
    place, _, class_name = target.rpartition(":")
    if place and class_name.isidentifier():
        return Target(place, class_name)
    return Target(target, None)


def locate(target: str, base: Path = Path()) -> Path:
    """The file that holds `target`; a relative file path is relative to `base`. Raises PluginError."""
    place = parse_target(target)
    if place.is_file:
        path = (base / expanded(place.place)).absolute()
        if not path.is_file():
            raise PluginError(f"there is no file {path}")
        return path
    return _locate_module(place.place)


def describe(path: Path, class_name: str | None = None) -> PluginSource:
    """The facts about `class_name` in the file at `path`; by default about its only class with @method.

    The fingerprint covers this one file. Raises PluginError with a message of one line.
    """
    text, tree = _parse(path)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if class_name is None:
        class_name = _single_method(path, classes)
    elif class_name not in classes:
        raise PluginError(f"{path.name} has no class {class_name!r}" + _listed(classes))
    name, tags = _decoration(classes[class_name])
    summary, doc = _paragraphs(ast.get_docstring(tree) or "")
    try:
        options = _options(classes[class_name], text.split("\n"))
        needs = read_needs(classes[class_name], tree, _own_module)
        return PluginSource(path, class_name, name, tags, summary, doc, options, fingerprint(tree), needs)
    except RecursionError as error:
        raise PluginError(f"{path.name} holds an expression too deep to read") from error


def fingerprint(tree: ast.Module) -> str:
    """12 hex digits of the code in `tree`. The docstrings are taken out of `tree` itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
            if not node.body and not isinstance(node, ast.Module):
                node.body = [ast.Pass()]
    return digest_bytes(ast.unparse(tree).encode("utf-8", "surrogatepass"), 12)


def _parse(path: Path) -> tuple[str, ast.Module]:
    try:
        text = importlib.util.decode_source(read_regular(path, links=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for instance of an invalid escape in a string
            return text, ast.parse(text)
    except OSError as error:
        raise PluginError(f"cannot read {path}: {error.strerror or error}") from error
    except SyntaxError as error:
        raise PluginError(f"{path.name}:{error.lineno or 1} is not valid Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise PluginError(f"{path.name} is not valid Python: {error or type(error).__name__}") from error


@functools.cache
def _own_module(module: str) -> ast.Module | None:
    """The tree of a module of fairbench; None when it does not exist."""
    try:
        return _parse(_locate_module(module))[1]
    except PluginError:
        return None


def _locate_module(module: str) -> Path:
    top, *inner = module.split(".")
    if not all(part.isidentifier() for part in (top, *inner)):
        raise PluginError(f"{module!r} is neither a module nor a .py file")
    try:
        spec = importlib.util.find_spec(top)  # of the top level only, which runs no code
    except (ImportError, ValueError) as error:
        raise PluginError(f"no module named {top!r}: {error}") from error
    if spec is None:
        raise PluginError(f"no module named {top!r}")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not inner:
        candidates = [Path(spec.origin)] if spec.has_location and spec.origin else []
    else:
        candidates = list(_submodule_files(folders, inner))
    for candidate in candidates:
        if candidate.suffix == ".py" and candidate.is_file():
            return candidate
    raise PluginError(f"no Python source of the module {module!r}")


def _submodule_files(folders: list[Path], inner: list[str]) -> Iterator[Path]:
    for folder in folders:
        stem = folder.joinpath(*inner)
        yield stem / "__init__.py"
        yield stem.with_name(f"{stem.name}.py")


def _single_method(path: Path, classes: dict[str, ast.ClassDef]) -> str:
    declared = [name for name, node in classes.items() if _method_call(node) is not None]
    if not declared:
        raise PluginError(f'{path.name} has no class with @method("name")')
    if len(declared) > 1:
        raise PluginError(
            f"{path.name} has several methods ({', '.join(declared)}); keep one to a file, "
            f"or name each in a registry file: target: {path.name}:{declared[0]}"
        )
    return declared[0]


def _method_call(node: ast.ClassDef) -> ast.Call | None:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and last_name(decorator.func) == "method":
            return decorator
    return None


def _decoration(node: ast.ClassDef) -> tuple[str | None, tuple[str, ...]]:
    call = _method_call(node)
    if call is None:
        return None, ()
    arguments: dict[str | None, ast.expr] = {keyword.arg: keyword.value for keyword in call.keywords}
    name = call.args[0] if call.args else arguments.get("name")
    tags = arguments.get("tags")
    return (
        name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None,
        tuple(
            item.value
            for item in (tags.elts if isinstance(tags, ast.Tuple | ast.List) else ())
            if isinstance(item, ast.Constant) and isinstance(item.value, str)
        ),
    )


def _options(node: ast.ClassDef, lines: list[str]) -> dict[str, Option] | None:
    for inner in node.body:
        if isinstance(inner, ast.ClassDef) and inner.name == "Config":
            return read_options(inner, lines)
    return {} if set(map(last_name, node.bases)) <= {CONTRACT, "object"} else None


def _paragraphs(docstring: str) -> tuple[str, dict[str, str]]:
    """The first line, and the paragraphs that begin with a label such as "Idea" in the first column."""
    summary, *rest = docstring.splitlines() or [""]
    paragraphs: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in rest:
        label = _LABEL.fullmatch(line.rstrip())
        if label is not None:
            current = paragraphs.setdefault(label[1], [])
            current.append(label[2].strip())
        elif line.startswith(" ") and current is not None:
            current.append(line.strip())
        elif line.strip():
            current = None
    return summary.strip(), {name: " ".join(filter(None, words)) for name, words in paragraphs.items()}


def _listed(classes: dict[str, ast.ClassDef]) -> str:
    return f"; it has {', '.join(classes)}" if classes else ""
