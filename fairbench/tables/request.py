"""What a table shows: its view, its columns, the baseline, the order of its rows and its errors."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from fairbench.core.errors import ConfigError, RecordError, UnknownNameError
from fairbench.metrics.rho import BASELINE, Convention, check_convention
from fairbench.records.read import AttackKey
from fairbench.tables.columns import SIDES, measure
from fairbench.tables.table import RULES, ErrorKind

TAIL = "worst-tail"
VIEWS = {  # the columns of a view; one table per side where more than four columns of each would not fit
    "main": ("average", "worst", "floor", "rho"),
    "fairness": ("worst", "limits", "floor", "split-half", TAIL, "gap", "deviation"),
    "classes": (),
    "comparison": (),
}


@dataclass(frozen=True)
class TableRequest:
    """The options of a table. `columns` by name, those of the view when empty; `order` of methods.

    rules: the version of the rules that mark and print numbers, see `table.RULES`.
    """

    view: str = "main"
    columns: tuple[str, ...] = ()
    baseline: str = BASELINE
    order: tuple[str, ...] = ()
    error: ErrorKind = "t95"
    convention: Convention = "signed"
    rules: int = RULES

    def __post_init__(self) -> None:
        """Raises UnknownNameError for a view or column, ConfigError for an error or a rule of rho."""
        if str(self.convention) == "printed":  # which published tables have
            raise ConfigError(
                "--rho printed is for --published.", hint="use --rho signed or --rho trix for our results"
            )
        check_convention(self.convention)
        if self.error not in get_args(ErrorKind):
            raise ConfigError(f"no kind of error called {self.error!r}.", hint="known: t95, sd")
        if not 1 <= self.rules <= RULES:
            raise ConfigError(f"this fairbench has rules 1 to {RULES}, not {self.rules}.", hint="update it")
        if self.view not in VIEWS:
            raise UnknownNameError("view", self.view, VIEWS, asked_by=f"--view {self.view}")
        if self.columns and not VIEWS[self.view]:
            raise ConfigError(
                f"the view {self.view!r} has columns of its own.", hint="leave --columns out, or --view main"
            )
        for name in self.columns:
            measure(name)  # raises for an unknown column

    @property
    def sides_together(self) -> bool:
        """Whether one table has both sides; otherwise clean and robust accuracy have a table each."""
        return self.view == "main"

    def sides(self, attack: AttackKey | None) -> tuple[str, ...]:
        """The sides in a table under `attack`."""
        if self.sides_together:
            return SIDES
        return ("clean",) if attack is None else ("robust",)

    @property
    def compares(self) -> bool:
        """Whether the table needs the baseline."""
        return self.view == "comparison" or "rho" in self.names

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of each side."""
        return self.columns or VIEWS[self.view]

    def for_classes(self, num_classes: int) -> "TableRequest":
        """The request with every column named; the tail is 30 % of few classes, 10 % of 50 or more."""
        tail = "worst-10" if num_classes >= 50 else "worst-30"
        return replace(self, columns=tuple(tail if name == TAIL else name for name in self.names))

    def to_json(self) -> dict[str, Any]:
        """The options as JSON values."""
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in _FIELDS}

    @classmethod
    def from_json(cls, options: Mapping[str, Any]) -> "TableRequest":
        """The request that `to_json` wrote. Raises RecordError for anything else."""
        options = {"rules": 1, **options}  # stamps from before there were versions of the rules
        if set(options) != set(_FIELDS):
            raise RecordError(f"these are not the options of a table: {', '.join(sorted(options))}.")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        for name, value in values.items():
            listed = name in ("columns", "order")
            kind = int if name == "rules" else str
            parts = value if listed and isinstance(value, tuple) else (value,)
            if listed != isinstance(value, tuple) or not all(isinstance(part, kind) for part in parts):
                raise RecordError(f"the option {name!r} of a table cannot be {value!r}.")
        return cls(**values)


_FIELDS = tuple(field.name for field in fields(TableRequest))
