"""FRL and WAT give the numbers of their official programs: steps, multipliers, weights, held-out errors."""

import itertools

import fairbench_methods.frl
import fairbench_methods.wat
import torch
from golden_case import Recorded, golden, one_step, validated

from fairbench.api import ValidationStats

Frl = fairbench_methods.frl.Frl
Wat = fairbench_methods.wat.Wat
class_weight = fairbench_methods.frl.class_weight

EIGHT_BIT = 1 / 255  # FRL's recorded budget is in 1/255
FRL = {  # the reweight program's largest radius factor has no effect there: all are 1
    "rw": {"remargin": False, "tau": 0.1, "margin_rate": 0.1, "max_margin": 2.5},
    "rmrw": {},
}


def frl(case, variant):
    return case.objective(Frl, bn_order="clean-adv-clean", **FRL[variant])


def with_multipliers(objective, multipliers):
    state = objective.state
    parts = multipliers.view(3, -1)
    state.clean_multiplier, state.boundary_multiplier, state.margin_multiplier = parts
    return objective


def close_class_weights(case, objective, where):
    state = objective.state
    case.close("class values", class_weight(state.clean_multiplier), f"{where}weight0_class")
    case.close("class values", class_weight(state.boundary_multiplier), f"{where}weight1_class")
    case.close("class values", objective.margin(), f"{where}weight2_class")


@golden("frl_rw", "frl_rmrw")
def test_frl_step_equals_the_official_program(case):
    variant = case.name.removeprefix("frl_")
    model = case.network()
    objective = with_multipliers(frl(case, variant), case.tensor("given/lambda"))
    close_class_weights(case, objective, "f64/")
    draws = Recorded(normal=case.tensor("draw/00_randn"))
    seen = one_step(case, objective, model, case.context(draws, budget=case.budget(EIGHT_BIT)))
    terms = seen["terms"]
    case.close("losses", terms.terms["clean"], "f64/loss_natural_per_sample")
    case.close("losses", terms.terms["robust"] / case.hyper["beta"], "f64/loss_bndy_per_sample")
    case.close("class values", terms.weight["clean"], "f64/weight0")
    case.close("class values", terms.weight["robust"], "f64/weight1")
    case.close("class values", objective.margin()[case.y], "f64/weight2")
    case.close("class values", multipliers(objective), "f64/lambda_given")  # a step changes no state
    case.close_step(model, seen)


def multipliers(objective):
    state = objective.state
    return torch.cat([state.clean_multiplier, state.boundary_multiplier, state.margin_multiplier])


@golden("frl_state", covers=("rw/*", "rmrw/*", "start/*"))
def test_frl_multipliers_of_four_epochs_equal_the_official_program(case):
    for variant, start in itertools.product(FRL, ("", "start/")):
        objective = frl(case, variant)
        if start:
            with_multipliers(objective, case.tensor("given/start_lambda"))
        for epoch in range(4):
            objective.on_validation(given_errors(case, epoch), case.context(None, epoch=epoch + 1))
            where = f"f64/{start}{variant}/epoch{epoch}/"
            case.close("class values", multipliers(objective), f"{where}lambda")
            close_class_weights(case, objective, where)


def given_errors(case, epoch):
    """Held-out statistics with the recorded errors, of the classes and overall."""
    clean = case.tensor("given/class_clean_error")[epoch]
    boundary = case.tensor("given/class_bndy_error")[epoch]
    overall = [case.tensor(f"given/total_{kind}_error")[epoch] for kind in ("clean", "bndy")]
    # The recorded overall errors are no plain mean of the classes: the class sizes that give them.
    rows = torch.stack([torch.ones_like(clean), clean, boundary])
    share = torch.full_like(clean, 1 / len(clean))
    wanted = torch.stack([torch.ones_like(overall[0]), *overall])
    share = share + torch.linalg.pinv(rows) @ (wanted - rows @ share)
    assert (share > 0).all()  # or no held-out set has these errors
    return ValidationStats(1000 * share, 1 - clean, 1 - clean - boundary, {}, 128)


@golden("frl_state", covers=("eval/*",))
def test_frl_held_out_errors_equal_the_official_evaluation(case):
    draws = [Recorded(uniform=case.tensor(f"draw/0{number}_rand")) for number in (0, 1)]
    case.hyper["num_steps"] = 1  # the 20 steps are the method's own
    objective = frl(case, "rmrw")
    objective.state.margin_multiplier += 1.0  # the radius of the evaluation is the protocol's all the same
    stats, x_adv = validated(case, objective, case.network(), draws, case.budget(EIGHT_BIT))
    share = stats.count / stats.count.sum()
    boundary = stats.clean_accuracy - stats.robust_accuracy
    case.close("class values", 1 - stats.clean_accuracy, "f64/eval/class_clean_error")
    case.close("class values", boundary, "f64/eval/class_bndy_error")
    case.close("class values", share @ (1 - stats.clean_accuracy), "f64/eval/total_clean_error")
    case.close("class values", share @ boundary, "f64/eval/total_bndy_error")
    for number, image in enumerate(x_adv):
        case.close_attack(image, f"f64/eval/x_adv_{number}")


