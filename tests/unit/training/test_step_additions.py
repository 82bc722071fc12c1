"""What a method may ask of a step: exact under a resume, captured steps, perturbed weights and two labels."""

from dataclasses import dataclass

import pytest
import torch
import toys
from toy_training import Asks, Repeats, listening, rows, trainer, weights

from fairbench.api import (
    AdversarialObjective,
    LossTerms,
    Needs,
    attacks,
    classes,
    losses,
    method,
    per_class,
    per_example,
)
from fairbench.core import stopping
from fairbench.core.errors import ContractError
from fairbench.models.checkpoints import read_tensors
from fairbench.registry.components import Augment, WeightPerturbation
from fairbench.training import cuda_graphs
from fairbench.training.cuda_graphs import GraphedSteps
from fairbench.training.step import training_step

EPOCHS = 4
COMPONENTS = {
    "plain": {},
    "awp": {"awp": WeightPerturbation(gamma=0.5, start_epoch=2)},
    "mixup": {"augment": Augment(kind="mixup")},
}
EVERY_COMPONENT = pytest.mark.parametrize("components", COMPONENTS.values(), ids=COMPONENTS)


@pytest.fixture(autouse=True)
def short_epochs_are_captured_too(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "WORTH_CAPTURING", 1)


def trained(folder, cls, *, graphs=None, **given):
    """A finished training of a method; with `graphs`, its steps are captured."""
    images = toys.images(64)  # seven steps, of which the last is smaller; four with half of them held out
    found = trainer(folder, method=toys.configured(cls), images=images, **given)
    if graphs is not None:
        found.steps.graphed = GraphedSteps(graphs, found.protocol.batch_size)
    found.run()
    return found


def left(folder):
    """All that a training leaves behind: weights, the full state and the records of its epochs."""
    state = read_tensors(folder / "checkpoints" / "resume.safetensors")[0]
    return {**state, **{f"epoch 3 {name}": value for name, value in weights(folder, 3).items()}}, rows(folder)


def assert_exact(tmp_path, cls, components, *, captured=True):
    """Stopped in the middle of epochs, or captured, a method trains as in one go; the objective."""
    whole = trained(tmp_path / "whole", cls, components=components)
    graphs = Repeats()
    found = trained(tmp_path / "graphs", cls, components=components, graphs=graphs)
    assert (found.steps.fallback_reasons == []) is captured
    assert bool(graphs.replayed) is captured
    with listening():
        for place in ((1, 2), (2, 4)):
            with pytest.raises(stopping.Stopped):
                trained(tmp_path / "cut", cls, components=components, listener=Asks(*place), graphs=Repeats())
    trained(tmp_path / "cut", cls, components=components, graphs=Repeats())
    (tensors, records), *others = (left(tmp_path / name) for name in ("whole", "graphs", "cut"))
    for other, other_records in others:
        toys.assert_same(tensors, other)
        assert records == other_records
    return whole


class Base(AdversarialObjective):
    """PGD-AT."""

    def perturb(self, model, batch, ctx):
        return attacks.pgd(
            model,
            batch.x,
            lambda logits: losses.cross_entropy(logits, batch.y),
            budget=ctx.budget,
            start="uniform",
            rng=ctx.rng("attack"),
        )

    def loss(self, model, batch, x_adv, ctx):
        logits_adv = model(x_adv)
        return LossTerms(robust=losses.cross_entropy(logits_adv, batch.y), logits_adv=logits_adv)


def step(cls, given=None, *, awp=None, check=True):
    """The objective, its totals and the network after one step."""
    objective, model = toys.configured(cls), toys.network()
    totals = toys.totals(objective)
    given = toys.batch() if given is None else given
    training_step(model, objective, toys.sgd(model), given, toys.context(), totals, check=check, awp=awp)
    return objective, totals, model


# Watched values


@method("watches")
class Watches(Base):
    """Watches whether an image was still classified correctly, and weighs classes by it."""

    needs = Needs(epoch_stats={"robust_accuracy"}, watched={"correct"})

    @dataclass
    class State:
        share: torch.Tensor = per_class(0.5)

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        correct = terms.logits_adv.argmax(1) == batch.y
        weight = {"robust": 1.5 - self.state.share[batch.y]}
        return LossTerms(
            **terms.terms, weight=weight, logits_adv=terms.logits_adv, watch={"correct": correct}
        )

    def on_epoch_end(self, stats, ctx):
        assert torch.equal(stats.watched["correct"], stats.robust_accuracy)
        self.state.share = stats.of_every_class("correct")


