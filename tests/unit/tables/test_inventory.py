"""Which tables the records of a results folder make."""

import pytest

from fairbench.core.errors import UnknownNameError
from fairbench.records.results_folder import scan
from fairbench.tables.inventory import Inventory
from fairbench.tables.request import TableRequest
from fairbench.tables.views import build_tables


@pytest.fixture
def records(results):
    """Two methods under one attack on digits, one without an attack on stl10, one that failed."""
    results.run("trades", 0)
    results.run("trades", 1)
    results.run("dafa", 0)
    results.run("wat", 0, state="failed")
    results.run("trades", 0, dataset="stl10", attack=None)
    return scan(results.path)[0]


def place(spec):
    return spec.setting.key.dataset, spec.attack.name if spec.attack else ""


def test_there_is_a_table_per_attack_and_one_without_where_none_was_evaluated(records):
    inventory = Inventory(records)
    assert [place(spec) for spec in inventory.specs()] == [("digits", "pgd-20"), ("stl10", "")]
    apart = inventory.specs(clean_apart=True)
    assert [place(spec) for spec in apart] == [("digits", ""), ("digits", "pgd-20"), ("stl10", "")]
    assert [place(spec) for spec in inventory.specs("pgd-20", clean_apart=True)] == [("digits", "pgd-20")]
    with pytest.raises(UnknownNameError, match="did you mean: pgd-20"):
        inventory.specs("pgd-2")


def test_the_same_setting_and_attack_give_the_same_table(records):
    inventory = Inventory(records)
    (digits, _) = inventory.settings
    assert inventory.specs()[0] is inventory.spec(digits, digits.attacks[0])


def test_rows_are_the_done_entries_with_the_baseline_first(records):
    spec = Inventory(records, baseline="trades", order=("wat", "dafa")).specs()[0]
    assert [entry.label for entry in spec.entries] == ["trades", "dafa"]
    assert [entry.label for entry in spec.all_entries] == ["dafa", "trades", "wat"]
    assert spec.base is spec.entries[0]
    assert Inventory(records, baseline="wat").specs()[0].base is None


@pytest.mark.parametrize("view", ["main", "fairness", "classes", "comparison"])
def test_tables_are_those_of_the_inventory(records, view):
    request = TableRequest(view=view)
    specs = Inventory(records).specs(clean_apart=not request.sides_together)
    tables = build_tables(records, request)
    assert [(table.dataset, table.attack) for table in tables] == [place(spec) for spec in specs]
