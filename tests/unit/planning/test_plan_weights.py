"""Teachers and files of weights in a plan: identity, order, price, and errors that say what to type."""

from dataclasses import replace
from pathlib import Path

import pytest

from fairbench.core.errors import ConfigError, PluginError, UnknownNameError
from fairbench.planning.code_locations import located
from fairbench.planning.cost import Estimate, Paces, estimate, within
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.records.results_folder import ResultsFolder
from fairbench.registry import load_registry

RSLAD = {"methods": ("rslad", "trades"), "seeds": (0,)}


def only(cells, method):
    (found,) = [cell for cell in cells if cell.method == method and not cell.preparation]
    return found


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"some weights")
    return path


# Teachers


def test_a_teacher_of_the_same_network_is_the_row_of_its_method_and_comes_before(plan):
    cells = plan(**RSLAD)
    assert [(cell.method, cell.preparation) for cell in cells] == [("trades", False), ("rslad", False)]
    assert cells[1].teachers["teacher"].id == cells[0].id
    assert cells[1].identity["teacher"] == {"start": "trades", "model": "cnn-small"}
    assert cells[1].identity["teachers"] == {"teacher": cells[0].entry}


def test_a_larger_teacher_is_planned_first_with_a_note_and_is_no_row(registry):
    selection = Selection(**RSLAD, datasets=("cifar10",), models=("resnet18",))
    cells, notes = resolve(selection, registry, Path("nowhere"))
    assert [(cell.method, cell.model, cell.preparation) for cell in cells] == [
        ("trades", "wrn-34-10", True),
        ("rslad", "resnet18", False),
        ("trades", "resnet18", False),
    ]
    assert cells[0].evaluation == ()
    assert "rslad learns from trades (wrn-34-10), which is trained first" in notes


def test_the_default_network_of_a_teacher_may_be_written_out(plan):
    (first, second) = (
        plan(*changes, **RSLAD) for changes in ((), ("methods.rslad.teacher.model=cnn-small",))
    )
    assert only(first, "rslad").id == only(second, "rslad").id


@pytest.mark.parametrize(
    "change", ["teacher=pgd-at", "teacher.start=dafa", "teacher.model=resnet18", "divisor=5.0"]
)
def test_another_teacher_is_another_cell(plan, change):
    chosen = {**RSLAD, "datasets": ("mnist",)}
    assert only(plan(f"methods.rslad.{change}", **chosen), "rslad").id != only(plan(**chosen), "rslad").id


def test_what_trains_the_teacher_is_part_of_the_identity(plan):
    changed = plan("methods.trades.beta=5", **RSLAD)
    assert only(changed, "rslad").id != only(plan(**RSLAD), "rslad").id


def test_each_seed_has_a_teacher_of_its_own_and_all_have_one_entry(plan):
    cells = [cell for cell in plan(methods=("rslad",), seeds=(0, 1)) if cell.method == "rslad"]
    assert [cell.teachers["teacher"].seed for cell in cells] == [0, 1]
    assert len({cell.entry for cell in cells}) == 1


def test_a_teacher_leaves_the_held_out_images_of_its_student_out(plan):
    cell = only(plan("methods.rslad.hold_out=0.1", **RSLAD), "rslad")
    assert cell.teachers["teacher"].identity["hold_out"] == cell.identity["hold_out"]


def test_a_method_may_start_from_one_that_learns_from_a_teacher(plan):
    cells = plan("methods.frl.fine_tune.start=rslad", methods=("frl",), seeds=(0,))
    assert [(cell.method, cell.preparation) for cell in cells] == [
        ("trades", True),
        ("rslad", True),
        ("trades", False),
        ("frl", False),
    ]


def test_a_teacher_may_be_fine_tuned(plan):
    cells = plan("methods.rslad.teacher=faal", methods=("rslad",), seeds=(0,))
    assert [cell.method for cell in cells] == ["trades", "faal", "rslad"]


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ("rslad.teacher=none", r"rslad.*none is given", "--set methods.rslad.teacher.weights=FILE"),
        ("rslad.teacher=rslad", "which itself learns from another network", "methods.rslad.teacher=trades"),
        ("trades.teacher=dafa", "methods.trades.teacher: trades learns from no such network", "list methods"),
        ("rslad.teacher.weights=nowhere.pt", r"cannot read the weights .*nowhere.pt: No such file", "=FILE"),
        ("rslad.natural_teacher=dafa", "learns from no such network", "list methods"),
    ],
)
def test_what_cannot_be_says_what_to_type(plan, change, message, hint):
    with pytest.raises(ConfigError, match=message) as error:
        plan(f"methods.{change}", **RSLAD)
    assert hint in error.value.hint


@pytest.mark.parametrize("change", ["teacher.start=traeds", "teacher.model=resnet81"])
def test_unknown_names_are_refused(plan, change):
    with pytest.raises(UnknownNameError, match=f"{change.partition('=')[2]}"):
        plan(f"methods.rslad.{change}", **RSLAD)


def test_a_start_and_weights_together_are_a_fault_of_a_registry_file(tmp_path):
    path = tmp_path / "registry.yaml"
    path.write_text(
        "version: 1\nmethods:\n"
        "  a: {extends: rslad, teacher: {start: trades, weights: w.pt}}\n"
        "  b: {extends: rslad, teacher: {model: resnet18}}\n"
        "  c: {extends: rslad, teacher: {start: nobody}}\n"
        "  d: {extends: rslad, teacher: {start: trades, model: nothing}}\n"
        "  e: {extends: faal, fine_tune: {start: trades, weights: w.pt}}\n"
    )
    with pytest.raises(ConfigError) as error:
        load_registry([path])
    for text in (
        "methods.a.teacher.weights",
        "methods.b.teacher",
        "expected 'start', a method that trains it, or 'weights', a file",
        "methods.c.teacher.start",
        "methods.d.teacher.model",
        "methods.e.fine_tune.weights",
        "'start' and 'weights' are both given",
    ):
        assert text in error.value.message


