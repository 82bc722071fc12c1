"""The loop: interrupted or not, the same cell gives the same weights."""

import dataclasses
import json
import math

import pytest
import torch
import toys
from toy_training import COMPONENTS, Silent, half_kept, rows, trainer, weights

from fairbench.core.errors import ConfigError, ContractError, DivergedError
from fairbench.core.identity import canonical_json
from fairbench.data.images import ImageSet, to_unit
from fairbench.models.checkpoints import read_tensors
from fairbench.objectives.needs import Needs
from fairbench.objectives.state import per_class
from fairbench.registry.components import Augment, Averaging
from fairbench.training.statistics import numbers


class Stopped(Exception):
    """The power cut."""


class StopsAfterEpoch(Silent):
    def __init__(self, last):
        self.last = last

    def epoch(self, row):
        if row["epoch"] == self.last:
            raise Stopped


class StopsInside(Silent):
    def __init__(self, epoch):
        self.at = epoch

    def step(self, epoch, num_epochs, step, num_steps, loss):
        if epoch == self.at and step == 2:
            raise Stopped


def finished(folder, *arguments, **options):
    found = trainer(folder, *arguments, **options)
    found.run()
    return found


def assert_same_run(one, other):
    toys.assert_same(weights(one), weights(other))
    toys.assert_same(weights(one, 3), weights(other, 3))
    states = [read_tensors(folder / "checkpoints" / "resume.safetensors")[0] for folder in (one, other)]
    toys.assert_same(*states)
    assert rows(one) == rows(other)


# Resume


@pytest.mark.parametrize(
    ("name", "stop"),
    [
        ("pgd-at", StopsAfterEpoch(2)),
        ("trades", StopsInside(3)),
        ("dafa", StopsAfterEpoch(1)),
        ("dafa", StopsInside(2)),
        ("dafa", StopsAfterEpoch(2)),
        ("trix", StopsInside(4)),
    ],
)
def test_resume_equals_uninterrupted(tmp_path, name, stop):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(whole, name)
    with pytest.raises(Stopped):
        trainer(cut, name, listener=stop).run()
    finished(cut, name)
    assert_same_run(whole, cut)


