"""Which records a table is made from."""

from dataclasses import replace

import pytest

from fairbench.core.errors import UnknownNameError
from fairbench.records.results_folder import scan
from fairbench.tables.record_choice import NoRunsError, choose_records


@pytest.fixture
def records(results):
    for method in ("trades", "dafa", "trix"):
        results.run(method)
    results.run("dafa", dataset="cifar10")
    return scan(results.path)[0]


@pytest.fixture
def chosen(records, results):
    """Method and data set of the records that options choose."""
    return lambda **options: [
        (record.method, record.dataset) for record in choose_records(records, results.path, **options)
    ]


def test_the_baseline_comes_with_the_methods_that_are_compared_with_it(chosen):
    assert chosen(methods=["trix"]) == [("trades", "digits"), ("trix", "digits")]
    others = [("dafa", "cifar10"), ("dafa", "digits"), ("trix", "digits")]
    assert chosen(methods=["trix"], baseline="dafa") == others


def test_data_sets_protocols_and_cells_are_chosen(chosen, records):
    assert chosen(datasets=["cifar10"]) == [("dafa", "cifar10")]
    ids = {record.id for record in records if record.method == "trix"}
    assert chosen(protocol="quickstart", ids=ids) == [("trix", "digits")]


def test_a_run_that_supplies_the_weights_for_another_is_left_out(records, results):
    starts = [replace(record, cell=replace(record.cell, preparation=True)) for record in records]
    with pytest.raises(NoRunsError, match="there are no runs in"):
        choose_records(starts, results.path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": ["trixx"]}, "did you mean: trix"),
        ({"datasets": ["digit"]}, "did you mean: digits"),
        ({"protocol": "quikstart"}, "did you mean: quickstart"),
        ({"baseline": "trade"}, "did you mean: trades"),
    ],
)
def test_an_unknown_name_suggests_one_of_the_records(chosen, options, said):
    with pytest.raises(UnknownNameError, match=said):
        chosen(**options)


def test_options_that_no_record_fits_are_an_error(chosen):
    with pytest.raises(NoRunsError, match="fit the options"):
        chosen(methods=["trix"], datasets=["cifar10"], baseline="trix")


@pytest.mark.parametrize(
    ("options", "methods"),
    [
        ({"methods": "all,-trix"}, {"trades", "dafa"}),
        ({"methods": "t*"}, {"trades", "trix"}),
        ({"methods": "tag:targeted"}, {"trades", "trix"}),  # with the baseline
        ({"models": "cnn-*"}, {"trades", "dafa", "trix"}),
    ],
)
def test_records_are_chosen_by_the_same_terms_as_cells(chosen, options, methods):
    assert {method for method, _ in chosen(**options)} == methods