@EVERY_COMPONENT
def test_watched_values_survive_resumes_and_captured_steps(tmp_path, components):
    found = assert_exact(tmp_path, Watches, components)
    assert not torch.equal(found.objective.state.share, torch.full((4,), 0.5, dtype=torch.float64))


def test_watched_values_are_class_means_and_no_part_of_the_loss():
    @method("indexed")
    class Indexed(Base):
        needs = Needs(watched={"position"})

        def loss(self, model, batch, x_adv, ctx):
            terms = super().loss(model, batch, x_adv, ctx)
            return LossTerms(**terms.terms, watch={"position": batch.index})

    _, totals, model = step(Indexed)
    assert totals.stats().watched["position"].tolist() == [4, 5, 6, 7]  # of 0, 4, 8; 1, 5, 9; ...
    toys.assert_same(model.state_dict(), step(method("base")(Base))[2].state_dict())
    given = toys.batch(labels=torch.tensor([0, 0, 1, 3]))
    watched = step(Indexed, given)[1].stats().watched["position"]
    assert watched[2].isnan()
    assert watched[[0, 1, 3]].tolist() == [0.5, 2, 3]


def test_mixed_images_count_for_the_dominant_label_by_its_share():
    lam = torch.linspace(0.5, 1, 12)
    given = toys.mixed(lam)

    @method("labels")
    class ByLabel(Base):
        needs = Needs(watched={"label"})

        def loss(self, model, batch, x_adv, ctx):
            terms = super().loss(model, batch, x_adv, ctx)
            return LossTerms(**terms.terms, watch={"label": batch.index + 100 * batch.y})

    stats = step(ByLabel, given)[1].stats()
    for c in range(4):
        mine = given.y == c
        mean = (lam * given.index)[mine].sum() / lam[mine].sum()
        assert float(stats.watched["label"][c]) == pytest.approx(100 * c + float(mean), rel=1e-6)


@pytest.mark.parametrize(
    ("declared", "watch", "says"),
    [
        (set(), {"kappa": torch.ones(12)}, "watches 'kappa', which needs does not declare"),
        ({"kappa"}, {}, "needs the watched value 'kappa', but loss\\(\\) did not return it"),
        ({"kappa"}, {"kappa": torch.ones(12, 1)}, "watched value 'kappa' has shape \\(12, 1\\)"),
    ],
)
def test_watched_values_are_declared_and_one_per_image(declared, watch, says):
    @method("wrong")
    class Wrong(Base):
        needs = Needs(watched=declared)

        def loss(self, model, batch, x_adv, ctx):
            return LossTerms(**super().loss(model, batch, x_adv, ctx).terms, watch=watch)

    with pytest.raises(ContractError, match=says):
        step(Wrong)


def test_a_watched_value_is_not_called_like_a_statistic():
    with pytest.raises(ContractError, match="is the name of a class statistic"):
        Needs(watched={"robust_accuracy"})


# A hook after each step


@method("bandit")
class Bandit(Base):
    """Weights of classes that follow the errors of each step, as in CFOL."""

    @dataclass
    class State:
        weight: torch.Tensor = per_class(1.0)

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        weight = {"robust": self.state.weight[batch.y]}
        return LossTerms(**terms.terms, weight=weight, logits_adv=terms.logits_adv)

    def on_step_end(self, batch, terms, ctx):
        wrong = terms.logits_adv.argmax(1) != batch.y
        indicator = classes.class_indicator(batch.y, self.info.num_classes, torch.float64)
        self.state.weight += 0.01 * terms.terms["robust"].double() * wrong @ indicator


@EVERY_COMPONENT
def test_a_hook_that_changes_state_in_place_is_captured(tmp_path, components):
    found = assert_exact(tmp_path, Bandit, components)
    assert not found.objective.state.weight.requires_grad


def test_the_hook_sees_the_outputs_of_the_weights_before_they_are_perturbed():
    seen = []

    @method("observer")
    class Observer(Bandit):
        def on_step_end(self, batch, terms, ctx):
            seen.append(terms.logits_adv.argmax(1) != batch.y)

    for awp in (None, WeightPerturbation(gamma=0.5, start_epoch=1)):
        _, totals, _ = step(Observer, awp=awp)
        errors = torch.zeros(4, dtype=torch.float64).index_add(0, toys.batch().y, seen[-1].double())
        torch.testing.assert_close(errors, totals.sums["count"] - totals.sums["robust_correct"])
    assert torch.equal(*seen)


