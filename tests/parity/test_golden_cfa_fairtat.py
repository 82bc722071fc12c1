"""CFA and FAIR-TAT give the numbers of their official programs."""

from types import SimpleNamespace

import fairbench_methods.cfa
import fairbench_methods.fairtat
import torch
from golden_case import CFA_INPUT, CPU, Recorded, golden, one_step, validated

from fairbench.api import Batch, Budget, DataInfo, EpochStats, LossTerms, classes, convex_weights
from fairbench.objectives.contract import build_config
from fairbench.objectives.validation import robust_validation
from fairbench.training.statistics import EpochTotals

Cfa = fairbench_methods.cfa.Cfa
FairTat = fairbench_methods.fairtat.FairTat

FAIRTAT_INPUT = {
    "mean": (0.49139968, 0.48215841, 0.44653091),
    "std": (0.24703223, 0.24348513, 0.26158784),
}


def official_step(case, objective, model, ctx):
    """Compare one step up to the forward for the programs' log, and hand back what it saw."""
    seen = one_step(case, objective, model, ctx, lr=case.hyper["lr"], weight_decay=5e-4)
    case.close_step(model, seen)
    case.close_parameters(model, "param_after_step")
    case.close_buffers(dict(model.named_buffers()), "bn_after_step")
    return seen


def stats_of(accuracy):
    """The statistics of an epoch with these accuracies, of as many images of each class."""
    table = torch.eye(len(accuracy), dtype=torch.float64)
    return EpochStats(torch.full_like(accuracy, 15.0), accuracy, accuracy, table, table)


def stats_of_predictions(label, predicted, num_classes):
    """The statistics of fairbench of an epoch with these labels and adversarial predictions."""
    totals = EpochTotals(num_classes, {"robust_confusion"}, CPU)
    logits = classes.class_indicator(predicted, num_classes, torch.float64)
    batch = Batch(x=logits, y=label, index=torch.arange(len(label)))
    totals.add(batch, LossTerms(logits_adv=logits), {}, torch.zeros(()), torch.zeros(1))
    return totals.stats()


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
    hyper = case.hyper
    given = stats_of(case.tensor("given/class_robust_acc"))
    objective = calibrated(case, given, log_forwards=True, **CFA_OPTIONS[case.name])
    radius, share = class_values(case, objective)
    case.close("class values", radius, "f64/class_eps")
    if case.name == "cfa_fat":
        case.same(objective.config.tau, "f64/class_beta")  # our default; in beta's place in that program
    else:
        case.close("class values", share, "f64/class_beta")
    draw = case.tensor("draw/00_randn" if case.name == "cfa_trades" else "draw/00_rand")
    model = case.network(**CFA_INPUT)
    ctx = case.context(Recorded(normal=draw, uniform=draw), budget=pixels(hyper), epoch=hyper["begin"] + 1)
    seen = official_step(case, objective, model, ctx)
    close_train_log(case, seen)
    if case.name == "cfa_trades":
        terms, size = seen["terms"], len(case.y)
        case.close("losses", terms.terms["clean"] / size, "f64/loss_natural_per_sample")
        case.close("losses", terms.terms["robust"] / hyper["beta"] / size, "f64/loss_robust_per_sample")
        case.close("class values", terms.weight["robust"] * hyper["beta"], "f64/beta_sample")


def close_train_log(case, seen):
    clean = stats_of_predictions(case.y, seen["outputs"][-1].argmax(1), case.num_classes)
    for kind, stats in (("robust", seen["stats"]), ("clean", clean)):
        shared = classes.hits_per_equal_share(stats.robust_accuracy, stats.count)
        case.close("class values", shared, f"f64/train_{kind}_cw_acc")
        case.close("class values", shared.mean(), f"f64/train_{kind}_acc")


