"""The block `augment` in a plan: part of the identity when it is on, nothing at all when it is off."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from fairbench_methods import trades

from fairbench.core.errors import ConfigError
from fairbench.core.identity import digest
from fairbench.planning.catalogue import describe
from fairbench.planning.overrides import parse_overrides
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.registry import load_registry
from fairbench.runner.cell_checks import check_options

ONE = {"methods": ("trades",), "seeds": (0,)}
CIFAR = {**ONE, "datasets": ("cifar10",)}
PRESETS = [f"{base}-{kind}" for base in ("dafa", "trix") for kind in ("autoaugment", "cutout", "mixup")]


def only(cells, method):
    (found,) = [cell for cell in cells if cell.method == method and not cell.preparation]
    return found


@pytest.mark.parametrize(
    ("changes", "block"),
    [
        (["augment=autoaugment"], {"kind": "autoaugment", "policy": "cifar10"}),
        (["augment.kind=cutout"], {"kind": "cutout", "side": 14}),
        (["augment=cutout", "augment.side=16"], {"kind": "cutout", "side": 16}),
        (["augment=mixup"], {"kind": "mixup", "alpha": 1.4, "min_share": 0.5}),
        (
            ["augment=mixup", "augment.alpha=1", "augment.min_share=0.75"],
            {"kind": "mixup", "alpha": 1.0, "min_share": 0.75},
        ),
        (["augment=cutmix"], {"kind": "cutmix", "alpha": 1.0, "min_share": 0.5}),
    ],
)
def test_an_augmentation_is_written_out_and_part_of_the_identity_and_of_the_label(plan, changes, block):
    changes = [f"methods.trades.{change}" for change in changes]
    (plain,), (cell,) = plan(**CIFAR), plan(*changes, **CIFAR)
    assert cell.identity["augment"] == block
    assert {key: value for key, value in cell.identity.items() if key != "augment"} == plain.identity
    assert cell.id != plain.id
    assert len(cell.overrides) == len(changes)


@pytest.mark.parametrize(
    "changes",
    [
        ["augment=none"],
        ["augment=cutout", "augment=none"],
        ["augment=cutout", "augment.side=0"],
        ["augment=mixup", "augment.alpha=0"],
        ["augment=cutmix", "augment.alpha=0"],
    ],
)
def test_off_is_the_plain_cell_with_the_plain_label(plan, changes):
    (plain,) = plan(**CIFAR)
    (cell,) = plan(*(f"methods.trades.{change}" for change in changes), **CIFAR)
    assert (cell.id, cell.overrides, cell.evaluation) == (plain.id, plain.overrides, plain.evaluation)


def test_a_cell_without_it_has_the_id_it_had_before_there_was_any(plan):
    (cell,) = plan(**ONE)
    method = {**cell.identity["method"], "fingerprint": "415d99ff0f2a"}  # of its code at that time
    assert digest({**cell.identity, "method": method, "numerics": 1}) == "36484146acfe"


def test_the_side_follows_the_image_and_the_policy_the_data_set(plan):
    def block(kind, dataset):
        chosen = {**ONE, "datasets": (dataset,)}
        return only(plan(f"methods.trades.augment={kind}", **chosen), "trades").identity["augment"]

    sides = {name: block("cutout", name)["side"] for name in ("digits", "mnist", "cifar10", "stl10")}
    assert sides == {"digits": 4, "mnist": 12, "cifar10": 14, "stl10": 28}
    policies = {name: block("autoaugment", name)["policy"] for name in ("cifar10", "cifar100", "svhn")}
    assert policies == {"cifar10": "cifar10", "cifar100": "cifar10", "svhn": "svhn"}
    chosen = {**ONE, "datasets": ("svhn",)}
    options = ("methods.trades.augment=autoaugment", "methods.trades.augment.policy=cifar10")
    assert only(plan(*options, **chosen), "trades").identity["augment"]["policy"] == "cifar10"


def test_for_all_methods_it_reaches_each_and_a_start_and_a_methods_own_setting_wins(registry):
    overrides = parse_overrides(["methods.dafa.augment=none"], registry) | {
        "all_methods": {"augment": "mixup"}
    }
    selection = replace(Selection(methods=("trades", "dafa", "frl"), seeds=(0,)), overrides=overrides)
    cells, _ = resolve(selection, registry, Path("nowhere"))
    assert only(cells, "trades").identity["augment"]["kind"] == "mixup"
    assert "augment" not in only(cells, "dafa").identity
    assert only(cells, "frl").start.identity["augment"]["kind"] == "mixup"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["augment=cutuot"], "'mixup' or 'cutmix', got 'cutuot'"),
        (["augment=cutout", "augment.alpha=1"], "cutout has no 'alpha'; it accepts side"),
        (["augment=mixup", "augment.side=3"], "mixup has no 'side'"),
        (["augment=cutout", "augment.side=-1"], "at least 0"),
        (["augment=mixup", "augment.min_share=0.3"], "at least 0.5"),
        (["augment=autoaugment", "augment.policy=mnist"], "'cifar10', 'svhn' or 'imagenet'"),
        (["augment.side=3"], "'kind' is missing"),
        (["augment.sied=3"], "has no option 'sied'"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_place(plan, changes, message):
    with pytest.raises(ConfigError) as error:
        plan(*(f"methods.trades.{change}" for change in changes), **ONE)
    assert message in error.value.message
    assert "trades" in error.value.message


@pytest.mark.parametrize(
    ("needs", "settings", "when"),
    [
        ("one_label=config.margins", {}, "planned"),
        ("one_label=config.margins", {"margins": False}, "never"),
        ("one_label=config.beta > 3", {}, "run"),  # nothing of a plugin is run for a plan
    ],
)
def test_a_need_that_depends_on_options_is_refused_as_soon_as_it_is_known(tmp_path, needs, settings, when):
    text = Path(trades.__file__).read_text().replace('@method("trades"', '@method("mine"')
    text = text.replace("import AdversarialObjective", "import AdversarialObjective, Needs")
    text = text.replace(
        "        beta: float = 6.0", "        margins: bool = True\n        beta: float = 6.0"
    )
    needed = f"    @staticmethod\n    def needs(config):\n        return Needs({needs})\n\n    def perturb"
    (tmp_path / "mine.py").write_text(text.replace("    def perturb", needed))
    registry = load_registry([tmp_path / "mine.py"])
    overrides = {"all_methods": {"augment": "mixup"}, "methods.mine": settings}
    selection = Selection(methods=("mine",), seeds=(0,), overrides=overrides)
    refusing = pytest.raises(ConfigError, match="'mine' cannot be trained with mixup")
    if when == "planned":
        with refusing:
            resolve(selection, registry, tmp_path)
        return
    cell = only(resolve(selection, registry, tmp_path)[0], "mine")
    with refusing if when == "run" else nullcontext():
        check_options(cell)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_method_that_needs_one_label_refuses_mixed_images_when_planned(tmp_path, kind):
    text = Path(trades.__file__).read_text().replace('@method("trades"', '@method("mine"')
    text = text.replace("import AdversarialObjective", "import AdversarialObjective, Needs")
    text = text.replace("    def perturb", "    needs = Needs(one_label=True)\n\n    def perturb")
    (tmp_path / "mine.py").write_text(text)
    registry = load_registry([tmp_path / "mine.py"])

    def planned(change):
        overrides = parse_overrides([f"methods.mine.augment={change}"], registry)
        selection = Selection(methods=("mine",), seeds=(0,), overrides=overrides)
        return only(resolve(selection, registry, Path("nowhere"))[0], "mine")

    with pytest.raises(ConfigError, match=f"'mine' cannot be trained with {kind}") as error:
        planned(kind)
    assert "methods.mine.augment=none" in error.value.hint
    assert planned("cutout").identity["augment"]["kind"] == "cutout"


# The presets of Table 6


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_method_with_the_block(plan, registry, name):
    base, kind = name.split("-")
    found = only(plan(methods=(name,), seeds=(0,), datasets=("cifar10",)), name)
    same = only(
        plan(f"methods.{base}.augment={kind}", methods=(base,), seeds=(0,), datasets=("cifar10",)), base
    )
    assert found.identity["augment"] == same.identity["augment"]
    assert found.identity["method"]["config"] == same.identity["method"]["config"]
    words = {"autoaugment": "AutoAug", "cutout": "Cutout", "mixup": "Mixup"}
    assert registry.get("method", name).title == f"{base.upper()} + {words[kind]}"
    assert f"(augment={kind})" in describe(registry, "methods", name)


def test_a_presets_option_can_be_set_by_itself_and_the_block_switched_off(plan):
    chosen = {"methods": ("trix-cutout",), "seeds": (0,), "datasets": ("cifar10",)}
    cell = only(plan("methods.trix-cutout.augment.side=16", **chosen), "trix-cutout")
    assert cell.identity["augment"] == {"kind": "cutout", "side": 16}
    assert "augment" not in only(plan("methods.trix-cutout.augment=none", **chosen), "trix-cutout").identity


def test_the_suite_of_table_6_is_the_baseline_and_the_presets_and_no_other_suite_has_them(plan, registry):
    suite = registry.get("suite", "table6")
    assert set(suite.methods) == {"trades", *PRESETS}
    cells = plan(suite="table6")
    assert len(cells) == 7 * 5
    assert {cell.protocol for cell in cells} == {"trix-150"}
    assert [attack.name for attack in cells[0].evaluation] == ["pgd-20", "autoattack"]
    for other in registry.names("suite"):
        assert other == "table6" or not set(registry.get("suite", other).methods) & set(PRESETS)
