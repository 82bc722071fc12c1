"""A plugin that breaks the contract is stopped at once, by a message that says how and what to do."""

import math
from dataclasses import dataclass, field

import pytest
import torch
import toys
from toys import BUDGET, batch, context, network, one_step

from fairbench.api import (
    AdversarialObjective,
    Budget,
    ClassWeighted,
    LossTerms,
    Needs,
    losses,
    method,
    per_class,
    per_class_pair,
)
from fairbench.core.errors import ConfigError, ContractError
from fairbench.objectives.contract import build_config
from fairbench.objectives.needs import READ_WITHOUT_NAMING
from fairbench.training.contract_checks import check_epoch
from fairbench.training.step import training_step


@method("plain")
class Plain(AdversarialObjective):
    """Keeps the contract; each test breaks one part of it."""

    def perturb(self, model, batch, ctx):
        return batch.x

    def loss(self, model, batch, adversary, ctx):
        logits = model(batch.x)
        return LossTerms(clean=losses.cross_entropy(logits, batch.y), logits=logits)


def refused(match, *, perturb=None, loss=None, base=Plain, needs=None, model=None, given=None):
    """The error of one checked step of `base` with another perturb or loss."""
    broken = toys.configured(base)
    if perturb is not None:
        broken.perturb = perturb
    if loss is not None:
        broken.loss = loss
    if needs is not None:
        broken.resolved_needs = lambda: needs
    with pytest.raises(ContractError, match=match) as error:
        one_step(broken, model or network(), given)
    assert error.value.message.startswith("method 'plain'")
    return error.value


def test_a_plugin_that_keeps_the_contract_trains():
    assert torch.isfinite(one_step(toys.configured(Plain), network()))


# perturb


def test_leaving_the_ball_names_distance_radius_count_and_classes():
    def perturb(model, batch, ctx):
        far = ((batch.y == 1) | (batch.y == 3)).view(-1, 1, 1, 1)
        return torch.where(far, (batch.x + 0.25) * (batch.x < 0.5) + batch.x * (batch.x >= 0.5), batch.x)

    error = refused("left the budget", perturb=perturb)
    assert "= 0.2500 > 0.1000 for 6 of 12 samples (classes 1, 3)" in error.message
    assert "budget=ctx.budget" in error.hint


def test_leaving_the_ball_of_many_classes_names_the_first_eight():
    broken = toys.configured(Plain, num_classes=12)
    broken.perturb = lambda model, batch, ctx: 1 - batch.x
    with pytest.raises(ContractError, match=r"classes 0, 1, 2, 3, 4, 5, 6, 7, \.\.\."):
        one_step(broken, network(12), batch(12, num_classes=12))


@pytest.mark.parametrize("eps", [0, 0.0, torch.tensor(0.0), torch.tensor([0.0, 0.3] * 6)])
def test_leaving_the_ball_is_told_for_any_kind_of_radius(eps):
    broken = toys.configured(Plain)
    broken.perturb = lambda model, batch, ctx: (batch.x + 0.2).clamp(0, 1)
    broken.budget = lambda y, ctx: Budget(eps, 0.1, 1)
    with pytest.raises(ContractError, match=r"= 0.2000 > 0.0000"):
        one_step(broken, network())


@pytest.mark.parametrize("shift", [-0.05, 0.05])
def test_leaving_the_unit_range_is_refused_even_inside_the_ball(shift):
    refused(r"leaves \[0, 1\]", perturb=lambda model, batch, ctx: batch.x.round() + shift)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(value):
    refused("not finite", perturb=lambda model, batch, ctx: torch.full_like(batch.x, value))


def test_images_of_another_shape_are_refused():
    error = refused("no images of shape", perturb=lambda model, batch, ctx: batch.x[:, :1])
    assert "return x_adv" in error.hint


def test_images_of_another_dtype_are_refused():
    refused("torch.float64", perturb=lambda model, batch, ctx: batch.x.double())


def test_every_image_of_a_dict_is_checked_and_named():
    def perturb(model, batch, ctx):
        return {"near": batch.x, "far": 1 - batch.x, "mask": batch.y}

    refused(r"\|far - x\|", perturb=perturb)


def test_changing_batch_norm_statistics_in_eval_mode_is_refused():
    def perturb(model, batch, ctx):
        model.train()
        with torch.no_grad():
            model(batch.x)
        return batch.x

    error = refused("changed the model's BatchNorm", perturb=perturb)
    assert 'attack_bn="train"' in error.hint


