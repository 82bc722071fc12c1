"""The house's own attack, loss and state code gives the numbers of the official programs."""

from dataclasses import replace

import fairbench_methods.dafa
import fairbench_methods.pgd_at
import fairbench_methods.targeted_trades
import fairbench_methods.trades
import fairbench_methods.trix
import torch
from golden_case import CPU, Recorded, given_weights, golden, one_step

from fairbench.api import classes
from fairbench.attacks.frozen import frozen
from fairbench.evaluation.evaluate import pgd_outcomes
from fairbench.registry.schema import PgdAttack
from fairbench.training.statistics import EpochTotals
from fairbench.training.step import training_step

PgdAt = fairbench_methods.pgd_at.PgdAt
Trades = fairbench_methods.trades.Trades
TargetedTrades = fairbench_methods.targeted_trades.TargetedTrades
Dafa = fairbench_methods.dafa.Dafa
Trix = fairbench_methods.trix.Trix

CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}


@golden("pgd_at")
def test_pgd_at_equals_the_gairat_program_before_its_reweighting(case):
    model, objective = case.network(), case.objective(PgdAt)
    draws = Recorded(uniform=case.tensor("draw/00_rand"))
    seen = one_step(case, objective, model, case.context(draws), lr=0.1, weight_decay=2e-4)
    case.close("losses", seen["loss"], "f64/loss_total")
    case.close_step(model, seen["x_adv"])
    for name, parameter in model.named_parameters():
        case.close("parameters", parameter, f"f64/param_after_step/{name}", rtol=1e-7, atol=1e-10)


@golden("cfa_pgd")
def test_pgd_at_with_train_mode_attack_equals_the_cfa_program(case):
    model, objective = case.network(**CIFAR), case.objective(PgdAt, attack_bn="train")
    draws = Recorded(uniform=case.tensor("draw/00_rand"))
    ctx = case.context(draws, budget=case.budget(1 / 255))
    seen = one_step(case, objective, model, ctx, lr=0.1, weight_decay=5e-4)
    case.close("losses", seen["loss"], "f64/loss_total")
    case.close_step(model, seen["x_adv"])
    for name, parameter in model.named_parameters():
        case.close("parameters", parameter, f"f64/param_after_step/{name}", rtol=1e-7, atol=1e-10)


@golden("trades")
def test_trades_equals_the_official_program(case):
    model, objective = case.network(), case.objective(Trades, bn_order="clean-adv-clean")
    seen = one_step(case, objective, model, case.context(Recorded(normal=case.tensor("draw/00_randn"))))
    reduced = seen["terms"].reduced()
    case.close("losses", seen["loss"], "f64/loss_total")
    case.close("losses", reduced["clean"], "f64/loss_natural")
    case.close("losses", reduced["robust"] / case.hyper["beta"], "f64/loss_robust")
    case.close_step(model, seen["x_adv"])


@golden("dafa")
def test_dafa_equals_the_official_program(case):
    model, objective = case.network(), case.objective(Dafa)
    objective.state.weight = given_weights(case)
    seen = one_step(case, objective, model, case.context(Recorded(normal=case.tensor("draw/00_randn"))))
    close_weighted(case, seen, objective)
    case.close_step(model, seen["x_adv"])


@golden("dafa_pgd", "dafa_pgd_ones")
def test_dafa_on_pgd_at_with_the_double_step_equals_the_official_program(case):
    model, objective = case.network(), case.objective(Dafa, base="pgd-at-double-step")
    if "lambda" in case.hyper:
        objective.state.weight = given_weights(case)
    seen = one_step(case, objective, model, case.context(Recorded(normal=case.tensor("draw/00_randn"))))
    reduced = seen["terms"].reduced()
    case.close("losses", seen["loss"], "f64/loss_total")
    case.close("losses", reduced["robust"], "f64/loss_robust")
    close_class_statistics(case, seen, objective)
    case.close_step(model, seen["x_adv"])


@golden("dafa_pgd_ones")
def test_the_double_step_with_weights_of_one_is_a_step_of_twice_the_size(case):
    model, objective = case.network(), case.objective(Dafa, base="pgd-at")
    budget = replace(case.budget(), step_size=2 * case.hyper["step_size"])
    ctx = case.context(Recorded(normal=case.tensor("draw/00_randn")), budget=budget)
    case.close_step(model, one_step(case, objective, model, ctx)["x_adv"])