@golden("cfa_pgd")
def test_cfa_without_its_class_values_equals_plain_training_in_the_cfa_program(case):
    options = {"scale_margin": False, "scale_factor": False, "log_forwards": True}
    objective = case.objective(Cfa, begin_epoch=1, **CFA_OPTIONS["cfa_at"], **options)
    uneven = stats_of(torch.linspace(0, 1, case.num_classes, dtype=torch.float64))
    objective.on_epoch_end(uneven, case.context(None, epoch=1))  # changes nothing
    ctx = case.context(Recorded(uniform=case.tensor("draw/00_rand")), budget=pixels(case.hyper), epoch=2)
    seen = official_step(case, objective, case.network(**CFA_INPUT), ctx)
    close_train_log(case, seen)


@golden("cfa_fat", covers=())
def test_without_the_stopping_rule_the_recorded_adversary_of_fat_is_another(case):
    given = stats_of(case.tensor("given/class_robust_acc"))
    objective = calibrated(case, given, **CFA_OPTIONS["cfa_fat"], tau=case.hyper["attack_iters"])
    draws = Recorded(uniform=case.tensor("draw/00_rand"))
    ctx = case.context(draws, budget=pixels(case.hyper), epoch=case.hyper["begin"] + 1)
    x_adv = one_step(case, objective, case.network(**CFA_INPUT), ctx)["x_adv"]
    assert (x_adv - case.tensor("f64/x_adv")).abs().max() > 1e-3


@golden("cfa_state", covers=("update?/*",))
def test_cfa_calibrates_the_classes_as_the_official_program(case):
    for number in (0, 1):
        objective = calibrated(case, stats_of(case.tensor(f"given/update{number}/class_robust_acc")))
        radius, share = class_values(case, objective)
        case.close("class values", radius, f"f64/update{number}/class_eps")
        case.close("class values", share, f"f64/update{number}/class_beta")


@golden("cfa_state", covers=("eval/*",))
def test_validation_of_cfa_equals_the_official_program(case):
    hyper = case.hyper
    budget = Budget(hyper["eval_eps"] / 255, hyper["eval_alpha"] / 255, hyper["eval_iters"])
    draws = [Recorded(uniform=case.tensor(f"draw/0{number}_rand")) for number in (0, 1)]
    rule = SimpleNamespace(validate=robust_validation)
    stats, attacked = validated(case, rule, case.network(**CFA_INPUT), draws, budget)
    for number, x_adv in enumerate(attacked):
        case.close_attack(x_adv - case.images(f"given/val_x_{number}"), f"f64/eval/delta_{number}")
    for kind, accuracy in (("clean", stats.clean_accuracy), ("robust", stats.robust_accuracy)):
        shared = classes.hits_per_equal_share(accuracy, stats.count)
        case.close("class values", shared, f"f64/eval/{kind}_cw_acc")
        case.close("class values", shared.mean(), f"f64/eval/{kind}_acc")


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


def close_scores(case, statistics, key):
    """The scores of the classes as targets: what the method's radii from them add to their base."""
    scores = fairtat_after(case, statistics, margin_base=0.0, radius="cfps").state.margin
    case.close("class values", scores, key)


@golden("fairtat", "fairtat_epoch0")
def test_fairtat_equals_the_official_program(case):
    """Given the random integers of the program; how it draws again after a collision is written here."""
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
        close_scores(case, statistics, "f64/target_scores")
        case.close("class values", objective.state.prior, "f64/target_probs")
        redraws = torch.cat([case.tensor(f"draw/0{k}_multinomial") for k in (1, 2, 3)])
        draws = Drawn(
            case.y, case.tensor("draw/00_multinomial"), redraws, uniform=case.tensor("draw/04_rand")
        )
    else:
        case.close("class values", objective.state.prior, "f64/target_scores")
        integers = [case.tensor(f"draw/0{k}_randint") for k in (0, 1, 2)]
        draws = Recorded(uniform=case.tensor("draw/03_rand"), integers=integers)
    ctx = case.context(draws, budget=pixels(hyper), epoch=epoch)
    case.close("class values", objective.budget(torch.arange(10), ctx).eps, "f64/class_eps")
    targets = []
    choose = objective.targets
    objective.targets = lambda y, ctx: targets.append(choose(y, ctx)) or targets[-1]
    seen = official_step(case, objective, case.network(**FAIRTAT_INPUT), ctx)
    case.same(targets[0], "f64/y_t")
    close_epoch_result(case, seen)


