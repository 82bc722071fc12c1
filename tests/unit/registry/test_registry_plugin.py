import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.core.errors import PluginError
from fairbench.registry.options import REQUIRED, Option
from fairbench.registry.plugin import describe, locate


def test_a_plugin_is_read_without_being_run(write, plugin):
    source = describe(write("mine.py", plugin), "Mine")
    assert (source.name, source.tags, source.class_name) == ("mine", ("trades", "mine"), "Mine")
    assert source.summary == "MINE: lift the classes that lag behind."
    assert source.doc == {"Idea": "One line, and its continuation.", "Source": "A. Example (2026)."}
    assert {name: option.default for name, option in source.options.items()} == {
        "beta": 6.0,
        "strength": 1.5,
        "eps": 8 / 255,
        "warmup_epochs": 70,
        "offset": -1,
        "scale": True,
        "cap": None,
        "rule": "paper",
        "name": "x",
        "sizes": (1, 2),
    }
    assert source.options["beta"] == Option("beta", "float", 6.0, "weight of the robust term, >= 0")
    assert source.options["cap"].help == "größtes Gewicht"


def test_without_a_class_the_single_method_is_taken(write, plugin):
    assert describe(write("mine.py", plugin)).class_name == "Mine"
    with pytest.raises(PluginError, match="has several methods"):
        describe(write("two.py", plugin + '\n\n@method("b")\nclass B: ...\n'))
    with pytest.raises(PluginError, match="has no class with @method"):
        describe(write("none.py", "class A: ...\n"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# weight of the robust term, >= 0", "# another comment"),
        ('"""The loss."""', '"""Another docstring."""'),
        ('    """What it is."""\n', ""),
        ("MINE: lift", "MINE: raise"),
        ("strength: float = 3/2", "strength: float = 3  /  2"),
        ('"paper", "program"', "'paper',   'program'"),
        ("\n\n\n@method", "\n# a comment\n@method"),
        ('tags=("trades", "mine"))', 'tags=(\n    "trades", "mine"\n))'),
    ],
)
def test_the_fingerprint_ignores_comments_docstrings_and_layout(write, plugin, old, new):
    assert old in plugin
    one, other = describe(write("a.py", plugin)), describe(write("b.py", plugin.replace(old, new)))
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("beta: float = 6.0", "beta: float = 6.5"),
        ("return model(x_adv)", "return model(batch.x)"),
        ('"mine", tags', '"other", tags'),
        ("3/2", "2/3"),
        ('    """What it is."""\n', '    """What it is."""\n\n    needs = 1\n'),
    ],
)
def test_the_fingerprint_changes_with_the_code(write, plugin, old, new):
    assert old in plugin
    one, other = describe(write("a.py", plugin)), describe(write("b.py", plugin.replace(old, new)))
    assert one.fingerprint != other.fingerprint


def test_the_fingerprint_is_twelve_hex_digits(write, plugin):
    assert len(describe(write("a.py", plugin)).fingerprint) == 12
    int(describe(write("a.py", plugin)).fingerprint, 16)


@pytest.mark.parametrize(
    "config",
    ["x: float = pi", "x: list = field(default_factory=list)", "x: float = 1 / 0", "x: str = f'{1}'"],
)
def test_options_that_only_running_would_tell_are_unknown(write, config):
    text = f'@method("m")\nclass M(AdversarialObjective):\n    class Config:\n        {config}\n'
    assert describe(write("m.py", text)).options is None


def test_inherited_options_are_unknown_and_absent_ones_are_none_at_all(write):
    assert describe(write("a.py", '@method("m")\nclass M(Other): ...\n')).options is None
    assert describe(write("b.py", '@method("m")\nclass M(AdversarialObjective): ...\n')).options == {}
    inherited = '@method("m")\nclass M(AdversarialObjective):\n    class Config(Base):\n        x: int = 1\n'
    assert describe(write("c.py", inherited)).options is None