def test_the_steps_of_a_hook_are_those_of_its_own_epoch_after_a_replacement(tmp_path):
    """State that other hooks replace between epochs is captured where it is then."""

    @method("normalised")
    class Normalised(Bandit):
        def on_epoch_end(self, stats, ctx):
            self.state.weight = self.state.weight / self.state.weight.mean()

    assert_exact(tmp_path, Normalised, {})


# Steps that are skipped, and methods that wait


@method("hard")
class HardOnly(Base):
    """Trains on the images that are misclassified under attack, as HAM does; skips a step without any."""

    needs = Needs(waits="the hard images are selected", watched={"hard"})

    def perturb(self, model, batch, ctx):
        x_adv = super().perturb(model, batch, ctx)
        with torch.no_grad():
            hard = model(x_adv).argmax(1) != batch.y
        return {"x_adv": x_adv, "hard": hard & ((ctx.step + ctx.epoch) % 3 != 0)}

    def loss(self, model, batch, adversary, ctx):
        hard = adversary["hard"].nonzero().flatten()
        if len(hard) == 0:
            return LossTerms.skip()
        logits = model(adversary["x_adv"][hard])
        terms = logits.new_zeros(len(batch)).index_put((hard,), losses.cross_entropy(logits, batch.y[hard]))
        weight = adversary["hard"].to(terms.dtype)
        return LossTerms(
            robust=terms, weight={"robust": weight}, divide_by_weight=("robust",), watch={"hard": weight}
        )


@EVERY_COMPONENT
def test_a_method_that_waits_and_skips_steps_is_exact_without_graphs(tmp_path, components):
    found = assert_exact(tmp_path, HardOnly, components, captured=False)
    skipped = [row["skipped_steps"] for row in rows(tmp_path / "whole")]
    assert skipped == [2, 2, 3, 2]  # of steps 0 to 6: 2, 5; 1, 4; 0, 3, 6; 2, 5
    assert found.steps.fallback_reasons == []  # without graphs there is nothing to fall back from


def test_the_reason_for_waiting_is_told(tmp_path):
    found = trained(tmp_path, HardOnly, graphs=Repeats())
    assert found.steps.fallback_reasons == ["the method waits for the device: the hard images are selected"]
    with pytest.raises(ContractError, match="gives no reason"):
        Needs(waits=True)


@method("skips")
class Skips(Base):
    """Skips every step."""

    def loss(self, model, batch, x_adv, ctx):
        return LossTerms.skip()

    def on_step_end(self, batch, terms, ctx):
        assert terms.skipped


@pytest.mark.parametrize("awp", [None, WeightPerturbation(gamma=0.5, start_epoch=1)])
@pytest.mark.parametrize("given", [toys.batch(), toys.mixed(0.7)])
def test_a_skipped_step_moves_no_weight_and_counts_in_no_statistic(given, awp):
    _, totals, model = step(Skips, given, awp=awp)
    toys.assert_same(model.state_dict(), toys.network().state_dict())
    assert totals.stats().count.tolist() == [0] * 4
    assert (totals.skipped_steps(), totals.mean_loss(), totals.mean_terms()) == (1, 0, {})
    assert torch.isfinite(totals.sums["excess"])


def test_an_epoch_of_skipped_steps_has_not_diverged(tmp_path):
    found = trained(tmp_path, Skips)
    toys.assert_same(found.model.state_dict(), toys.network(4).state_dict())
    assert [(row["loss"], row["skipped_steps"]) for row in rows(tmp_path)] == [(0, 7)] * EPOCHS


def test_a_skipped_step_leaves_the_momentum_and_later_steps_are_those_without_it():
    @method("sometimes")
    class Sometimes(Base):
        def loss(self, model, batch, x_adv, ctx):
            return LossTerms.skip() if ctx.step == 1 else super().loss(model, batch, x_adv, ctx)

    found = []
    for steps in ((0, 1, 2), (0, 2)):
        objective, model = toys.configured(Sometimes), toys.network()
        optimizer, totals = toys.sgd(model), toys.totals(objective)
        for number in steps:
            training_step(model, objective, optimizer, toys.batch(), toys.context(1, number), totals)
        found.append(model.state_dict())
    toys.assert_same(*found)


