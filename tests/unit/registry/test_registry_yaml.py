"""The whole registry: ours, extended by files, entry points and plugins."""

import contextlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairbench.core.errors import ConfigError, FairbenchError, PluginError, UnknownNameError
from fairbench.registry import Protocol, load_registry
from fairbench.registry.load import BUILT_IN_LABEL, built_in_file

ROOT = built_in_file().parent
OURS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["fairbench.methods"]
HEAD = "version: 1\n"
USERS = """\
version: 1
methods:
  mine-too: {target: m.py:Mine, cost: 1.5, config: {beta: 3}, datasets: {cifar10: {eps: 8/255}}}
datasets:
  birds:
    reader: folder
    path: images
    image_shape: [3, 32, 32]
    classes: [a, b]
attacks:
  strong: {kind: pgd, eps: 8/255, step_size: 2/255, num_steps: 50, start: none}
protocols:
  mine:
    extends: trix-150
    epochs: 40
    milestones: {30: 0.1, 35: 0.01}
    selection: {last: 3}
    evaluation: [pgd-20, strong]
suites:
  s: {methods: [mine-too], datasets: [birds], models: [resnet18], seeds: [0, 1], protocol: mine}
"""


@pytest.fixture
def ours(install):
    """Our own methods, installed as the wheel installs them."""
    sources = {f"fairbench_methods/{path.name}": path.read_text() for path in (ROOT / "methods").glob("*.py")}
    return install("fairbench-at", OURS, sources)


def faults_of(*files, entry_points=False):
    with pytest.raises(ConfigError) as caught:
        load_registry(files, entry_points=entry_points)
    return str(caught.value)


def test_our_registry_is_valid_and_whole(ours):
    registry = load_registry()
    assert registry.broken == ()
    assert set(OURS) | {"dafa-uniform", "dafa-pgd", "trix-basic", "trix-uniform"} <= set(registry.methods)
    for method in registry.methods:
        assert isinstance(registry.protocol_for("official", method), Protocol)
        for dataset in registry.datasets:
            assert set(registry.method_config(method, dataset)) == set(registry.plugin(method).options)
    for name, dataset in registry.datasets.items():
        assert dataset.reader == name
        assert (dataset.classes is None) == (dataset.num_classes > 10)


def test_published_values_of_a_dataset_come_over_the_defaults(ours):
    registry = load_registry()
    assert registry.method_config("trix", "cifar10")["strength"] == 1.0
    assert registry.method_config("trix", "stl10")["strength"] == 1.5
    assert registry.method_config("dafa-uniform", "cifar100")["strength"] == 1.5
    assert registry.method_config("dafa-uniform")["scale_loss"] is False


def test_what_a_variant_sets_beats_its_parent_on_every_dataset(ours):
    assert load_registry().method_config("trix-basic", "cifar100")["strength"] == 0.0


def test_protocols_that_extend_scale_their_milestones():
    registry = load_registry(entry_points=False)
    short = registry.get("protocol", "budget-30")
    assert (short.epochs, short.published_epochs, short.milestones) == (30, 150, {28: 0.1, 29: 0.01})
    assert (short.threat.eps, short.budget.step_size, short.budget.num_steps) == (0.031, 0.007, 10)
    assert short.with_epochs(150).milestones == {140: 0.1, 145: 0.01}
    assert registry.get("protocol", "dafa-110").published_epochs == 110
    assert registry.get("protocol", "cpu-subset").selection.last == 3
    assert registry.get("protocol", "trix-150").optimizer.weight_decay == 5e-4
    assert registry.get("protocol", "madry-200").threat.eps == 8 / 255


def test_without_entry_points_methods_are_broken_and_the_rest_works():
    registry = load_registry(entry_points=False)
    assert {"trades", "dafa-uniform"} <= {plugin.name for plugin in registry.broken}
    assert "cifar10" in registry.datasets
    with pytest.raises(PluginError, match="no entry point 'trades'"):
        registry.get("method", "trades")
    with pytest.raises(PluginError, match="it extends dafa: no entry point"):
        registry.plugin("dafa-uniform")


