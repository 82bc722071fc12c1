"""What a method needs from the trainer, read from its source."""

import ast

import pytest

from fairbench.registry import load_registry
from fairbench.registry.needs import read_needs
from fairbench.registry.plugin import describe


def needs_of(text, modules=()):
    """The needs of the last class in `text`; `modules` are sources by name."""
    tree = ast.parse(text)
    sources = {name: ast.parse(source) for name, source in dict(modules).items()}
    return read_needs(tree.body[-1], tree, sources.get)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('Needs(epoch_stats={"b", "a"})', {"epoch_stats": "a, b"}),
        ('Needs(epoch_stats=frozenset({"a"}))', {"epoch_stats": "a"}),
        ("Needs(epoch_stats=frozenset())", {}),
        ('api.Needs(validation="start", attack_bn="train")', {"validation": "start", "attack_bn": "train"}),
        ("Needs(validation=None, clean_forward_after_step=False)", {}),
        ("Needs(clean_forward_after_step=True)", {"clean_forward_after_step": "yes"}),
        (
            'Needs(watched={"kappa", "hard"}, attack_bn="batch")',
            {"watched": "hard, kappa", "attack_bn": "batch"},
        ),
        ('Needs(waits="hard images " "are selected")', {"waits": "hard images are selected"}),
        ('Needs(waits="")', {}),
        ("Needs()", {}),
        ("None", {}),
    ],
)
def test_needs_are_read_as_written(written, read):
    assert needs_of(f"class A(AdversarialObjective):\n    needs = {written}\n") == read
    assert needs_of(f"class A(AdversarialObjective):\n    needs: Needs = {written}\n") == read


def test_needs_that_follow_from_options_name_them():
    found = needs_of(
        "class A(AdversarialObjective):\n"
        "    @staticmethod\n"
        "    def needs(config):\n"
        "        if config.adaptive:\n"
        '            return Needs(validation="end", attack_bn=config.attack_bn)\n'
        '        return Needs(validation="start", epoch_stats={"a"} if config.b else set())\n'
    )
    assert found == {
        "validation": "end or start",
        "attack_bn": "as option attack_bn",
        "epoch_stats": "{'a'} if config.b else set()",
    }


def test_what_only_some_settings_need_is_not_told_as_needed():
    found = needs_of(
        "class A(AdversarialObjective):\n"
        "    @staticmethod\n"
        "    def needs(config):\n"
        "        return Needs(one_label=True) if config.margins else Needs()\n"
    )
    assert found == {"one_label": "in some settings"}
    found = needs_of(
        "class A(AdversarialObjective):\n"
        "    @staticmethod\n"
        "    def needs(config):\n"
        '        return Needs(waits="images are selected") if config.subset else Needs()\n'
    )
    assert found == {"waits": "images are selected in some settings"}


def test_needs_are_inherited_from_the_same_file_and_from_ours_only():
    api = "from fairbench.inner import Base as Weighted\n"
    inner = 'class Base(AdversarialObjective):\n    needs = Needs(epoch_stats={"a"})\n'
    modules = {"fairbench.api": api, "fairbench.inner": inner, "other": inner}
    child = "class Child(Weighted):\n    pass\n"
    assert needs_of(f"from fairbench.api import Weighted\n{child}", modules) == {"epoch_stats": "a"}
    assert needs_of(f"from other import Base as Weighted\n{child}", modules) == {}
    assert needs_of(f"from fairbench.gone import Weighted\n{child}", modules) == {}
    assert needs_of(inner + "class Child(Base):\n    beta = 1\n") == {"epoch_stats": "a"}
    assert needs_of(inner + "class Child(Base):\n    needs = Needs()\n") == {}
    assert needs_of("class Odd(Odd):\n    pass\n") == {}


def test_a_plugin_is_described_with_its_needs(write, plugin):
    asked = plugin.replace("    def loss", '    needs = Needs(validation="end")\n\n    def loss')
    assert describe(write("a.py", asked)).needs == {"validation": "end"}
    assert describe(write("b.py", plugin)).needs == {}
    waits = plugin.replace(
        "    def loss", '    needs = Needs(waits="why", watched={"kappa"})\n\n    def loss'
    )
    assert describe(write("c.py", waits)).needs == {"waits": "why", "watched": "kappa"}


def test_needs_of_the_built_in_methods():
    registry = load_registry(entry_points=True)
    found = {name: registry.plugin(name).needs for name in ("trades", "dafa", "frl", "wat", "pgd-at")}
    assert found == {
        "trades": {},
        "dafa": {"epoch_stats": "robust_probability"},  # inherited from fairbench's ClassWeighted
        "frl": {"validation": "start"},
        "wat": {"validation": "end"},
        "pgd-at": {"attack_bn": "as option attack_bn"},
    }