def test_resume_after_every_epoch_equals_uninterrupted(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(whole)
    for epoch in range(1, 4):
        with pytest.raises(Stopped):
            trainer(cut, listener=StopsAfterEpoch(epoch)).run()
    finished(cut)
    assert_same_run(whole, cut)


@pytest.mark.parametrize("torn", ['{"epoch": 2, "lo', '{"epoch": 2, "loss": 99.0}\n{"epoch": 3}\n'])
def test_lines_written_after_the_last_full_state_are_forgotten(tmp_path, torn):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(whole)
    with pytest.raises(Stopped):
        trainer(cut, listener=StopsAfterEpoch(1)).run()
    with (cut / "epochs.jsonl").open("a") as file:
        file.write(torn)
    finished(cut)
    assert_same_run(whole, cut)


def test_without_a_full_state_training_begins_again(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(whole)
    with pytest.raises(Stopped):
        trainer(cut, listener=StopsAfterEpoch(3)).run()
    (cut / "checkpoints" / "resume.safetensors").unlink()
    finished(cut)
    assert_same_run(whole, cut)


def test_a_finished_run_does_nothing_more(tmp_path):
    finished(tmp_path)
    before = rows(tmp_path)
    again = trainer(tmp_path, listener=StopsInside(1))
    again.run()
    toys.assert_same(again.model.state_dict(), weights(tmp_path))
    assert rows(tmp_path) == before


def test_class_weights_survive_a_resume(tmp_path):
    with pytest.raises(Stopped):
        trainer(tmp_path, listener=StopsAfterEpoch(3)).run()
    state = read_tensors(tmp_path / "checkpoints" / "resume.safetensors")[0]
    resumed = finished(tmp_path)
    assert torch.equal(resumed.objective.state.weight, state["objective.weight"])
    assert not torch.equal(resumed.objective.state.weight, torch.ones(4, dtype=torch.float64))


# Seeds and streams


@pytest.mark.parametrize("name", toys.METHODS)
def test_the_same_seed_repeats_and_another_seed_differs(tmp_path, name):
    for folder, seed in (("one", 0), ("again", 0), ("other", 1)):
        finished(tmp_path / folder, name, seed=seed, epochs=2, milestones={})
    one, again, other = (weights(tmp_path / folder, 2) for folder in ("one", "again", "other"))
    toys.assert_same(one, again)
    assert rows(tmp_path / "one") == rows(tmp_path / "again")
    assert not torch.equal(one["fc.weight"], other["fc.weight"])
    assert rows(tmp_path / "one")[0]["stream"] != rows(tmp_path / "other")[0]["stream"]


def test_another_seed_differs_from_equal_initial_weights_too(tmp_path):
    for folder, seed in (("one", 0), ("other", 1)):
        found = trainer(tmp_path / folder, seed=seed)
        found.model.load_state_dict(toys.network(4).state_dict())
        found.run()
    assert not torch.equal(weights(tmp_path / "one")["fc.weight"], weights(tmp_path / "other")["fc.weight"])


def test_all_methods_see_the_same_stream_under_one_seed_and_the_same_part_of_it_when_they_hold_out(tmp_path):
    streams = {}
    for name in toys.METHODS:
        if toys.objective(name).resolved_needs().sampling:
            continue  # its images depend on what it learns
        held = finished(tmp_path / name, name, epochs=2, milestones={}).keep is not None
        streams.setdefault(held, set()).add(tuple(row["stream"] for row in rows(tmp_path / name)))
    assert {held: len(found) for held, found in streams.items()} == {False: 1, True: 1}
    first, second = streams[False].pop()
    assert first != second


def test_training_leaves_the_global_generator_alone(tmp_path):
    before = torch.get_rng_state()
    finished(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


# Held-out images, averages and perturbed weights


class Spy(toys.plugin("wat")):
    """WAT, with a note of every image that it meets in training and in validation."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.met = {"trained": [], "validated": []}

    def loss(self, model, batch, x_adv, ctx):
        self.met["trained" if model.training else "validated"].append(batch.index)
        return super().loss(model, batch, x_adv, ctx)


def test_held_out_images_are_never_trained_on_and_all_are_measured_each_epoch(tmp_path):
    spy = toys.configured(Spy)
    found = finished(tmp_path, method=spy)
    trained, validated = (torch.cat(spy.met[key]) for key in ("trained", "validated"))
    kept, held = found.keep.nonzero().flatten(), (~found.keep).nonzero().flatten()
    assert sorted(set(trained.tolist())) == kept.tolist()
    assert torch.equal(torch.cat(spy.met["validated"][: len(spy.met["validated"]) // 4]), held)
    assert len(validated) == 4 * len(held)


def test_validation_leaves_model_and_gradients_alone(tmp_path):
    found = trainer(tmp_path, "wat")
    before = toys.copied(found.model.state_dict())
    found.epoch(1, found.data.epoch(1)).validate()
    toys.assert_same(before, toys.copied(found.model.state_dict()))
    assert all(parameter.grad is None for parameter in found.model.parameters())
    assert found.model.training


KINDS = ("autoaugment", "cutout", "mixup", "cutmix")


@pytest.mark.parametrize("chosen", COMPONENTS)
@pytest.mark.parametrize("stop", [StopsInside(2), StopsAfterEpoch(3)], ids=["inside 2", "after 3"])
def test_resume_equals_uninterrupted_with_every_component(tmp_path, chosen, stop):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(whole, components=COMPONENTS[chosen])
    with pytest.raises(Stopped):
        trainer(cut, listener=stop, components=COMPONENTS[chosen]).run()
    finished(cut, components=COMPONENTS[chosen])
    assert_same_run(whole, cut)


@pytest.mark.parametrize("kind", ["ema", "fawa", "swa"])
def test_averaging_changes_what_is_evaluated_and_not_the_training(tmp_path, kind):
    keep = half_kept(toys.images(24))
    finished(tmp_path / "plain", components={"keep": keep})
    found = finished(tmp_path / "averaged", components={**COMPONENTS[kind], "keep": keep})
    raw = read_tensors(tmp_path / "averaged" / "checkpoints" / "epoch-0004.raw.safetensors")[0]
    toys.assert_same(raw, weights(tmp_path / "plain"))
    assert not torch.equal(weights(tmp_path / "averaged")["fc.weight"], raw["fc.weight"])
    assert rows(tmp_path / "averaged")[-1]["average"]["started"]
    assert found.warnings() == []


def test_a_threshold_that_no_epoch_reaches_evaluates_the_trained_weights_and_says_so(tmp_path):
    components = {"averaging": Averaging(kind="fawa", threshold=1.01, start_epoch=1)}
    found = finished(tmp_path, components=components)
    toys.assert_same(weights(tmp_path), found.model.state_dict())
    (warning,) = found.warnings()
    assert warning.startswith("evaluated without an average in epochs 3-4: no worst validation class")
    assert "fawa's threshold 1.01" in warning


def test_an_average_that_starts_late_says_which_epochs_lack_it(tmp_path):
    found = finished(tmp_path, components={"averaging": Averaging(kind="swa", start_epoch=4)})
    assert found.warnings() == ["evaluated without an average in epoch 3: swa was to start in epoch 4"]


# Augmentation on top of crop and flip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", toys.METHODS)
def test_every_method_trains_under_every_augmentation(tmp_path, name, kind):
    found = finished(
        tmp_path, name, epochs=1, milestones={}, selection={"last": 1}, components=COMPONENTS[kind]
    )
    assert all(bool(torch.isfinite(value).all()) for value in found.model.state_dict().values())
    assert math.isfinite(rows(tmp_path)[0]["loss"])


@pytest.mark.parametrize("kind", KINDS)
def test_all_methods_see_the_same_augmented_stream_and_another_one_than_without(tmp_path, kind):
    names, seen = ("pgd-at", "trades", "dafa", "trix"), {}
    for name in names:
        found = trainer(tmp_path / name, name, epochs=2, milestones={}, components=COMPONENTS[kind])
        seen[name] = watched(found.objective)
        found.run()
    for name in names[1:]:
        assert all(torch.equal(one, other) for one, other in zip(seen["pgd-at"], seen[name], strict=True))
    streams = {tuple(row["stream"] for row in rows(tmp_path / name)) for name in names}
    finished(tmp_path / "plain", epochs=2, milestones={})
    assert len(streams | {tuple(row["stream"] for row in rows(tmp_path / "plain"))}) == 2


def watched(objective):
    """The images that the objective is asked to perturb, as it goes."""
    seen, perturb = [], objective.perturb

    def watching(model, batch, ctx):
        seen.append(batch.x)
        return perturb(model, batch, ctx)

    objective.perturb = watching
    return seen


@pytest.mark.parametrize(
    "off", [Augment(kind="cutout", side=0), Augment(kind="mixup", alpha=0), Augment(kind="cutmix", alpha=0)]
)
def test_a_neutral_augmentation_is_training_without_one(tmp_path, off):
    finished(tmp_path / "plain")
    finished(tmp_path / "off", components={"augment": off})
    assert_same_run(tmp_path / "plain", tmp_path / "off")


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_images_are_neither_augmented_nor_mixed(tmp_path, kind):
    images, seen = toys.images(24), []
    found = trainer(tmp_path, "wat", images=images, components=COMPONENTS[kind])
    validate = found.objective.validate

    def watching(model, batch, ctx):
        seen.append(batch)
        return validate(model, batch, ctx)

    found.objective.validate = watching
    found.run()
    assert seen
    for batch in seen:
        assert torch.equal(batch.x, to_unit(images.images[batch.index]))
        assert batch.y2 is None
    assert not found.keep[torch.cat([batch.index for batch in seen])].any()


def test_statistics_leave_out_what_is_too_evenly_mixed(tmp_path):
    counts = []
    for share in (0.5, 1.0):
        components = {"augment": Augment(kind="mixup", min_share=share)}
        finished(tmp_path / str(share), "pgd-at", components=components)
        counts.append(rows(tmp_path / str(share))[0]["train_robust_accuracy"])
    assert all(rate is not None for rate in counts[0])
    assert counts[1] == [None] * 4  # nothing is left


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_method_that_needs_one_label_refuses_mixed_images(tmp_path, kind):
    objective = toys.objective("trades")
    type(objective).needs, before = Needs(one_label=True), type(objective).needs
    try:
        with pytest.raises(ConfigError, match=f"'trades' cannot be trained with {kind}"):
            trainer(tmp_path, method=objective, components=COMPONENTS[kind])
        trainer(tmp_path, method=objective, components=COMPONENTS["cutout"])
    finally:
        type(objective).needs = before


# What is written


@pytest.mark.parametrize("last", [1, 3])
def test_weights_of_the_last_epochs_are_kept(tmp_path, last):
    found = finished(tmp_path, selection={"last": last})
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    kept = [f"epoch-{epoch:04d}.safetensors" for epoch in range(5 - last, 5)]
    assert names == [*kept, "resume.before.safetensors", "resume.safetensors"]
    toys.assert_same(weights(tmp_path), found.model.state_dict())


def test_epochs_record_rate_loss_terms_and_class_statistics(tmp_path):
    finished(tmp_path)
    found = rows(tmp_path)
    assert [row["epoch"] for row in found] == [1, 2, 3, 4]
    assert [row["lr"] for row in found] == pytest.approx([0.05, 0.05, 0.005, 0.005])
    for row in found:
        assert row["loss"] == pytest.approx(sum(row["terms"].values()))
        assert len(row["train_clean_accuracy"]) == len(row["train_robust_accuracy"]) == 4
        assert len(row["logged"]["weight"]) == 4
        canonical_json(row)
    assert found[0]["logged"]["weight"] == [1, 1, 1, 1]
    assert found[2]["logged"] == found[3]["logged"] == found[1]["logged"] != found[0]["logged"]


def test_what_a_method_does_not_measure_is_null_and_not_a_number(tmp_path):
    finished(tmp_path, "pgd-at")
    line = (tmp_path / "epochs.jsonl").read_text().splitlines()[0]
    assert json.loads(line)["train_clean_accuracy"] == [None] * 4
    assert "NaN" not in line


def test_numbers_for_a_record_are_plain():
    assert numbers(torch.tensor([1.0, math.nan, math.inf])) == [1.0, None, None]
    assert numbers(math.nan) is None
    assert numbers(torch.tensor(2)) == 2.0


def test_a_worker_that_lost_its_claim_writes_nothing(tmp_path):
    found = trainer(tmp_path)

    def lost():
        raise Stopped

    found.checkpoints.before_write = lost
    with pytest.raises(Stopped):
        found.run()
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert rows(tmp_path) == []


# Trouble


def test_a_diverging_run_ends_with_its_epoch(tmp_path):
    with pytest.raises(DivergedError) as error:
        finished(tmp_path, optimizer={"lr": 1e30})
    assert error.value.epoch == 1


@pytest.mark.parametrize("name", toys.METHODS)
def test_divergence_in_the_last_step_of_an_epoch_is_met_in_the_next(tmp_path, name):
    with pytest.raises(DivergedError) as error:
        finished(tmp_path, name, batch_size=24, optimizer={"lr": 1e38})
    assert error.value.epoch == 2
    assert [row["epoch"] for row in rows(tmp_path)] == [1]


def test_a_plugin_that_breaks_the_contract_is_stopped_at_the_first_step(tmp_path):
    found = trainer(tmp_path)
    found.objective.perturb = lambda model, batch, ctx: 1 - batch.x
    with pytest.raises(ContractError, match="left the budget"):
        found.run()
    assert rows(tmp_path) == []


def test_a_plugin_that_leaves_its_budget_later_is_stopped_at_the_end_of_the_epoch(tmp_path):
    found = trainer(tmp_path)
    perturb = found.objective.perturb
    found.objective.perturb = lambda model, batch, ctx: (
        1 - batch.x if ctx.step == 1 else perturb(model, batch, ctx)
    )
    with pytest.raises(ContractError, match="in epoch 1"):
        found.run()
    assert rows(tmp_path) == []


# Data


def test_unbalanced_labels_give_right_class_accuracies(tmp_path):
    labels = torch.tensor([0] * 15 + [1] * 4 + [2] * 4 + [3])
    pixels = toys.images(24).images
    found = trainer(tmp_path, images=ImageSet(pixels, labels, 4, tuple("abcd")), optimizer={"lr": 1e-12})
    seen, loss = [], found.objective.loss

    def watched(model, batch, x_adv, ctx):
        terms = loss(model, batch, x_adv, ctx)
        seen.append((ctx.epoch, batch.y, terms.logits.argmax(1) == batch.y))
        return terms

    found.objective.loss = watched
    found.run()
    for epoch, row in enumerate(rows(tmp_path), 1):
        y, hit = (torch.cat([part[i] for part in seen if part[0] == epoch]) for i in (1, 2))
        assert row["train_clean_accuracy"] == [float(hit[y == c].double().mean()) for c in range(4)]


def test_hooks_come_in_order_and_contexts_count(tmp_path):
    from fairbench.api import AdversarialObjective, LossTerms, losses, method

    seen = []

    @method("diary")
    class Diary(AdversarialObjective):
        @dataclasses.dataclass
        class State:
            count: torch.Tensor = per_class(0.0)

        def on_epoch_start(self, ctx):
            seen.append(("start", ctx.epoch, ctx.step))

        def perturb(self, model, batch, ctx):
            return batch.x

        def loss(self, model, batch, x_adv, ctx):
            return LossTerms(clean=losses.cross_entropy(model(batch.x), batch.y))

        def on_step_end(self, batch, terms, ctx):
            seen.append(("step", ctx.epoch, ctx.step))
            self.state.count += torch.bincount(batch.y, minlength=4)

        def on_epoch_end(self, stats, ctx):
            seen.append(("end", ctx.epoch, ctx.step))
            assert ctx.num_steps == 3
            assert ctx.num_epochs == 4
            assert torch.equal(stats.count, torch.full((4,), 6.0, dtype=torch.float64))

    found = finished(tmp_path, "trades", method=toys.configured(Diary))
    steps = [("step", 1, 0), ("step", 1, 1), ("step", 1, 2)]
    assert seen[:5] == [("start", 1, 0), *steps, ("end", 1, 3)]
    assert len(seen) == 4 * 5
    assert found.objective.state.count.tolist() == [24.0] * 4