def test_an_unknown_name_is_answered_with_a_suggestion():
    registry = load_registry(entry_points=False)
    with pytest.raises(UnknownNameError, match="did you mean: cifar10") as caught:
        registry.get("dataset", "cifer10", "--datasets cifer10")
    assert "--datasets cifer10" in caught.value.hint


def test_a_file_extends_ours(write, plugin, ours):
    write("mine.py", plugin)
    text = HEAD + (
        "methods:\n  mine: {target: mine.py, config: {beta: 3, eps: 4/255}}\n"
        "  hard: {extends: dafa, config: {beta: 9}}\n"
        "datasets:\n  birds: {reader: folder, path: images, image_shape: [3, 32, 32]}\n"
        "models:\n  net: {target: net.py:build}\n"
        "protocols:\n  short: {extends: quickstart, epochs: 15}\n"
        "suites:\n  s:\n    methods: [mine, hard, trades]\n    datasets: [birds]\n    models: [net]\n"
        "    seeds: [0]\n    protocol: short\n"
    )
    path = write("registry.yaml", text)
    registry = load_registry([path])
    assert registry.method_config("mine") == {**registry.method_config("mine"), "beta": 3.0, "eps": 4 / 255}
    assert type(registry.methods["mine"].config["beta"]) is float
    assert registry.method_config("hard", "stl10")["strength"] == 1.5
    assert registry.datasets["birds"].path == str(path.parent / "images")
    assert registry.models["net"].target == f"{path.parent / 'net.py'}:build"
    assert registry.protocols["short"].milestones == {14: 0.01}
    assert registry.origins[("dataset", "birds")] == f"{path}:6"


def test_the_file_that_is_mutated_below_is_valid(write):
    assert "mine" in load_registry([write("users.yaml", USERS)], entry_points=False).protocols


def test_a_plain_file_registers_its_method(write, plugin):
    path = write("whatever.py", plugin)
    registry = load_registry([path], entry_points=False)
    assert registry.get("method", "mine").target == f"{path}:Mine"
    assert registry.origins[("method", "mine")] == str(path)


def test_yaml_may_add_settings_to_a_plain_file(write, plugin):
    files = [write("m.py", plugin), write("r.yaml", HEAD + "methods:\n  mine: {config: {beta: 2}}\n")]
    assert load_registry(files, entry_points=False).method_config("mine")["beta"] == 2.0


def test_an_entry_point_needs_no_yaml(install, plugin):
    install("pkg-c", {"mine": "fb_pkg_c.mine:Mine"}, {"fb_pkg_c/__init__.py": "", "fb_pkg_c/mine.py": plugin})
    registry = load_registry()
    assert registry.get("method", "mine").target == "fb_pkg_c.mine:Mine"
    assert registry.origins[("method", "mine")] == "entry point of pkg-c 1.0"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("fb_gone:Mine", "no module named 'fb_gone'"),
        ("fb_pkg_d.bad:Mine", "bad.py:1 is not valid Python"),
        ("fb_pkg_d.fine:Mien", "no class 'Mien'"),
    ],
)
def test_a_broken_plugin_does_not_stop_the_rest(install, plugin, target, reason):
    modules = {"fb_pkg_d/__init__.py": "", "fb_pkg_d/bad.py": "def (\n", "fb_pkg_d/fine.py": plugin}
    install("pkg-d", {"broken": target, "fine": "fb_pkg_d.fine:Mine"}, modules)
    registry = load_registry()
    assert "fine" in registry.methods
    (broken,) = [plugin for plugin in registry.broken if plugin.name == "broken"]
    assert reason in broken.reason
    assert broken.origin == "entry point of pkg-d 1.0"
    with pytest.raises(PluginError, match="'broken' cannot be used"):
        registry.get("method", "broken")