def test_a_method_that_says_so_may_change_batch_norm_statistics():
    @method("stateful")
    class Stateful(Plain):
        needs = Needs(attack_bn="train")

        def perturb(self, model, batch, ctx):
            with torch.no_grad():
                model(batch.x)
            return batch.x

    model = network()
    one_step(toys.configured(Stateful), model)
    assert int(model.bn1.num_batches_tracked) == 2


def test_leaving_the_budget_later_is_refused_at_the_end_of_the_epoch():
    broken, model = toys.configured(Plain), network()
    totals, optimizer = toys.totals(broken), toys.sgd(model)
    training_step(model, broken, optimizer, batch(), context(), totals, check=True)
    check_epoch(broken, totals, 3)
    broken.perturb = lambda model, batch, ctx: (batch.x + 0.3).clamp(0, 1)
    training_step(model, broken, optimizer, batch(), context(), totals)
    with pytest.raises(ContractError, match=r"by 0\.2 in epoch 3"):
        check_epoch(broken, totals, 3)


# loss


@pytest.mark.parametrize("returned", [LossTerms(), torch.tensor(1.0), None])
def test_a_loss_without_terms_is_refused(returned):
    refused("at least one term", loss=lambda model, batch, adversary, ctx: returned)


@pytest.mark.parametrize("shape", [(4,), (12, 4), (1,)])
def test_a_term_of_another_shape_is_refused(shape):
    def loss(model, batch, adversary, ctx):
        return LossTerms(odd=model(batch.x).sum() * torch.ones(shape))

    error = refused(r"'odd' has shape", loss=loss)
    assert "(12,)" in error.hint


@pytest.mark.parametrize("keep", ["weight", "divide_by_weight"])
def test_a_weight_for_a_term_that_does_not_exist_is_refused(keep):
    def loss(model, batch, adversary, ctx):
        given = {"weight": {"robst": torch.ones(12)}, "divide_by_weight": ("clean",)}[keep]
        return LossTerms(clean=losses.cross_entropy(model(batch.x), batch.y), **{keep: given})

    error = refused("not a weighted term", loss=loss)
    assert "terms: clean" in error.hint


def test_a_loss_without_gradient_is_refused():
    refused(
        "no loss term carries a gradient", loss=lambda model, batch, a, ctx: LossTerms(one=torch.ones(12))
    )


def test_wanting_robust_statistics_without_giving_the_outputs_is_refused():
    error = refused("no logits_adv", needs=Needs(epoch_stats={"robust_probability"}))
    assert "logits_adv=logits_adv" in error.hint
    error = refused(
        r"needs clean_accuracy, but loss\(\) returned no logits\.",
        needs=Needs(epoch_stats={"clean_accuracy"}),
        loss=lambda model, batch, a, ctx: LossTerms(clean=losses.cross_entropy(model(batch.x), batch.y)),
    )
    assert error.hint == "return LossTerms(..., logits=logits)"


@pytest.mark.parametrize("part", ["perturb", "loss"])
def test_a_method_without_its_two_functions_is_refused(part):
    @method("plain")
    class Half(AdversarialObjective):
        if part == "loss":
            perturb = Plain.perturb

    refused(rf"does not define {part}\(\)", base=Half)


# Reductions that the contract promises


def test_terms_are_means_weights_are_detached_and_scalars_are_added_as_they_are():
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    weight = torch.tensor([1.0, 0.0, 3.0], requires_grad=True)
    terms = LossTerms(
        plain=values,
        weighted=values,
        divided=values,
        scalar=torch.tensor(5.0),
        weight={"weighted": weight, "divided": weight},
        divide_by_weight=("divided",),
    )
    reduced = {name: value.item() for name, value in terms.reduced().items()}
    assert reduced == pytest.approx({"plain": 3, "weighted": 19 / 3, "divided": 19 / 4, "scalar": 5})
    assert terms.total().item() == pytest.approx(sum(reduced.values()))
    terms.total().backward()
    assert weight.grad is None


# The class and its configuration


def test_an_unknown_epoch_statistic_is_refused():
    @method("curious")
    class Curious(Plain):
        needs = Needs(epoch_stats={"robust_acuracy"})

    with pytest.raises(ContractError, match="'robust_acuracy', which does not exist") as error:
        toys.configured(Curious).resolved_needs()
    assert "robust_accuracy" in error.value.hint