def test_a_teacher_and_its_student_have_their_price(plan, registry):
    chosen = {**RSLAD, "datasets": ("mnist",)}
    small = only(plan(**chosen), "rslad")
    large = only(plan("methods.rslad.teacher.model=resnet18", **chosen), "rslad")
    seconds = [estimate(cell, registry, Paces(), cuda=False).seconds for cell in (small, large)]
    assert seconds[1] > 2 * seconds[0]


def test_a_budget_takes_a_student_with_its_teacher_or_not_at_all(plan):
    cells = plan("methods.rslad.teacher=pgd-at", methods=("rslad",), seeds=(0,))
    costs = {cell.id: Estimate(5.0 if cell.method == "pgd-at" else 1.0, True) for cell in cells}
    taken, left = within(cells, costs, 4.0, 1)
    assert {cell.method for cell in left} == {"pgd-at", "rslad"}
    assert {cell.method for cell in taken} == {"trades"}
    assert within(cells, costs, 7.0, 1)[1] == []


@pytest.mark.parametrize("change", ["teacher=trades", "teacher.model=resnet18", "teacher=faal"])
def test_a_cell_with_a_teacher_is_read_back_whole(plan, tmp_path, change):
    cell = only(plan(f"methods.rslad.{change}", **RSLAD, datasets=("mnist",)), "rslad")
    assert ResultsFolder(tmp_path).prepare(cell).read_cell() == cell


def test_a_method_that_asks_a_teacher_in_some_settings_may_have_none(tmp_path):
    text = Path(load_registry().plugin("rslad").path).read_text().replace('@method("rslad"', '@method("mine"')
    declared = '    needs = Needs(teachers={"teacher"})\n'
    maybe = (
        "    @staticmethod\n    def needs(config):\n        if config.divisor > 1:\n"
        '            return Needs(teachers={"teacher"})\n        return Needs()\n'
    )
    assert declared in text
    (tmp_path / "mine.py").write_text(text.replace(declared, maybe))
    registry = load_registry([tmp_path / "mine.py"])
    cells, _ = resolve(Selection(methods=("mine",), seeds=(0,)), registry, Path("nowhere"))
    assert "teacher" not in only(cells, "mine").identity


# Files


@pytest.mark.parametrize("component", ["teacher", "fine_tune"])
def test_a_file_of_weights_takes_the_place_of_a_start_and_its_content_is_the_identity(
    plan, weights, component, tmp_path
):
    method = "rslad" if component == "teacher" else "faal"
    chosen = {"methods": (method,), "seeds": (0,)}
    change = f"methods.{method}.{component}.weights={weights}"
    cells = plan(change, **chosen)
    assert sorted(cell.method for cell in cells) == sorted([method, "trades"])
    cell = only(cells, method)
    assert cell.start is None
    assert cell.teachers == {}
    assert cell.locations[component] == str(weights)
    assert str(weights) not in str(cell.identity)
    copy = tmp_path / "copy.pt"
    copy.write_bytes(weights.read_bytes())
    assert only(plan(f"methods.{method}.{component}.weights={copy}", **chosen), method).id == cell.id
    weights.write_bytes(b"other weights")
    assert only(plan(change, **chosen), method).id != cell.id


def test_a_registry_file_names_weights_beside_it(tmp_path, weights):
    path = tmp_path / "registry.yaml"
    path.write_text(
        "version: 1\nmethods:\n"
        "  a: {extends: rslad, teacher: {weights: weights.pt, model: resnet18}}\n"
        "  b: {extends: rslad, datasets: {digits: {teacher: {weights: weights.pt}}}}\n"
        "  c: {extends: faal, fine_tune: {weights: weights.pt, epochs: 3, fixed: true}}\n"
    )
    cells, _ = resolve(Selection(methods=("a", "b", "c"), seeds=(0,)), load_registry([path]), Path("nowhere"))
    for method, component, model in (("a", "teacher", "resnet18"), ("b", "teacher", "cnn-small")):
        cell = only(cells, method)
        assert cell.locations[component] == str(weights)
        assert cell.identity["teachers"]["teacher"]["model"]["name"] == model
    tuned = only(cells, "c")
    assert tuned.locations["fine_tune"] == str(weights)
    assert tuned.training_protocol.epochs == 3


def test_a_start_from_the_command_line_replaces_weights_of_the_registry(tmp_path, weights):
    path = tmp_path / "registry.yaml"
    path.write_text("version: 1\nmethods:\n  a: {extends: rslad, teacher: {weights: weights.pt}}\n")
    selection = Selection(methods=("a",), seeds=(0,), overrides={"methods.a": {"teacher.start": "pgd-at"}})
    cell = only(resolve(selection, load_registry([path]), Path("nowhere"))[0], "a")
    assert cell.teachers["teacher"].method == "pgd-at"
    assert "weights" not in cell.identity["teacher"]


def test_the_network_of_a_file_teacher_is_looked_up_and_never_followed(plan, registry, weights):
    cell = only(plan(f"methods.rslad.teacher.weights={weights}", **RSLAD), "rslad")
    assert located(cell, registry).locations["teacher"] == str(weights)
    for changed in ("evil.py:build", "resnet18"):
        teacher = {**cell.identity["teacher"], "model": changed}
        forged = replace(cell, identity={**cell.identity, "teacher": teacher})
        with pytest.raises(PluginError, match=r"has no model|not what it was planned with"):
            located(forged, registry)