def test_a_broken_file_and_a_broken_yaml_target_do_not_stop_the_rest(write, plugin):
    text = HEAD + "methods:\n  lost: {target: lost.py:Lost}\n  child: {extends: lost}\n"
    files = [
        write("bad.py", "def (\n"),
        write("none.py", "x = 1\n"),
        write("r.yaml", text),
        write("m.py", plugin),
    ]
    registry = load_registry(files, entry_points=False)
    assert {"bad", "none", "lost", "child"} <= {plugin.name for plugin in registry.broken}
    assert "mine" in registry.methods


def test_two_packages_with_one_name_are_refused_with_both_origins(install, plugin):
    for letter in "efg":
        install(f"pkg-{letter}", {"mine": f"fb_{letter}:Mine"}, {f"fb_{letter}.py": plugin})
    registry = load_registry()
    (broken,) = [plugin for plugin in registry.broken if plugin.name == "mine"]
    assert all(f"pkg-{letter} 1.0" in broken.origin for letter in "efg")
    assert "two packages offer it" in broken.reason
    assert "mine" not in registry.methods


def test_a_name_cannot_be_defined_again(write):
    path = write(
        "r.yaml",
        HEAD + "datasets:\n  cifar10: {reader: cifar10, num_classes: 10, image_shape: [3, 32, 32]}\n",
    )
    text = faults_of(path)
    assert f"{path}:3  datasets.cifar10" in text
    assert f"already defined in {BUILT_IN_LABEL}:" in text


def test_a_name_in_two_of_the_users_files_is_refused_with_both_origins(write):
    one, two = (write(f"{n}.yaml", HEAD + "models:\n  net: {target: 'a:b'}\n") for n in ("one", "two"))
    assert f"{two}:3  models.net\n  model 'net' is already defined in {one}:3" in faults_of(one, two)


def test_a_yaml_target_and_an_entry_point_collide(install, write, plugin):
    install("pkg-h", {"mine": "fb_h:Mine"}, {"fb_h.py": plugin})
    write("m.py", plugin)
    path = write("r.yaml", HEAD + "methods:\n  mine: {target: m.py:Mine}\n")
    text = faults_of(path, entry_points=True)
    assert f"{path}:3  methods.mine" in text
    assert "entry point of pkg-h 1.0 (fb_h:Mine)" in text


def test_two_plain_files_collide(write, plugin):
    text = faults_of(write("a.py", plugin), write("b.py", plugin))
    assert "b.py:1  methods.mine" in text
    assert "a.py:Mine" in text


def test_an_unknown_setting_is_answered_with_the_options(write, ours):
    path = write(
        "r.yaml",
        HEAD
        + "methods:\n  x:\n    extends: dafa\n    title: X\n    datasets:\n      cifar10: {stength: 1}\n",
    )
    text = faults_of(path, entry_points=True)
    assert text.startswith(
        f"{path}:7  methods.x.datasets.cifar10.stength\n  unknown key 'stength'; X accepts base, beta, "
    )
    assert text.endswith("Did you mean 'strength'?")