@pytest.mark.parametrize("name", ["cfa", "fairtat"])
def test_an_older_method_that_reads_more_than_it_names_is_listed_with_just_that(name):
    cls = toys.plugin(name)
    own = cls.needs(cls.Config()).epoch_stats
    assert "robust_accuracy" not in own
    assert cls.needs_of(cls.Config()).epoch_stats == own | READ_WITHOUT_NAMING[cls.__module__]
    with pytest.raises(ContractError, match=r"stats.robust_accuracy is read"):
        toys.objective(name).on_epoch_end(toys.stats(torch.eye(4)).only(own), toys.context())


@pytest.mark.parametrize("part", ["Config", "State"])
def test_a_config_or_state_that_is_no_dataclass_is_refused(part):
    with pytest.raises(ContractError, match=f"'loose': {part} is not a dataclass") as error:
        method("loose")(type("Loose", (Plain,), {part: type(part, (), {})}))
    assert "@dataclass" in error.value.hint


@pytest.mark.parametrize("found", [object, lambda: None])
def test_what_is_not_a_subclass_is_refused(found):
    with pytest.raises(ContractError, match="not a subclass of AdversarialObjective"):
        method("stranger")(found)


def test_an_unknown_option_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="method 'trix' has no option 'stength'") as error:
        build_config(toys.plugin("trix"), {"stength": 1.0})
    assert "did you mean: strength" in error.value.hint
    with pytest.raises(ConfigError) as error:
        build_config(Plain, {"zzz": 1})
    assert error.value.hint == "it accepts: none"


# State


@method("holder")
class Holder(Plain):
    @dataclass
    class State:
        weight: torch.Tensor = per_class(1.0)
        confusion: torch.Tensor = per_class_pair(0.5)
        best: float = -1.0
        seen: int = 0
        started: bool = False
        history: torch.Tensor = field(default_factory=lambda: torch.zeros(2))


def test_state_has_one_value_per_class_or_pair_of_classes():
    state = toys.configured(Holder, num_classes=5).state
    assert torch.equal(state.weight, torch.ones(5, dtype=torch.float64))
    assert torch.equal(state.confusion, torch.full((5, 5), 0.5, dtype=torch.float64))


def test_state_of_two_objectives_is_not_shared():
    one, other = toys.configured(Holder), toys.configured(Holder)
    one.state.weight += 1
    assert torch.equal(other.state.weight, torch.ones(4, dtype=torch.float64))


def test_saved_state_comes_back_with_its_values_and_types():
    saved, loaded = toys.configured(Holder), toys.configured(Holder)
    saved.state = Holder.State(torch.rand(4), torch.rand(4, 4), 0.25, 7, True, torch.ones(2))
    loaded.load_state_dict(saved.state_dict())
    toys.assert_same(loaded.state_dict(), saved.state_dict())
    assert (loaded.state.best, loaded.state.seen, loaded.state.started) == (0.25, 7, True)
    assert isinstance(loaded.state.started, bool)
    assert isinstance(loaded.state.seen, int)


@pytest.mark.parametrize("change", [{"weight": None}, {"other": torch.ones(4)}])
def test_saved_state_with_other_fields_is_refused(change):
    dafa = toys.objective("dafa")
    saved = {name: v for name, v in {**dafa.state_dict(), **change}.items() if v is not None}
    with pytest.raises(ContractError, match=r"the method declares \['weight'\]"):
        dafa.load_state_dict(saved)


def test_the_default_budget_is_the_protocols():
    assert toys.configured(Plain).budget(torch.arange(4), context()) is BUDGET
    assert issubclass(toys.plugin("dafa"), ClassWeighted)


def test_images_for_another_number_of_samples_do_not_escape_the_budget():
    def perturb(model, batch, ctx):
        return {"same": batch.x, "twice": torch.cat([batch.x, batch.x]) + 1}

    error = refused("twice holds 24 images for a batch of 12", perturb=perturb)
    assert "several kinds under several names" in error.hint


def test_weights_of_another_shape_than_the_labels_are_refused():
    def loss(model, batch, adversary, ctx):
        column = torch.ones(len(batch), 1)
        return LossTerms(clean=losses.cross_entropy(model(batch.x), batch.y), weight={"clean": column})

    assert "weight[batch.y]" in refused(r"the weight of 'clean' has shape \(12, 1\)", loss=loss).hint


@pytest.mark.parametrize(("need", "word"), [("attack_bn", "Train"), ("validation", "middle")])
def test_a_need_that_nobody_knows_is_refused(need, word):
    with pytest.raises(ContractError, match=f"{need}='{word}'") as error:
        Needs(**{need: word})
    assert "one of:" in error.value.hint