def close_epoch_result(case, seen):
    """The program's log of the step: against the label, of the adversarial and of the last clean outputs."""
    adversarial, last = seen["terms"].logits_adv.argmax(1), seen["outputs"][-1].argmax(1)
    case.same(adversarial, "f64/robust_pred")
    case.same(last, "f64/clean_pred_after_step")
    clean = stats_of_predictions(case.y, last, case.num_classes)
    for kind, stats in (("robust", seen["stats"]), ("clean", clean)):
        close_log(case, stats, f"f64/epoch_result/{kind}")


def close_log(case, stats, key):
    shared = classes.hits_per_equal_share(stats.robust_accuracy, stats.count)
    case.close("class values", shared, f"{key}_cw_acc_gt")
    case.close("class values", shared.mean(), f"{key}_acc_gt")
    for side, name in (("predicted", "cfps"), ("true", "cfns")):
        share = classes.error_share(stats.robust_confusion, side)
        case.close("class values", share, f"{key}_cw_{name}_gt")


RADII = {"robust": "G-rob", "cfps": "G-cfps", "cfns": "G-cfns"}


@golden("fairtat_state", covers=("log?/*",))
def test_fairtat_statistics_radii_and_prior_equal_the_official_program(case):
    for number in (0, 1):
        statistics, where = logged_statistics(case, number), f"f64/log{number}"
        for kind in ("robust", "clean"):
            close_log(case, logged_statistics(case, number, kind), f"{where}/result/{kind}")
        ctx = case.context(None, budget=pixels(case.hyper))
        for radius, name in RADII.items():
            base = case.hyper["lambda_r" if radius == "robust" else "lambda_c"]
            objective = fairtat_after(case, statistics, margin_base=base, radius=radius)
            found = objective.budget(torch.arange(10), ctx).eps
            case.close("class values", found, f"{where}/class_eps/{name}_avg")
        case.close("class values", objective.state.prior, f"{where}/target_probs")
        close_scores(case, statistics, f"{where}/target_scores")


@golden("fairtat_state", covers=("select/*",))
def test_fairtat_resolves_collisions_as_the_official_program(case):
    for name in ("no_collision", "one_collision", "three_collisions"):
        key = f"f64/select/{name}"
        label = case.tensor(f"{key}/y")
        draws = Drawn(label, case.tensor(f"{key}/first_draw"), case.tensor(f"{key}/redraws"))
        objective = fairtat_after(case, logged_statistics(case, 0), collisions="program")
        found = objective.targets(label, case.context(draws, budget=pixels(case.hyper), epoch=2))
        case.same(found, f"{key}/y_t")
        first, again = draws.weight
        assert torch.equal(first, objective.state.prior.expand(len(label), 10))
        own = classes.class_indicator(label, 10, torch.bool)
        assert torch.equal(again, torch.where(own, 0.0, first))


@golden("fairtat_state", covers=())
def test_fairtat_redraws_a_single_collision_unless_told_otherwise(case):
    label = case.tensor("f64/select/one_collision/y")
    objective, draws = fairtat_after(case, logged_statistics(case, 0)), Drawn(label, label, torch.zeros(0))
    objective.targets(label, case.context(draws, budget=pixels(case.hyper), epoch=2))
    (weight,) = draws.weight
    assert (weight.gather(1, label[:, None]) == 0).all()
    assert ((weight > 0).sum(1) == 9).all()