@pytest.mark.parametrize(
    ("body", "where", "part"),
    [
        ("methds: {}\n", "2  methds", "Did you mean 'methods'?"),
        ("models: 3\n", "2  models", "expected a mapping of names, got 3"),
        ("models: {a: 3}\n", "2  models.a", "expected a mapping, got 3"),
        ("models:\n  A_b: {target: 'a:b'}\n", "3  models.A_b", "lower-case"),
        ("models:\n  all: {target: 'a:b'}\n", "3  models.all", "choose another name"),
        ("attacks:\n  clean: {kind: pgd}\n", "3  attacks.clean", "choose another name"),
        ("models:\n  a: {target: 'a:b', name: x}\n", "3  models.a.name", "unknown key 'name'"),
        ("models:\n  a: {taget: 'a:b'}\n", "3  models.a.taget", "Did you mean 'target'?"),
        ("models:\n  a: {1: 2, target: 'a:b'}\n", "3  models.a.1", "unknown key '1'"),
        ("models:\n  a: {target: build}\n", "3  models.a.target", "pattern"),
        ("attacks:\n  a: {kind: pdg}\n", "3  attacks.a.kind", "expected pgd or autoattack or a3, got 'pdg'"),
        (
            "attacks:\n  a: {kind: pgd, eps: 8, step_size: 0.1, num_steps: 1}\n",
            "3  attacks.a.eps",
            "8 looks like 8/255: write 8/255",
        ),
        (
            "attacks:\n  a: {kind: pgd, eps: -1, step_size: 0.1, num_steps: 1}\n",
            "3  attacks.a.eps",
            "at least 0",
        ),
        (
            "attacks:\n  a: {kind: autoattack, eps: 0.1, sed: 1}\n",
            "3  attacks.a.sed",
            "an autoattack attack accepts",
        ),
        ("methods:\n  m: {extends: trix-basics}\n", "3  methods.m.extends", "Did you mean 'trix-basic'?"),
        ("methods:\n  m: {extends: m}\n", "3  methods.m.extends", "extends itself: m -> m"),
        (
            "methods:\n  m: {extends: n}\n  n: {extends: m}\n",
            "4  methods.n.extends",
            "extends itself: m -> n -> m",
        ),
        (
            "methods:\n  mine: {config: {scale: 1}}\n",
            "3  methods.mine.config.scale",
            "expected true or false, got 1",
        ),
        ("methods:\n  mine: {config: {beta: x}}\n", "3  methods.mine.config.beta", "a number (or a fraction"),
        ("methods:\n  mine: {config: {rule: x}}\n", "3  methods.mine.config.rule", "'paper' or 'program'"),
        ("methods:\n  mine: {datasets: {cifer10: {}}}\n", "3  methods.mine.datasets.cifer10", "'cifar10'?"),
        (
            "methods:\n  mine: {official: {protocol: tri}}\n",
            "3  methods.mine.official.protocol",
            "no protocol",
        ),
        (
            "methods:\n  mine: {official: {protocol: official}}\n",
            "3  methods.mine.official.protocol",
            "name a protocol with a schedule",
        ),
        ("methods:\n  mine: {paper: {arxiv: 2401.1}}\n", "3  methods.mine.paper.arxiv", "put it in quotes"),
        ("protocols:\n  p: {extends: nope}\n", "3  protocols.p.extends", "no protocol called 'nope'"),
        ("protocols:\n  p: {extends: [1]}\n", "3  protocols.p.extends", "no protocol"),
        ("protocols:\n  p: {extends: official}\n", "3  protocols.p.extends", "it has no schedule to extend"),
        ("protocols:\n  p: {extends: p}\n", "3  protocols.p.extends", "p -> p"),
        ("protocols:\n  p: {extends: trix-150, epochs: 0}\n", "3  protocols.p.epochs", "at least 1"),
        (
            "protocols:\n  p: {extends: trix-150, epochs: 4, selection: {last: 5}}\n",
            "3  protocols.p.selection.last",
            "the last 5 of 4",
        ),
        (
            "protocols:\n  p:\n    extends: trix-150\n    milestones: {151: 1}\n",
            "5  protocols.p.milestones.151",
            "1..150",
        ),
        (
            "protocols:\n  p: {extends: trix-150, evaluation: [pgd-2]}\n",
            "3  protocols.p.evaluation.0",
            "'pgd-20'?",
        ),
        (
            "protocols:\n  p: {version: 1, per_method: true, epochs: 3}\n",
            "3  protocols.p.epochs",
            "a per-method protocol",
        ),
        ("protocols:\n  p: {version: 1, per_method: false}\n", "3  protocols.p.per_method", "expected True"),
        (
            "suites:\n  s: {methods: [trix, trx], datasets: [d], models: [m], seeds: [0], protocol: p}\n",
            "3  suites.s.methods.1",
            "Did you mean 'trix'?",
        ),
        (
            "suites:\n  s: {methods: [trix], datasets: [digits], models: [], seeds: [-1], protocol: p}\n",
            "3  suites.s.seeds.0",
            "at least 0",
        ),
        ("models: {a: {target: 'a:b'}, a: {target: 'a:c'}}\n", "2  models.a", "duplicate key"),
        ("models: {a: !x {target: 'a:b'}}\n", "2  models.a", "tag '!x'"),
        ("models: {a: [\n", "3", "not valid YAML"),
    ],
)
def test_a_fault_names_file_line_and_key(write, plugin, body, where, part):
    path = write("r.yaml", HEAD + body)
    text = faults_of(write("m.py", plugin), path)
    blocks = [block for block in text.split(f"{path}:") if block.startswith(f"{where}\n")]
    assert blocks, text
    assert any(part in block for block in blocks), text


