"""What an export says of a model: RobustBench's name and JSON, from the record's own outcomes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcome_files import whole_cell, write_outcomes

from fairbench.core.errors import ConfigError
from fairbench.records.cell import protocol_identity
from fairbench.records.parse import parse_cell
from fairbench.records.read import Evaluation, Record
from fairbench.registry import load_registry
from fairbench.registry.schema import MethodEntry, Paper
from fairbench.runner.export import chosen_epoch, describe, fraction, robustbench_name, year_of

LABELS = [0, 1, 0, 1, 0, 1, 0, 1]
REGISTRY = load_registry()
PROTOCOL = protocol_identity(REGISTRY.get("protocol", "trix-150"))


@pytest.fixture
def record(tmp_path):
    """A record of eight images: at each epoch `clean` and the attacks given as name=(right, settings)."""

    def make(*epochs, threat=8 / 255, subset=None, dataset="cifar10", **attacks):
        evaluations, items = [], [("clean", (8, {})), *attacks.items()]
        for epoch in epochs:
            for attack, (right, _) in items:
                file = f"{attack}-{epoch}.npy"
                correct = [i < right for i in range(8)]
                digest = write_outcomes(tmp_path / file, LABELS, LABELS, correct)
                evaluations.append({"attack": attack, "epoch": epoch, "file": file, "digest": digest})
        cell = {
            **dict.fromkeys(("model", "protocol"), "any"),
            "seed": 0,
            "dataset": dataset,
            "method": "trades",
            "identity": {
                "protocol": {**PROTOCOL, "threat": {"eps": threat, "norm": "linf"}, "subset": subset}
            },
            "evaluation": [{"name": name, **settings} for name, (_, settings) in attacks.items()],
        }
        return Record(
            tmp_path,
            parse_cell(whole_cell(cell), tmp_path / "cell.json"),
            epochs_evaluated=epochs,
            evaluations=tuple(Evaluation(**line) for line in evaluations),
        )

    return make


def autoattack(right, eps=8 / 255, **settings):
    full = {"attacks": "standard", "num_steps": 100, "num_targets": 9, "num_queries": 5000}
    return right, {"kind": "autoattack", "eps": eps, "precision": "float32", **full, **settings}


def described(record, epoch=5, method="trades"):
    return describe(record, epoch, REGISTRY.methods.get(method), "ResNet-18")


def test_a_full_autoattack_gives_robustbenchs_accuracy_in_percent(record):
    info, notes = described(record(5, pgd=(6, {"eps": 8 / 255}), autoattack=autoattack(3)))
    assert (info["clean_acc"], info["reported"], info["autoattack_acc"]) == ("100.00", "37.50", "37.50")
    assert (info["eps"], info["dataset"], info["architecture"]) == ("8/255", "cifar10", "ResNet-18")
    assert (info["additional_data"], info["number_forward_passes"]) == (False, 1)
    assert "footnote" not in info
    assert len(notes) == 1
    assert "epoch 5 alone" in notes[0]


@pytest.mark.parametrize(
    "settings",
    [
        autoattack(3, attacks=["apgd-ce", "apgd-t"]),
        autoattack(3, precision="bfloat16"),
        autoattack(3, num_queries=100),
    ],
    ids=["two parts", "bfloat16", "fewer queries"],
)
def test_less_than_a_full_autoattack_is_not_written_as_one(record, settings):
    info, notes = described(record(5, autoattack=settings))
    assert info["autoattack_acc"] is None
    assert "autoattack_acc is null" in notes[1]


def test_autoattack_on_a_subset_is_not_written_as_one(record):
    info, notes = described(
        record(5, subset={"train_per_class": 4, "test_per_class": 4}, autoattack=autoattack(3))
    )
    assert info["autoattack_acc"] is None
    assert any("subset of the test images" in note for note in notes)


def test_autoattack_by_another_name_is_autoattack(record):
    info, _ = described(record(5, mine=autoattack(3)))
    assert info["autoattack_acc"] == "37.50"


def test_a_quicker_attack_under_another_name_is_only_reported(record):
    info, _ = described(
        record(5, **{"autoattack-fast": autoattack(3, precision="bfloat16"), "pgd-20": (4, {"eps": 8 / 255})})
    )
    assert (info["reported"], info["autoattack_acc"]) == ("37.50", None)


def test_the_papers_radius_and_a_radius_other_than_that_of_training_have_a_footnote(record):
    info, _ = described(record(5, threat=0.031, pgd=(6, {"eps": 0.031})))
    assert (info["eps"], info["reported"]) == ("0.031", "75.00")
    assert "7.9/255" in info["footnote"]
    info, _ = described(record(5, threat=0.031, pgd=(2, {"eps": 0.031}), autoattack=autoattack(3)))
    assert (info["eps"], info["reported"]) == ("8/255", "37.50")  # the other attack has another radius
    assert info["footnote"] == "Trained with radius 0.031, evaluated with 8/255."


def test_without_an_attack_of_its_radius_nothing_is_reported(record):
    other_norm = {"eps": 8 / 255, "norm": "l2"}
    info, _ = described(record(5, pgd=(6, {"eps": 0.1}), other=(5, other_norm)))
    assert (info["reported"], info["eps"]) == (None, "8/255")


def test_the_exported_epoch_speaks_for_itself(record):
    made = record(4, 5, pgd=(6, {"eps": 8 / 255}))
    write_outcomes(made.folder / "clean-4.npy", LABELS, LABELS, [False] * 8)
    first, *others = made.evaluations
    made = replace(made, evaluations=(first._replace(digest=None), *others))
    assert described(made, 4)[0]["clean_acc"] == "0.00"
    assert described(made, 5)[0]["clean_acc"] == "100.00"
    assert [chosen_epoch(made, epoch) for epoch in (None, 4, 5)] == [5, 4, 5]
    with pytest.raises(ConfigError, match="not evaluated at epoch 3") as error:
        chosen_epoch(made, 3)
    assert error.value.hint == "--epoch is one of: 4, 5"


def test_a_method_without_a_paper_asks_for_it_to_be_filled_in(record):
    info, notes = described(record(5, dataset="digits"), method="nobodys")
    assert (info["link"], info["name"], info["authors"], info["venue"]) == ("", "trades", "", "Unpublished")
    assert any("fill in link, name, authors" in note for note in notes)
    assert any("not digits" in note for note in notes)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("trades", "Zhang2019Theoretically_ResNet-18"),
        ("dafa", "Lee2024DAFA_ResNet-18"),
        ("dafa-uniform", "Lee2024DAFA_dafa-uniform_ResNet-18"),
        ("trix", "Medi2025TRIX_ResNet-18"),
        ("frl", "Xu2021To_ResNet-18"),
    ],
)
def test_names_follow_robustbench_and_tell_variants_apart(method, name):
    assert robustbench_name(method, REGISTRY.methods[method], "ResNet-18") == name


def test_all_methods_have_names_of_their_own_that_are_file_names():
    names = [robustbench_name(name, entry, "Net 2/3") for name, entry in REGISTRY.methods.items()]
    assert all("/" not in name and " " not in name for name in names)
    variants = [name for name, entry in REGISTRY.methods.items() if entry.extends]
    own = {robustbench_name(name, REGISTRY.methods[name], "N") for name in variants}
    assert len(own) == len(variants)
    assert robustbench_name("mine", None, "N") == "mine_N"
    assert robustbench_name("mine", MethodEntry(name="mine", paper=Paper(title="T")), "N") == "mine_N"


def test_the_year_is_the_venues_or_the_preprints():
    assert year_of(Paper(venue="ICML 2019", arxiv="1901.08573")) == "2019"
    assert year_of(Paper(arxiv="2401.12532")) == "2024"
    assert year_of(Paper()) == ""


@given(st.integers(1, 255))
def test_whole_grey_levels_are_written_as_fractions(levels):
    assert fraction(levels / 255) == f"{levels}/255"


@pytest.mark.parametrize(("eps", "text"), [(0.031, "0.031"), (0.3, "0.3"), (0.0, "0"), (0.5, "0.5")])
def test_other_radii_are_written_as_numbers(eps, text):
    assert fraction(eps) == text
