"""The law of the source: a method imports fairbench.api only, and reads nothing that it was not given."""

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairbench.core.errors import PluginError
from fairbench.registry import describe
from fairbench.testing.law import PACKAGE, BrokenLawError, Subject
from fairbench.testing.purity_laws import HOOKS, global_draws
from fairbench.testing.training import UNBALANCED, Training

API = "fairbench.api"
METHODS = "fairbench_methods"
GENERATORS = (
    "random.",
    "numpy.random.",
    "secrets.",
    "uuid.",
    "torch.random.",
    "torch.manual_seed",
    "torch.seed",
    "torch.set_rng_state",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.Generator",
    "fairbench.api.Draws",
)
DRAWS = (
    "rand",
    "randn",
    "randint",
    "randperm",
    "rand_like",
    "randn_like",
    "randint_like",
    "normal",
    "bernoulli",
    "multinomial",
    "poisson",
)
FILES = (
    "io.open",
    "os.",
    "shutil.",
    "tempfile.",
    "torch.load",
    "torch.save",
    "numpy.load",
    "numpy.loadtxt",
    "numpy.genfromtxt",
    "numpy.fromfile",
    "numpy.save",
    "numpy.savez",
    "pickle.load",
)
FILE_METHODS = ("read_text", "read_bytes", "write_text", "write_bytes")
ENVIRONMENT = ("os.environ", "os.getenv", "sys.argv", "socket.", "platform.", "getpass.")
CLOCK = (
    "time.",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
)
KINDS = (
    ("draws from or seeds a generator of its own", GENERATORS, 'draw from ctx.rng("a purpose")'),
    ("reads the environment", ENVIRONMENT, "make it an option in Config"),
    ("reads the clock", CLOCK, "use ctx.epoch and ctx.step"),
    (
        "reads or writes a file",
        FILES,
        "make it an option in Config, or a constant in the file",
    ),
)


@dataclass(frozen=True)
class MethodSource:
    """Parts of a file's syntax tree, with the full names of what the file imports."""

    path: Path
    lines: list[str]
    tree: ast.Module
    parts: list[ast.AST]

    @property
    def imported(self) -> dict[str, str]:
        """By the name in the file, the full name of each import."""
        names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    names[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        return names

    def place(self, node: ast.AST) -> str:
        """The line of `node`, as "file:line: code"."""
        number = getattr(node, "lineno", 1)
        return f"{self.path.name}:{number}: {self.lines[number - 1].strip()}"


def uses_what_it_is_given(subject: Subject) -> None:
    """The source imports fairbench.api only; it uses no generator, file, clock or environment."""
    for source in sources(subject):
        if subject.path is not None:
            check_imports(source)
        imported = source.imported
        for node in (each for part in source.parts for each in ast.walk(part)):
            check_use(source, node, imported)
    method = subject.build()
    for name in HOOKS:
        setattr(method, name, guarded(name, getattr(method, name)))
    Training(method, labels=UNBALANCED).run()


def guarded(name: str, hook: Callable[..., None]) -> Callable[..., None]:
    """The hook, which raises BrokenLawError when it uses a global random generator."""

    def run(*arguments: Any) -> None:
        with global_draws(name):
            hook(*arguments)

    return run


def sources(subject: Subject) -> Iterator[MethodSource]:
    """The file of the method, or the classes themselves if they are defined elsewhere, as in a test."""
    if subject.path is not None:
        text = subject.path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        parts: list[ast.AST] = [node for node in tree.body if not _is_main(node)]
        yield MethodSource(subject.path, text.splitlines(), tree, parts)
        return
    for cls in subject.cls.__mro__[:-1]:
        file = inspect.getsourcefile(cls)
        if file is None or file.startswith(PACKAGE):
            continue
        text = Path(file).read_text(encoding="utf-8")
        tree = ast.parse(text)
        number = inspect.getsourcelines(cls)[1]
        own = [
            node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls.__name__
        ]
        nearest = sorted(own, key=lambda node: abs(node.lineno - number))[:1]
        yield MethodSource(Path(file), text.splitlines(), tree, list(nearest))


def _is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__main__" in ast.dump(node.test)


def check_imports(source: MethodSource) -> None:
    """Raise BrokenLawError for an import of fairbench's inside or of another method."""
    for node in ast.walk(source.tree):
        for name in imports(node):
            if name == METHODS or name.startswith(f"{METHODS}."):
                raise BrokenLawError(
                    f"the file imports another method: {source.place(node)}.",
                    hint="copy what you need: a change of that method would change yours without notice",
                )
            inside = name == "fairbench" or name.startswith("fairbench.")
            if inside and name not in ("fairbench", API) and not name.startswith(f"{API}."):
                raise BrokenLawError(
                    f"the file imports the inside of fairbench: {source.place(node)}.",
                    hint="import from fairbench.api; its inside changes without notice",
                )
            if is_method_beside(source.path, name):
                raise BrokenLawError(
                    f"the file imports another method: {source.place(node)}.",
                    hint="copy what you need: a change of that method would change yours without notice",
                )


def imports(node: ast.AST) -> list[str]:
    """The full names that a statement imports; those of modules beside the file begin with "."."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        start = "." * node.level + (node.module or "")
        if start == "fairbench":
            return [f"fairbench.{alias.name}" for alias in node.names]
        return [start] if node.module else [f"{start}{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func)
        if called.endswith(("import_module", "__import__")) and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


def is_method_beside(path: Path, name: str) -> bool:
    """Whether `name` is a module in the same folder that holds a method."""
    other = path.parent / f"{name.lstrip('.').replace('.', '/')}.py"
    if other == path or not other.is_file():
        return False
    try:
        describe(other)
    except PluginError:
        return False
    return True


def check_use(source: MethodSource, node: ast.AST, imported: dict[str, str]) -> None:
    """Raise BrokenLawError where `node` uses what a method may not use."""
    if not isinstance(node, ast.Attribute | ast.Name | ast.Call):
        return
    if isinstance(node, ast.Call):
        name = full_name(node.func, imported)
        seeded = any(keyword.arg == "generator" for keyword in node.keywords)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name.removeprefix("torch.") in DRAWS and name.startswith("torch.") and not seeded:
            raise fault(source, node, *KINDS[0][::2])
        if method in FILE_METHODS or name == "open":
            raise fault(source, node, *KINDS[3][::2])
        return
    name = full_name(node, imported)
    for what, names, advice in KINDS:
        for each in names:
            if name == each or name.startswith(f"{each.rstrip('.')}."):
                raise fault(source, node, what, advice)


def fault(source: MethodSource, node: ast.AST, what: str, advice: str) -> BrokenLawError:
    """The error for what a line of the source does."""
    return BrokenLawError(f"the method {what}: {source.place(node)}.", hint=advice)


def full_name(node: ast.AST, imported: dict[str, str]) -> str:
    """ "numpy.random.rand" for np.random.rand; "" for what is no name."""
    if isinstance(node, ast.Name):
        return imported.get(node.id, node.id if node.id == "open" else "")
    if isinstance(node, ast.Attribute):
        inner = full_name(node.value, imported)
        return f"{inner}.{node.attr}" if inner else ""
    return ""