@pytest.mark.parametrize("text", ["", "- a\n", "version: 2\n", "models: {}\n", "version: true\n"])
def test_a_file_says_its_version(write, text):
    assert "expected 'version: 1'" in faults_of(write("r.yaml", text))


def test_all_faults_of_all_files_are_reported_at_once(write):
    one = write("one.yaml", HEAD + "models:\n  a: {taget: 'x:y', mflops: no}\n")
    two = write("two.yaml", HEAD + "suites:\n  s: {seeds: [0, 0]}\n")
    three = write("three.yaml", "a: [\n")
    text = faults_of(one, two, three)
    assert all(f"{path}:" in text for path in (one, two, three))
    for part in (
        "'taget'",
        "'target' is missing",
        "got 'no'",
        "0 is given twice",
        "'protocol' is missing",
        "not valid",
    ):
        assert part in text


def test_an_override_comes_back_in_the_options_type(write, plugin):
    registry = load_registry([write("m.py", plugin)], entry_points=False)
    assert registry.check_override("mine", "beta", "3") == 3.0
    assert registry.check_override("mine", "eps", "8/255") == 8 / 255
    assert registry.check_override("mine", "cap", "null") is None
    assert registry.check_override("mine", "scale", "false") is False
    assert registry.check_override("mine", "name", "1") == "1"
    assert registry.check_override("mine", "warmup_epochs", 3) == 3
    with pytest.raises(ConfigError, match="did you mean: beta"):
        registry.check_override("mine", "betas", 1)
    with pytest.raises(ConfigError, match=r"methods\.mine\.scale: expected true or false, got 3"):
        registry.check_override("mine", "scale", "3")


def test_a_protocol_of_its_own_is_asked_for_under_official(write, plugin):
    registry = load_registry([write("m.py", plugin)], entry_points=False)
    with pytest.raises(ConfigError, match="has no official protocol"):
        registry.protocol_for("official", "mine")
    assert registry.protocol_for("trix-150", "mine").name == "trix-150"


def test_the_room_loads_without_torch():
    code = "import sys; from fairbench.registry import load_registry; load_registry(); "
    code += "assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(ROOT))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_mutated_registry_ends_well_or_in_an_error_of_ours(tmp_path, data):
    lines = USERS.splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(lines) - 1))
        line = lines[index]
        position = data.draw(st.integers(0, len(line)))
        piece = data.draw(
            st.sampled_from(
                ["", ":", " ", "  ", "-", "{", "}", "[", "&a ", "*a", "!t ", "null", "-1", "8", "\t"]
            )
        )
        lines[index] = line[:position] + piece + line[position + data.draw(st.integers(0, 4)) :]
    path = tmp_path / "mutated.yaml"
    path.write_text("\n".join(lines))
    with contextlib.suppress(FairbenchError):
        load_registry([path], entry_points=False)
