"""What is run where the user names no network, protocol or attacks."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import ConfigError
from fairbench.planning.defaults import complete, own_radius
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import parse_selection
from fairbench.records.cell import Cell
from fairbench.registry import Registry, load_registry

REGISTRY = load_registry([])
DATASETS = tuple(REGISTRY.names("dataset"))
LEAVES = "version: 1\ndatasets: {leaves: {reader: folder, path: leaves, image_shape: [3, 64, 64]}}\n"


def cells_of(registry: Registry = REGISTRY, **options: Any) -> tuple[list[Cell], list[str]]:
    return resolve(parse_selection(registry, **options), registry, Path("nowhere"))


def names(**lists: list[str]) -> dict[str, str]:
    return {option: ",".join(values) for option, values in lists.items()}


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "suite": st.sampled_from(REGISTRY.names("suite")),
        "methods": st.just("trades,dafa"),
        "datasets": st.lists(st.sampled_from(DATASETS), min_size=1, unique=True).map(",".join),
        "models": st.sampled_from(("cnn-small", "resnet18,cnn-small")),
        "seeds": st.just("3..4"),
        "protocol": st.sampled_from(("quickstart", "trix-150", "official", "mnist-100")),
        "attacks": st.sampled_from(("pgd-20", "pgd-20@last,a3")),
    },
)


@settings(deadline=None)
@given(OPTIONS)
def test_an_option_beats_a_named_suite_which_beats_the_data_sets_defaults(options):
    choice = complete(parse_selection(REGISTRY, **options), REGISTRY)
    named = REGISTRY.get("suite", options["suite"]) if "suite" in options else None
    quickstart = REGISTRY.get("suite", "quickstart")

    def expected(option: str, default: Any) -> Any:
        if option in options:
            return tuple(options[option].split(","))
        return tuple(getattr(named, option)) if named else default

    assert choice.methods == expected("methods", quickstart.methods)
    assert choice.seeds == ((3, 4) if "seeds" in options else (named or quickstart).seeds)
    assert tuple(item.dataset for item in choice.datasets) == expected("datasets", quickstart.datasets)
    for item in choice.datasets:
        defaults = REGISTRY.get("dataset", item.dataset).defaults
        assert item.models == expected("models", (defaults.model,))
        assert item.protocol == options.get("protocol", named.protocol if named else defaults.protocol)
        attacks = ",".join(attack.model_dump() for attack in item.attacks)
        if "attacks" in options:
            assert attacks == options["attacks"]
        elif named is None and item.protocol == defaults.protocol:
            assert item.attacks == defaults.attacks
        elif named is not None and item.protocol == named.protocol:
            assert item.attacks == named.evaluation
        else:
            assert item.attacks == ()  # the protocol's


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_default_gives_the_cells_that_naming_it_gives(dataset):
    defaults = REGISTRY.get("dataset", dataset).defaults
    attacks = [attack.model_dump() for attack in defaults.attacks]
    one = {"methods": "trades,dafa", "datasets": dataset, "seeds": "0"}
    open_cells, notes = cells_of(**one)
    named = {"models": defaults.model, "protocol": defaults.protocol, "attacks": ",".join(attacks)}
    named_cells, other_notes = cells_of(**one, **named)
    assert open_cells == named_cells
    assert [note for note in notes if note not in other_notes] == [notes[0]]
    assert all(part in notes[0] for part in ("chosen by default", *named.values()) if "," not in part)


def test_no_option_at_all_is_the_quickstart():
    cells, notes = cells_of()
    assert cells == cells_of(suite="quickstart")[0]
    assert len(cells) == 9
    assert len(notes) == 1
    for word in ("trades, dafa, trix", "digits", "seeds 0, 1, 2", "cnn-small", "quickstart", "pgd-20-digits"):
        assert word in notes[0]


def test_what_is_named_is_not_said_to_be_a_default():
    for options in ({"suite": "table1"}, {"suite": "quickstart", "datasets": "digits"}):
        assert not any("by default" in note for note in cells_of(**options)[1])


@settings(deadline=None)
@given(st.lists(st.sampled_from(DATASETS), min_size=1, unique=True))
def test_defaults_never_bring_a_radius_of_other_images(datasets):
    _, notes = cells_of(**names(datasets=datasets), methods="trades", seeds="0")
    assert not any("radius" in note for note in notes)
    for cell in cells_of(**names(datasets=datasets), methods="trades", seeds="0")[0]:
        own = own_radius(REGISTRY, cell.dataset)
        assert cell.full_protocol.threat.eps == pytest.approx(own)
        assert all(attack.attack.eps == pytest.approx(own, rel=0.1) for attack in cell.evaluation)


@settings(deadline=None)
@given(st.sampled_from(DATASETS), st.sampled_from(DATASETS))
def test_a_named_protocol_of_other_images_is_noted(dataset, other):
    protocol = REGISTRY.get("dataset", other).defaults.protocol
    _, notes = cells_of(datasets=dataset, protocol=protocol, methods="trades", seeds="0")
    radii = own_radius(REGISTRY, dataset), own_radius(REGISTRY, other)
    noted = [note for note in notes if "radius" in note]
    assert len(noted) == (radii[0] != radii[1])
    assert all(f"protocol {protocol}" in note and f"{radii[0]:g}" in note for note in noted)


@pytest.mark.parametrize(
    ("options", "noted"),
    [
        ({"datasets": "cifar10", "suite": "quickstart"}, ["protocol quickstart"]),
        ({"datasets": "cifar10", "attacks": "pgd-20,pgd-20-digits"}, ["attack pgd-20-digits"]),
        ({"datasets": "cifar10", "attacks": "pgd-20-digits-eps200"}, ["attack pgd-20-digits-eps200"]),
        ({"datasets": "mnist,cifar10", "protocol": "official"}, ["protocol trades-76"]),
        ({"suite": "figure3"}, []),  # seven radii, all usual
        ({"datasets": "cifar10", "attacks": "pgd-20-l2,pgd-20-eps8"}, []),
        ({"datasets": "cifar10", "protocol": "cfa-200"}, []),  # 8/255, not 0.031
        ({"datasets": "cifar10", "overrides": ("protocol.threat.eps=0.1",)}, []),
    ],
)
def test_a_radius_of_other_images_is_noted_once(options, noted):
    _, notes = cells_of(**{"methods": "trades", "seeds": "0", **options})
    found = [note for note in notes if "radius" in note]
    assert len(found) == len(noted)
    assert all(what in note for what, note in zip(noted, found, strict=True))


@pytest.fixture
def leaves(tmp_path: Path) -> Registry:
    path = tmp_path / "leaves.yaml"
    path.write_text(LEAVES)
    return load_registry([path])


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, ["--models", "--protocol"]),
        ({"models": "cnn-small"}, ["--protocol"]),
        ({"protocol": "budget-30"}, ["--models"]),
    ],
)
def test_a_data_set_without_defaults_needs_them_named(leaves, options, missing):
    with pytest.raises(ConfigError, match="leaves") as caught:
        cells_of(leaves, datasets="digits,leaves", **options)
    assert all(option in caught.value.hint for option in missing)
    assert "defaults:" in caught.value.hint


@pytest.mark.parametrize(
    "options", [{"models": "cnn-small", "protocol": "budget-30"}, {"suite": "quickstart"}]
)
def test_a_data_set_without_defaults_runs_with_what_is_named(leaves, options):
    cells, notes = cells_of(leaves, datasets="leaves", methods="trades", seeds="0", **options)
    assert len(cells) == 1
    assert not any("by default" in note for note in notes)


def test_defaults_in_a_registry_name_what_exists(tmp_path):
    path = tmp_path / "leaves.yaml"
    defaults = "{model: resnet, protocol: budget, attacks: [pgd]}"
    path.write_text(LEAVES.replace("64]}", f"64], defaults: {defaults}}}"))
    with pytest.raises(ConfigError) as caught:
        load_registry([path])
    for where in ("defaults.model", "defaults.protocol", "defaults.attacks"):
        assert where in str(caught.value)
