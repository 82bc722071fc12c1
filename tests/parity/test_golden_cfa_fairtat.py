"""CFA and FAIR-TAT give the numbers of their official programs."""

from types import SimpleNamespace

import fairbench_methods.cfa
import fairbench_methods.fairtat
import pytest
import torch
from golden_case import CPU, Recorded, golden, one_step, validated

from fairbench.api import Budget, DataInfo, EpochStats, classes, convex_weights
from fairbench.objectives.contract import build_config
from fairbench.training.averaging import robust_validation

Cfa = fairbench_methods.cfa.Cfa
FairTat = fairbench_methods.fairtat.FairTat

CFA_INPUT = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}
FAIRTAT_INPUT = {
    "mean": (0.49139968, 0.48215841, 0.44653091),
    "std": (0.24703223, 0.24348513, 0.26158784),
}


def recorded_step(case, objective, model, ctx):
    """One official step: what the house's step saw, the buffers at the time of backward, every output."""
    outputs, buffers, loss = [], {}, objective.loss

    def watched(model, batch, x_adv, ctx):
        terms = loss(model, batch, x_adv, ctx)
        buffers.update({name: buffer.clone() for name, buffer in model.named_buffers()})
        return terms

    objective.loss = watched
    with model.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach())):
        seen = one_step(case, objective, model, ctx, lr=case.hyper["lr"], weight_decay=5e-4)
    return {**seen, "outputs": outputs, "buffers": buffers}


def close_official_step(case, model, seen):
    case.close("losses", seen["loss"], "f64/loss_total")
    case.close("x_adv", seen["x_adv"], "f64/x_adv", rtol=0, atol=1e-9)
    for name, parameter in model.named_parameters():
        case.close("gradients", parameter.grad, f"f64/grad/{name}", rtol=1e-7, atol=1e-10)
        case.close("parameters", parameter, f"f64/param_after_step/{name}", rtol=1e-7, atol=1e-10)
    for name, buffer in model.named_buffers():
        case.close("BatchNorm", seen["buffers"][name], f"f64/bn_after_loss/{name}")
        case.close("BatchNorm", buffer, f"f64/bn_after_step/{name}")


def stats_of(accuracy, confusion=None, count=None):
    """The statistics of an epoch, of as many images of each class unless `count` says otherwise."""
    size = len(accuracy)
    count = torch.full((size,), 15.0, dtype=torch.float64) if count is None else count
    confusion = torch.eye(size, dtype=torch.float64) if confusion is None else confusion
    return EpochStats(count, accuracy, accuracy, torch.eye(size, dtype=torch.float64), confusion)


def stats_of_predictions(label, predicted, num_classes):
    rows, columns = (classes.class_indicator(v, num_classes, torch.float64) for v in (label, predicted))
    confusion = rows.T @ columns
    return stats_of(confusion.diagonal() / rows.sum(0), confusion, rows.sum(0))


# CFA

CFA_OPTIONS = {
    "cfa_at": {"base": "pgd-at", "attack_bn": "train"},
    "cfa_fat": {"base": "fat", "attack_bn": "train"},
    "cfa_trades": {"base": "trades", "bn_order": "clean-adv-clean"},
}


def calibrated(case, statistics, **options):
    hyper = case.hyper
    options |= {"margin_base": hyper["lambda_1"], "factor_base": hyper["lambda_2"], "beta": hyper["beta"]}
    objective = case.objective(Cfa, begin_epoch=hyper["begin"] + 1, **options)
    objective.on_epoch_end(statistics, case.context(None, budget=pixels(hyper), epoch=hyper["begin"]))
    return objective


def class_values(case, objective):
    """Radius and b of each class, as the program logs them."""
    label = torch.arange(case.num_classes)
    ctx = case.context(None, budget=pixels(case.hyper))
    weight = convex_weights(objective.config.beta, objective.state.factor)
    return objective.budget(label, ctx).eps, objective.config.beta * weight["robust"]


def pixels(hyper):
    return Budget(hyper["epsilon"] / 255, hyper.get("alpha", 0) / 255, hyper.get("attack_iters", 0))


