"""Settings with several values: each makes cells of its own, and values that are lists stay lists."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import ConfigError
from fairbench.planning.overrides import Grid, parse_overrides, read_value, split_values, variants
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import parse_selection
from fairbench.records.cell import Cell
from fairbench.registry import Registry, load_registry

REGISTRY = load_registry([])
VALUES = {  # values of settings as they are typed
    "methods.trix.strength": ("0.5", "1", "2", "3/2"),
    "methods.dafa.warmup_epochs": ("1", "2", "3"),
    "methods.trades.beta": ("1", "6", "6.0"),
    "methods.trix.averaging": ("none", "ema", "swa"),
    "protocol.optimizer.lr": ("0.1", "'1e-2'", "0.05"),
    "protocol.epochs": ("4", "12"),
}
TEXT = st.text(alphabet="01.ab [],'\"", max_size=12)


def cells_of(settings: tuple[str, ...], registry: Registry = REGISTRY, **options: Any) -> list[Cell]:
    chosen = {"methods": "trades,dafa,trix", "seeds": "0", "overrides": settings, **options}
    return resolve(parse_selection(registry, **chosen), registry, Path("nowhere"))[0]


@st.composite
def grids(draw):
    """Values by setting, in the order in which they are typed."""
    paths = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3, unique=True))
    return {path: draw(st.lists(st.sampled_from(VALUES[path]), min_size=1, max_size=3)) for path in paths}


@settings(deadline=None)
@given(grids())
def test_a_grid_is_all_of_its_single_plans_and_each_cell_once(grid):
    found = cells_of(tuple(f"{path}={','.join(values)}" for path, values in grid.items()))
    combinations: list[tuple[str, ...]] = [()]
    for path, values in grid.items():
        combinations = [(*rest, f"{path}={value}") for rest in combinations for value in values]
    expected = {cell.id: cell for settings in combinations for cell in cells_of(settings)}
    assert {cell.id for cell in found} == set(expected)
    assert len(found) == len(expected)
    assert all(cell.identity == expected[cell.id].identity for cell in found)


def test_a_method_without_the_setting_is_planned_once():
    cells = cells_of(("methods.trix.strength=0.5,1,2",), seeds="0..1")
    assert [cell.method for cell in cells if cell.seed == 0] == ["trades", "dafa", "trix", "trix", "trix"]
    assert {str(cell.overrides) for cell in cells if cell.method == "trix"} == {
        f"{{'strength': {value}}}" for value in (0.5, 1.0, 2.0)
    }


def test_components_of_every_method_may_have_several_values_too():
    by_option = {cell.id for cell in cells_of((), averaging="none,ema")}
    assert by_option == {cell.id for kind in ("none", "ema") for cell in cells_of((), averaging=kind)}


@settings(deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4).map(",".join))
def test_commas_outside_of_brackets_and_quotes_separate(text):
    parts = split_values(text)
    assert "".join(text.split()) == "".join(",".join(parts).split())
    for part in parts:
        read_value(part)  # anything is a value
    if not set(text) & set("[]'\""):
        assert parts == [part.strip() for part in text.split(",")]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1", [1]),
        ("0.5,1,2", [0.5, 1, 2]),
        ("[1, 2]", [[1, 2]]),
        ("[1,2],[3]", [[1, 2], [3]]),
        ("'a,b',c", ["a,b", "c"]),
        ("[]", [[]]),
        ("none,ema", ["none", "ema"]),
        ("'1e-3'", ["1e-3"]),
    ],
)
def test_a_value_is_a_scalar_a_list_or_quoted_text(text, values):
    assert [read_value(part) for part in split_values(text)] == values


PLUGIN = '''
from dataclasses import dataclass
from fairbench.api import AdversarialObjective, method

@method("mine", tags=())
class Mine(AdversarialObjective):
    """Mine."""
    @dataclass(frozen=True, kw_only=True)
    class Config:
        widths: tuple[int, ...] = (16, 32)
        more: list[float] | None = None
        table: dict[str, float] | None = None
        word: str = "a"
'''


@pytest.fixture
def mine(tmp_path: Path) -> Registry:
    (tmp_path / "mine.py").write_text(PLUGIN)
    return load_registry([tmp_path / "mine.py"])


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("widths=16,32", (16, 32)),
        ("widths=[16, 32]", (16, 32)),
        ("widths=[16, 32],[64]", Grid(((16, 32), (64,)))),
        ("more=0.5,1", [0.5, 1]),
        ("word=a,b", Grid(("a", "b"))),
        ("word='a,b'", "a,b"),
        ("table=a,b", "a,b"),  # what a comma means there is not known
    ],
)
def test_an_option_that_is_a_list_stays_one(mine, typed, value):
    assert list(parse_overrides([f"methods.mine.{typed}"], mine)["methods.mine"].values()) == [value]


def test_a_default_that_is_typed_as_a_list_is_the_default(mine):
    typed = cells_of(("methods.mine.widths=16,32",), mine, methods="mine")
    assert [cell.id for cell in typed] == [cell.id for cell in cells_of((), mine, methods="mine")]


def test_a_later_value_replaces_a_grid_and_equal_values_count_once():
    items = ("methods.trix.strength=1,2", "methods.trix.strength=3/2,1.5")
    assert parse_overrides(items, REGISTRY) == {"methods.trix": {"strength": 1.5}}


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (("methods.trix.strength=1,,2",), ("methods.trix.strength", "a number")),
        (("methods.trix.strength=1,much",), ("methods.trix.strength", "'much'")),
        (("protocol.evaluation=pgd-20",), ("--attacks",)),
    ],
)
def test_a_wrong_value_of_a_grid_names_its_setting(items, words):
    with pytest.raises(ConfigError) as caught:
        parse_overrides(items, REGISTRY)
    assert all(word in str(caught.value) for word in words)


def test_too_many_combinations_are_refused():
    many = ",".join(map(str, range(40)))
    overrides = parse_overrides((f"methods.trix.strength={many}", f"methods.dafa.strength={many}"), REGISTRY)
    with pytest.raises(ConfigError, match="1600 combinations"):
        next(variants(overrides))