@golden("trix", "trix_ones")
def test_trix_equals_the_official_program(case):
    model, objective = case.network(), case.objective(Trix)
    if "lambda" in case.hyper:
        objective.state.weight = given_weights(case)
    draws = Recorded(normal=case.tensor("draw/00_randn"), other=case.tensor("f64/rand_y_t"))
    ctx = case.context(draws)
    with frozen(model):
        mask = objective.targeted(model(case.x), case.y, ctx)
    assert torch.equal(mask, case.tensor("f64/targeted_mask").bool())
    seen = one_step(case, objective, model, ctx)
    close_weighted(case, seen, objective)
    case.close_step(model, seen["x_adv"])


def close_weighted(case, seen, objective):
    reduced = seen["terms"].reduced()
    case.close("losses", seen["loss"], "f64/loss_total")
    case.close("losses", reduced["clean"], "f64/loss_natural")
    case.close("losses", reduced["robust"] / case.hyper["beta"], "f64/loss_robust")
    close_class_statistics(case, seen, objective)


def close_class_statistics(case, seen, objective):
    weight = objective.state.weight[case.y]
    if "f64/sample_weights" in case.arrays:
        case.close("class weights", weight, "f64/sample_weights")
    rows = case.tensor("f64/memory_probs_batch")
    recorded = classes.class_means(rows, case.y, case.num_classes)
    measured = seen["stats"].robust_probability.nan_to_num(0.0)
    torch.testing.assert_close(measured, recorded, rtol=1e-9, atol=1e-11)


@golden("trix_ones")
def test_targeted_trades_equals_the_targeted_branch_of_the_trix_program(case):
    model, objective = case.network(), case.objective(TargetedTrades)
    draws = Recorded(normal=case.tensor("draw/00_randn"), other=case.tensor("f64/rand_y_t"))
    seen = one_step(case, objective, model, case.context(draws))
    targeted = case.tensor("f64/targeted_mask").bool()
    assert 0 < targeted.sum() < len(targeted)
    difference = (seen["x_adv"] - case.tensor("f64/x_adv")).abs().flatten(1).amax(1)
    assert difference[targeted].max() <= 1e-9
    assert difference[~targeted].max() > 1e-3


@golden("mini_trades", "mini_dafa", "mini_trix")
def test_twelve_steps_of_training_end_at_the_official_weights(case):
    hyper = case.hyper
    options = {"beta": hyper["beta"]}
    if case.name == "mini_trades":
        cls, options["bn_order"] = Trades, "clean-adv-clean"
    else:
        cls = {"mini_dafa": Dafa, "mini_trix": Trix}[case.name]
        options |= {"warmup_epochs": hyper["warmup"], "strength": hyper["lambda"]}
    model, objective = case.network(), case.objective(cls, **options)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=hyper["lr"],
        momentum=hyper["momentum"],
        weight_decay=hyper["weight_decay"],
        nesterov=hyper["nesterov"],
    )
    normal, losses = case.tensor("draw/randn"), []
    order = case.tensor("given/batch_order")
    for epoch, batches in enumerate(order, 1):
        totals = EpochTotals(case.num_classes, objective.resolved_needs().epoch_stats, CPU)
        for index in batches:
            step = len(losses)
            other = case.tensor("f64/rand_y_t_per_step")[step] if case.name == "mini_trix" else None
            ctx = case.context(Recorded(normal=normal[step], other=other), epoch=epoch)
            losses.append(training_step(model, objective, optimizer, case.batch(index), ctx, totals))
        objective.on_epoch_end(totals.stats(), ctx)
    case.close("losses", torch.stack(losses), "f64/loss_per_step")
    if cls is not Trades:
        case.close("class weights", objective.state.weight, "f64/class_weights_from_epoch2")
    for name, parameter in model.named_parameters():
        case.close("parameters", parameter, f"f64/param_final/{name}", rtol=1e-7, atol=1e-10)
    for name, buffer in model.named_buffers():
        case.close("BatchNorm", buffer, f"f64/bn_final/{name}")


@golden("eval_pgd", "eval_pgd_rough")
def test_pgd_evaluation_equals_the_papers_program(case):
    model = case.network()
    attack = PgdAttack(
        name="golden",
        kind="pgd",
        eps=case.hyper["epsilon"],
        step_size=case.hyper["step_size"],
        num_steps=case.hyper["num_steps"],
        start="uniform",
        clip_start=False,
        success="last",
    )
    with frozen(model):
        found = pgd_outcomes(model, case.x, case.y, attack, Recorded(uniform=case.tensor("draw/00_rand")))
        clean = model(case.x).argmax(1) == case.y
    assert torch.equal(clean, case.tensor("f64/correct_clean").bool())
    assert torch.equal(found["correct_last"], case.tensor("f64/correct_adv_last").bool())
    assert torch.equal(found["correct_every_step"], case.tensor("f64/correct_adv_all_steps").bool())
    if case.name == "eval_pgd_rough":
        assert not torch.equal(found["correct_last"], found["correct_every_step"])