@golden("cfa_at", "cfa_trades", "cfa_fat")
def test_cfa_equals_the_official_program(case):
    options, hyper = CFA_OPTIONS[case.name], case.hyper
    if "tau" in hyper:
        options = options | {"tau": hyper["tau"]}
        assert case.tensor("f64/class_beta") == hyper["tau"]  # beta's place in that program
    objective = calibrated(
        case, stats_of(case.tensor("given/class_robust_acc")), log_forwards=True, **options
    )
    radius, share = class_values(case, objective)
    case.close("class radius", radius, "f64/class_eps")
    if "tau" not in hyper:
        case.close("class factor", share, "f64/class_beta")
    draw = case.tensor("draw/00_randn" if case.name == "cfa_trades" else "draw/00_rand")
    model = case.network(**CFA_INPUT)
    ctx = case.context(Recorded(normal=draw, uniform=draw), budget=pixels(hyper), epoch=hyper["begin"] + 1)
    seen = recorded_step(case, objective, model, ctx)
    close_official_step(case, model, seen)
    robust = seen["stats"].robust_accuracy
    clean = stats_of_predictions(case.y, seen["outputs"][-1].argmax(1), case.num_classes).robust_accuracy
    for kind, accuracy in (("robust", robust), ("clean", clean)):
        shared = classes.hits_per_equal_share(accuracy, seen["stats"].count)
        case.close("epoch accuracy", shared, f"f64/train_{kind}_cw_acc")
        case.close("epoch accuracy", shared.mean(), f"f64/train_{kind}_acc")
    if case.name == "cfa_trades":
        terms, size = seen["terms"], len(case.y)
        case.close("losses", terms.terms["clean"] / size, "f64/loss_natural_per_sample")
        case.close("losses", terms.terms["robust"] / hyper["beta"] / size, "f64/loss_robust_per_sample")
        case.close("class factor", terms.weight["robust"] * hyper["beta"], "f64/beta_sample")


@golden("cfa_fat")
def test_without_the_stopping_rule_the_recorded_adversary_of_fat_is_another(case):
    given = stats_of(case.tensor("given/class_robust_acc"))
    objective = calibrated(case, given, **CFA_OPTIONS["cfa_fat"], tau=case.hyper["attack_iters"])
    draws = Recorded(uniform=case.tensor("draw/00_rand"))
    ctx = case.context(draws, budget=pixels(case.hyper), epoch=case.hyper["begin"] + 1)
    x_adv = one_step(case, objective, case.network(**CFA_INPUT), ctx)["x_adv"]
    assert (x_adv - case.tensor("f64/x_adv")).abs().max() > 1e-3


@golden("cfa_state")
def test_cfa_calibrates_the_classes_as_the_official_program(case):
    for number in (0, 1):
        objective = calibrated(case, stats_of(case.tensor(f"given/update{number}/class_robust_acc")))
        radius, share = class_values(case, objective)
        case.close("class radius", radius, f"f64/update{number}/class_eps")
        case.close("class factor", share, f"f64/update{number}/class_beta")


@golden("cfa_state")
def test_validation_of_cfa_equals_the_official_program(case):
    hyper = case.hyper
    budget = Budget(hyper["eval_eps"] / 255, hyper["eval_alpha"] / 255, hyper["eval_iters"])
    draws = [Recorded(uniform=case.tensor(f"draw/0{number}_rand")) for number in (0, 1)]
    rule = SimpleNamespace(validate=robust_validation)
    stats, attacked = validated(case, rule, case.network(**CFA_INPUT), draws, budget)
    assert len(attacked) == 2
    for number, x_adv in enumerate(attacked):
        delta = x_adv - case.images(f"given/val_x_{number}")
        case.close("x_adv", delta, f"f64/eval/delta_{number}", rtol=0, atol=1e-9)
    for kind, accuracy in (("clean", stats.clean_accuracy), ("robust", stats.robust_accuracy)):
        shared = classes.hits_per_equal_share(accuracy, stats.count)
        case.close("validation accuracy", shared, f"f64/eval/{kind}_cw_acc")
        case.close("validation accuracy", shared.mean(), f"f64/eval/{kind}_acc")


# FAIR-TAT


class Drawn(Recorded):
    """The target draws in the program's order: one for every sample, then single ones until they fit."""

    def __init__(self, label, first, redraws, **values):
        super().__init__(**values)
        self.label, self.first, self.redraws = label, first, redraws.tolist()
        self.weight = []

    def choice(self, weight):
        self.weight.append(weight)
        if len(self.weight) == 1:
            return self.first
        target = self.first.clone()
        for sample in (self.first == self.label).nonzero().flatten().tolist():
            while self.redraws and target[sample] == self.label[sample]:
                target[sample] = self.redraws.pop(0)
        return target


def fairtat_after(case, statistics, **options):
    """FAIR-TAT in its second epoch, after one with these statistics."""
    info = DataInfo(10, (15,) * 10, (3, 12, 12))
    options = {"base": "pgd-at", "accuracy": "program", **options}
    objective = FairTat(build_config(FairTat, options), info, CPU)
    objective.on_epoch_end(statistics, case.context(None, budget=pixels(case.hyper), epoch=1))
    return objective


def logged_statistics(case, number, kind="robust"):
    label, predicted = (case.tensor(f"given/log{number}/{name}") for name in ("y", f"pred_{kind}"))
    return stats_of_predictions(label, predicted, 10)