def test_both_labels_skip_or_none():
    @method("half")
    class Half(Base):
        def loss(self, model, batch, x_adv, ctx):
            terms = super().loss(model, batch, x_adv, ctx)
            return LossTerms.skip() if torch.equal(batch.y, toys.batch().y) else terms

    with pytest.raises(ContractError, match="for one of the two labels"):
        step(Half, toys.mixed(0.7))


def test_weights_that_sum_to_zero_give_a_term_and_a_gradient_of_zero():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    weight = {"robust": torch.zeros(2)}
    terms = LossTerms(robust=values, weight=weight, divide_by_weight=("robust",))
    for each in (terms, terms.mixed(terms, torch.tensor([0.7, 0.5]))):
        assert each.total().item() == 0
        assert torch.autograd.grad(each.total(), values)[0].tolist() == [0, 0]


# One value per training image


@method("margins")
class Margins(Base):
    """Keeps for each image how often it was met, and how far its last adversarial image was."""

    needs = Needs(validation="end")

    @dataclass
    class State:
        met: torch.Tensor = per_example(0.0)
        distance: torch.Tensor = per_example(-1.0)

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        weight = {"robust": 1 / (1 + self.state.met[batch.index])}
        return LossTerms(**terms.terms, weight=weight, logits_adv=terms.logits_adv)

    def on_step_end(self, batch, terms, ctx):
        distance = (ctx.adversary - batch.x).flatten(1).abs().amax(1)
        self.state.met[batch.index] += 1
        self.state.distance[batch.index] = distance.double()


@EVERY_COMPONENT
def test_values_of_images_survive_resumes_and_captured_steps(tmp_path, components):
    found = assert_exact(tmp_path, Margins, components)
    met, kept = found.objective.state.met, found.keep
    assert met.shape == kept.shape  # held-out images have their place among the others
    assert torch.equal(met, EPOCHS * kept.double())
    assert torch.equal(found.objective.state.distance >= 0, kept)
    assert found.objective.state.distance.max() == pytest.approx(0.1)


def test_there_is_one_value_for_each_training_image():
    objective = toys.configured(Margins)
    assert objective.state.met.shape == (objective.info.num_images,) == (64,)
    assert toys.configured(Margins, num_classes=2).state.met.shape == (32,)


def test_the_adversary_is_for_the_hook_after_the_step_only():
    seen = []

    @method("named")
    class Named(Base):
        def perturb(self, model, batch, ctx):
            seen.append(ctx.adversary)
            return {"near": super().perturb(model, batch, ctx), "steps": batch.y}

        def loss(self, model, batch, adversary, ctx):
            seen.append(ctx.adversary)
            return super().loss(model, batch, adversary["near"], ctx)

        def on_step_end(self, batch, terms, ctx):
            assert torch.equal(ctx.adversary["steps"], batch.y)
            assert not ctx.adversary["near"].requires_grad

    step(Named)
    assert seen == [None, None]


# The learning rate


@method("follows")
class FollowsTheRate(Base):
    """Weighs its loss by the learning rate, and keeps the rates that its hooks see."""

    @dataclass
    class State:
        rate: torch.Tensor = per_class(0.0)
        sum: torch.Tensor = per_class(0.0)

    def budget(self, y, ctx):
        return ctx.budget.scale(torch.full_like(y, 20 * ctx.lr, dtype=torch.float32))

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        weight = {"robust": torch.full_like(terms.terms["robust"], 20 * ctx.lr)}
        return LossTerms(**terms.terms, weight=weight, logits_adv=terms.logits_adv)

    def on_epoch_start(self, ctx):
        self.state.rate = torch.full_like(self.state.rate, ctx.lr)

    def on_step_end(self, batch, terms, ctx):
        self.state.sum += ctx.lr

    def on_epoch_end(self, stats, ctx):
        ctx.log("rate", self.state.rate)
        assert torch.equal(self.state.rate, torch.full_like(self.state.rate, ctx.lr))


@EVERY_COMPONENT
def test_the_learning_rate_is_that_of_the_epoch_in_captured_steps_too(tmp_path, components):
    found = assert_exact(tmp_path, FollowsTheRate, components)
    rates = [0.05, 0.05, 0.05 * 0.1, 0.05 * 0.1]  # of the protocol
    assert [(row["lr"], row["logged"]["rate"]) for row in rows(tmp_path / "whole")] == [
        (rate, [rate] * 4) for rate in rates
    ]
    sums = torch.full((4,), 7 * sum(rates), dtype=torch.float64)
    torch.testing.assert_close(found.objective.state.sum, sums)