def test_an_option_may_be_required(write):
    config = "    class Config:\n        x: ClassVar[int] = 1\n        y: int\n"
    text = f'@method("m")\nclass M(AdversarialObjective):\n{config}'
    assert describe(write("m.py", text)).options == {"y": Option("y", "int", REQUIRED)}


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("float", {1: 1.0, 0.5: 0.5, "8/255": 8 / 255}, [True, "x", None, float("inf")]),
        ("int", {3: 3}, [True, 1.5, "3"]),
        ("bool", {True: True}, [1, "true", None]),
        ("str", {"a": "a"}, [1, None]),
        ("float | None", {None: None, 2: 2.0}, ["x", True]),
        ("Optional[int]", {None: None, 2: 2}, [2.5]),
        ("Union[int, str]", {1: 1, "a": "a"}, [1.5]),
        ("Literal['a', 'b']", {"a": "a"}, ["c", 1]),
        ("Literal[3] | bool", {3: 3, True: True}, [1]),
        ("'float'", {1: 1.0}, ["x"]),
        ("dict[str, int]", {"anything": "anything"}, []),
    ],
)
def test_values_are_checked_against_the_annotation(annotation, good, bad):
    option = Option("x", annotation, 0)
    for value, accepted in good.items():
        assert option.accept(value) == accepted
        assert type(option.accept(value)) is type(accepted)
    for value in bad:
        with pytest.raises(ValueError, match="expected"):
            option.accept(value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("def f(:\n", "broken.py:1 is not valid Python"),
        ("x = '\0'\n", "not valid Python"),
        ("x = 1\n", "no class"),
    ],
)
def test_a_broken_file_is_one_line(write, text, part):
    with pytest.raises(PluginError, match=part) as caught:
        describe(write("broken.py", text), "Mine")
    assert "\n" not in caught.value.message


def test_a_missing_class_is_said_with_those_there(write, plugin):
    with pytest.raises(PluginError, match="no class 'Mien'; it has Mine"):
        describe(write("mine.py", plugin), "Mien")


def test_an_invalid_escape_of_somebody_is_not_our_business(write, plugin):
    assert describe(write("mine.py", plugin + '\npattern = "\\d"\n')).name == "mine"


@given(st.text(max_size=200))
def test_any_text_is_described_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.py"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(PluginError):
        describe(path)


def test_a_file_target_is_relative_to_its_registry(write, plugin, tmp_path):
    path = write("sub/mine.py", plugin)
    assert locate("sub/mine.py:Mine", tmp_path) == path
    assert locate(f"{path}:Mine") == path
    with pytest.raises(PluginError, match="no file"):
        locate("sub/other.py:Mine", tmp_path)


def test_a_module_is_found_without_running_its_package(install, plugin):
    explosive = "raise RuntimeError('imported')\n"
    site = install(
        "pkg-a", {}, {"fb_pkg_a/__init__.py": explosive, "fb_pkg_a/sub/mine.py": explosive + plugin}
    )
    assert locate("fb_pkg_a.sub.mine:Mine") == site / "fb_pkg_a/sub/mine.py"
    assert locate("fb_pkg_a") == site / "fb_pkg_a/__init__.py"


def test_a_single_module_is_found(install, plugin):
    site = install("pkg-b", {}, {"fb_single.py": plugin})
    assert locate("fb_single:Mine") == site / "fb_single.py"


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("fb_nowhere.x:Mine", "no module named 'fb_nowhere'"),
        ("json.nowhere:Mine", "no Python source of the module 'json.nowhere'"),
        ("sys:Mine", "no Python source"),
        ("a b:Mine", "neither a module nor a .py file"),
        (":Mine", "neither a module"),
        ("json..decoder:Mine", "neither a module"),
    ],
)
def test_a_module_that_is_not_there_is_refused(target, part):
    importlib.invalidate_caches()
    with pytest.raises(PluginError, match=part):
        locate(target)