@golden("fairtat", "fairtat_epoch0")
def test_fairtat_equals_the_official_program(case):
    hyper, epoch = case.hyper, 1 if case.name == "fairtat_epoch0" else 2
    objective = case.objective(
        FairTat,
        base="pgd-at",
        margin_base=hyper["lambda_r"],
        attack_bn="train",
        accuracy="program",
        collisions="program",
        log_forwards=True,
    )
    if epoch == 2:
        statistics = logged_statistics(case, 0)
        objective.on_epoch_end(statistics, case.context(None, epoch=1))
        scores = 2 * classes.error_share(statistics.robust_confusion, "predicted")
        case.close("target prior", scores, "f64/target_scores")
        case.close("target prior", objective.state.prior, "f64/target_probs")
        redraws = torch.cat([case.tensor(f"draw/0{k}_multinomial") for k in (1, 2, 3)])
        draws = Drawn(
            case.y, case.tensor("draw/00_multinomial"), redraws, uniform=case.tensor("draw/04_rand")
        )
    else:
        case.close("target prior", objective.state.prior, "f64/target_scores")
        draws = Recorded(uniform=case.tensor("draw/03_rand"), other=case.tensor("f64/y_t"))
    ctx = case.context(draws, budget=pixels(hyper), epoch=epoch)
    case.close("class radius", objective.budget(torch.arange(10), ctx).eps, "f64/class_eps")
    targets = []
    choose = objective.targets
    objective.targets = lambda y, ctx: targets.append(choose(y, ctx)) or targets[-1]
    model = case.network(**FAIRTAT_INPUT)
    seen = recorded_step(case, objective, model, ctx)
    assert torch.equal(targets[0], case.tensor("f64/y_t"))
    close_official_step(case, model, seen)
    close_epoch_result(case, seen)


def close_epoch_result(case, seen):
    """The program's log of the step: against the label, of the adversarial and of the last clean outputs."""
    adversarial, last = seen["terms"].logits_adv.argmax(1), seen["outputs"][-1].argmax(1)
    assert torch.equal(adversarial, case.tensor("f64/robust_pred"))
    assert torch.equal(last, case.tensor("f64/clean_pred_after_step"))
    clean = stats_of_predictions(case.y, last, case.num_classes)
    for kind, stats in (("robust", seen["stats"]), ("clean", clean)):
        close_log(case, stats, f"f64/epoch_result/{kind}")


def close_log(case, stats, key):
    shared = classes.hits_per_equal_share(stats.robust_accuracy, stats.count)
    case.close("epoch accuracy", shared, f"{key}_cw_acc_gt")
    case.close("epoch accuracy", shared.mean(), f"{key}_acc_gt")
    for side, name in (("predicted", "cfps"), ("true", "cfns")):
        share = classes.error_share(stats.robust_confusion, side)
        case.close("error shares", share, f"{key}_cw_{name}_gt")


RADII = {"robust": "G-rob", "cfps": "G-cfps", "cfns": "G-cfns"}


@pytest.mark.parametrize("number", [0, 1])
@golden("fairtat_state")
def test_fairtat_statistics_radii_and_prior_equal_the_official_program(case, number):
    statistics = logged_statistics(case, number)
    for kind in ("robust", "clean"):
        close_log(case, logged_statistics(case, number, kind), f"f64/log{number}/result/{kind}")
    ctx = case.context(None, budget=pixels(case.hyper))
    for radius, name in RADII.items():
        base = case.hyper["lambda_r" if radius == "robust" else "lambda_c"]
        objective = fairtat_after(case, statistics, margin_base=base, radius=radius)
        found = objective.budget(torch.arange(10), ctx).eps
        case.close("class radius", found, f"f64/log{number}/class_eps/{name}_avg")
    case.close("target prior", objective.state.prior, f"f64/log{number}/target_probs")
    scores = 2 * classes.error_share(statistics.robust_confusion, "predicted")
    case.close("target prior", scores, f"f64/log{number}/target_scores")


@pytest.mark.parametrize("name", ["no_collision", "one_collision", "three_collisions"])
@golden("fairtat_state")
def test_fairtat_resolves_collisions_as_the_official_program(case, name):
    key = f"f64/select/{name}"
    label = case.tensor(f"{key}/y")
    draws = Drawn(label, case.tensor(f"{key}/first_draw"), case.tensor(f"{key}/redraws"))
    objective = fairtat_after(case, logged_statistics(case, 0), collisions="program")
    found = objective.targets(label, case.context(draws, budget=pixels(case.hyper), epoch=2))
    assert torch.equal(found, case.tensor(f"{key}/y_t"))
    first, again = draws.weight
    assert torch.equal(first, objective.state.prior.expand(len(label), 10))
    own = classes.class_indicator(label, 10, torch.bool)
    assert torch.equal(again, torch.where(own, 0.0, first))


@golden("fairtat_state")
def test_fairtat_redraws_a_single_collision_unless_told_otherwise(case):
    label = case.tensor("f64/select/one_collision/y")
    draws = Recorded(other=case.tensor("f64/select/no_collision/y_t"))
    objective, asked = fairtat_after(case, logged_statistics(case, 0)), []
    choose, draws.choice = draws.choice, lambda weight: asked.append(weight) or choose(weight)
    objective.targets(label, case.context(draws, budget=pixels(case.hyper), epoch=2))
    (weight,) = asked
    assert (weight.gather(1, label[:, None]) == 0).all()
    assert ((weight > 0).sum(1) == 9).all()