@golden("wat")
def test_wat_step_equals_the_official_program(case):
    model = case.network()
    objective = case.objective(Wat, bn_order="clean-adv")
    given = case.tensor("given/class_weights")
    objective.state.weight, objective.state.mean_weight = given[:-1], float(given[-1])
    seen = one_step(case, objective, model, case.context(Recorded(normal=case.tensor("draw/00_randn"))))
    clean, robust = (seen["terms"].terms[name] for name in ("clean", "robust"))
    beta = case.hyper["beta"]
    case.close("losses", clean, "f64/loss_nat_per_sample")
    case.close("losses", robust / beta, "f64/loss_bndy_per_sample")
    own = objective.state.weight[case.y]
    case.close("losses", (own * clean).sum(), "f64/weighted_nat_sum")
    case.close("losses", (own * robust).sum() / beta, "f64/weighted_bndy_sum")
    case.close("losses", clean.mean(), "f64/loss_expected_natural")
    case.close("losses", robust.mean() / beta, "f64/loss_expected_robust")
    case.close("losses", seen["terms"].base(), "f64/loss_expected")
    experts = with_mean(objective.state.weight, objective.state.mean_weight)
    case.close("class values", experts, "f64/class_weights_given")
    case.close_step(model, seen)


def with_mean(values, mean):
    """The C + 1 numbers of the experts, as recorded."""
    return torch.cat([values, torch.tensor([mean], dtype=torch.float64)])


@golden("wat_state", covers=("epoch*",))
def test_wat_weights_of_three_epochs_equal_the_official_program(case):
    objective, summed = case.objective(Wat), torch.zeros(case.num_classes + 1, dtype=torch.float64)
    for epoch in range(3):
        objective.on_validation(given_costs(case, epoch), case.context(None, epoch=epoch + 1))
        state = objective.state
        total = with_mean(state.cost, state.mean_cost)
        case.close("class values", total - summed, f"f64/epoch{epoch}/cost")
        summed = total
        weight = with_mean(state.weight, state.mean_weight)
        case.close("class values", weight, f"f64/epoch{epoch}/class_weights")


def given_costs(case, epoch):
    """Held-out statistics with the recorded costs, of the classes and of the mean over images."""
    clean = case.tensor("given/valid_nat_cost")[epoch]
    robust = case.hyper["beta"] * case.tensor("given/valid_bndy_cost")[epoch]
    cost, mean = (clean + robust)[:-1], (clean + robust)[-1]
    # The recorded mean is not that of equal classes: one class takes the share that it needs.
    extreme = cost.argmin() if mean < cost.mean() else cost.argmax()
    moved = (mean - cost.mean()) / (cost[extreme] - cost.mean())
    share = (1 - moved) / len(cost) + moved * (torch.arange(len(cost)) == extreme)
    assert (share > 0).all()  # or no held-out set has these costs
    unknown = torch.full_like(cost, torch.nan)
    terms = {"clean": clean[:-1], "robust": robust[:-1]}
    return ValidationStats(1000 * share, unknown, unknown, terms, case.hyper["valid_batch_size"])


@golden("wat_state", covers=("validate/*",))
def test_wat_held_out_costs_equal_the_official_validation(case):
    draws = [Recorded(normal=case.tensor(f"draw/0{number}_randn")) for number in (0, 1)]
    objective = case.objective(Wat, cost_norm="program")
    objective.state.weight += 1.0  # weights are no part of a cost
    stats, x_adv = validated(case, objective, case.network(), draws)
    for term, scale, key in (("clean", 1.0, "nat"), ("robust", case.hyper["beta"], "bndy")):
        cost, mean = objective.cost(stats.terms[term] / scale, stats)
        case.close("class values", with_mean(cost, mean), f"f64/validate/{key}_cost")
    case.close("class values", stats.robust_accuracy, "f64/validate/robust_class_acc")
    share = stats.count / stats.count.sum()
    case.close("class values", share @ stats.robust_accuracy, "f64/validate/robust_acc")
    for number, image in enumerate(x_adv):
        case.close_attack(image, f"f64/validate/x_adv_{number}")
