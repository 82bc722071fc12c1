"""fairbench's attack, loss and state code gives the numbers of the official programs."""

from dataclasses import replace

import fairbench_methods.dafa
import fairbench_methods.pgd_at
import fairbench_methods.targeted_trades
import fairbench_methods.trades
import fairbench_methods.trix
import torch
from golden_case import CFA_INPUT, CPU, Recorded, given_weights, golden, one_step, watch
from torch.overrides import TorchFunctionMode

from fairbench.api import classes, losses
from fairbench.attacks.frozen import frozen
from fairbench.evaluation.evaluate import pgd_outcomes
from fairbench.evaluation.verdicts import logits_of
from fairbench.registry.attacks import PgdAttack
from fairbench.training.statistics import EpochTotals
from fairbench.training.step import training_step

PgdAt = fairbench_methods.pgd_at.PgdAt
Trades = fairbench_methods.trades.Trades
TargetedTrades = fairbench_methods.targeted_trades.TargetedTrades
Dafa = fairbench_methods.dafa.Dafa
Trix = fairbench_methods.trix.Trix


@golden("pgd_at")
def test_pgd_at_equals_the_gairat_program_before_its_reweighting(case):
    model, objective = case.network(), case.objective(PgdAt)
    draws = Recorded(uniform=case.tensor("draw/00_rand"))
    seen = one_step(case, objective, model, case.context(draws), lr=0.1, weight_decay=2e-4)
    case.close_step(model, seen)
    case.close_parameters(model, "param_after_step")


@golden("cfa_pgd", covers=("x_adv", "loss_total", "logits_train_adv", "grad/*", "bn_after_loss/*", "param_*"))
def test_pgd_at_with_train_mode_attack_equals_the_cfa_program(case):
    """But for the forward after the step, for its log: see CFA."""
    model, objective = case.network(**CFA_INPUT), case.objective(PgdAt, attack_bn="train")
    draws = Recorded(uniform=case.tensor("draw/00_rand"))
    ctx = case.context(draws, budget=case.budget(1 / 255))
    seen = one_step(case, objective, model, ctx, lr=0.1, weight_decay=5e-4)
    case.close("losses", seen["loss"], "f64/loss_total")
    case.close_attack(seen["x_adv"])
    (output,) = seen["outputs"]
    case.close("logits", output, "f64/logits_train_adv")
    case.close_parameters(model, "grad", "gradients")
    case.close_buffers(seen["buffers"], "bn_after_loss")
    case.close_parameters(model, "param_after_step")


@golden("trades")
def test_trades_equals_the_official_program(case):
    model, objective = case.network(), case.objective(Trades, bn_order="clean-adv-clean")
    seen = one_step(case, objective, model, case.context(Recorded(normal=case.tensor("draw/00_randn"))))
    close_terms(case, seen)
    case.close_step(model, seen)


def close_terms(case, seen):
    reduced = seen["terms"].reduced()
    case.close("losses", reduced["clean"], "f64/loss_natural")
    case.close("losses", reduced["robust"] / case.hyper["beta"], "f64/loss_robust")


@golden("dafa")
def test_dafa_equals_the_official_program(case):
    model, objective = case.network(), case.objective(Dafa)
    objective.state.weight = given_weights(case)
    seen = one_step(case, objective, model, case.context(Recorded(normal=case.tensor("draw/00_randn"))))
    close_terms(case, seen)
    close_class_weighting(case, seen, objective)
    case.close_step(model, seen)


@golden("dafa_pgd", "dafa_pgd_ones")
def test_dafa_on_pgd_at_with_the_double_step_equals_the_official_program(case):
    model, objective = case.network(), case.objective(Dafa, base="pgd-at-double-step")
    if "lambda" in case.hyper:
        objective.state.weight = given_weights(case)
    seen = one_step(case, objective, model, case.context(Recorded(normal=case.tensor("draw/00_randn"))))
    case.close("losses", seen["terms"].reduced()["robust"], "f64/loss_robust")
    close_class_weighting(case, seen, objective, term="robust")
    case.close_step(model, seen)


@golden("dafa_pgd_ones", covers=())
def test_the_double_step_with_weights_of_one_is_a_step_of_twice_the_size(case):
    model, objective = case.network(), case.objective(Dafa, base="pgd-at")
    budget = replace(case.budget(), step_size=2 * case.hyper["step_size"])
    ctx = case.context(Recorded(normal=case.tensor("draw/00_randn")), budget=budget)
    case.close_step(model, one_step(case, objective, model, ctx))


def close_class_weighting(case, seen, objective, term="clean"):
    """Class weights, the weight that each sample's `term` got, and what the class statistics are made of."""
    case.close("class values", objective.state.weight, "f64/class_weights_given")
    case.close("class values", seen["terms"].weight[term], "f64/sample_weights")
    key, probability = "f64/memory_probs_batch", losses.log_probabilities(seen["terms"].logits_adv).exp()
    case.close("logits", probability, key)
    count, measured = seen["stats"].count, seen["stats"].robust_probability
    case.same(
        count,
        "f64/memory_labels_batch",
        through=lambda label: classes.class_indicator(label, len(count), torch.float64).sum(0),
    )
    case.close("logits", measured, key, through=lambda rows: classes.class_means(rows, case.y, len(count)))


class Results(TorchFunctionMode):
    """Inside, keeps every tensor that is computed: what a method holds without showing it."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.kept.append(result.detach())
        return result

    def nearest(self, golden):
        """The result of the same shape that is closest to `golden`."""
        alike = [result for result in self.kept if result.shape == golden.shape]
        return min(alike, key=lambda result: float((result.double() - golden).abs().max()))


def watch_targeting(objective):
    """A list that gets the mask and all intermediate results of each call of TRIX's `targeted`."""
    calls, targeted = [], objective.targeted

    def watched(clean_logits, y, ctx):
        with Results() as results:
            mask = targeted(clean_logits, y, ctx)
        calls.append((mask, results))
        return mask

    objective.targeted = watched
    return calls


@golden("trix", "trix_ones")
def test_trix_equals_the_official_program(case):
    model, objective = case.network(), case.objective(Trix)
    if "lambda" in case.hyper:
        objective.state.weight = given_weights(case)
    draws = recorded_draws(case)
    calls = watch_targeting(objective)
    seen = one_step(case, objective, model, case.context(draws))
    ((mask, results),) = calls
    case.close("logits", results.nearest(case.tensor("f64/p_nat_eval")), "f64/p_nat_eval")
    for name in ("similarity", "weights", "weights_sample", "threshold"):
        key = f"f64/tar_{name}"
        case.close("class values", results.nearest(case.tensor(key)), key)
    case.same(mask, "f64/targeted_mask")
    case.same(mask.sum(), "f64/num_targeted")
    case.same((~mask).sum(), "f64/num_untargeted")
    case.same(draws.target, "f64/rand_y_t")
    case.same(torch.where(mask, draws.target, case.y), "f64/y_t")
    close_terms(case, seen)
    close_class_weighting(case, seen, objective)
    case.close_step(model, seen)


def recorded_draws(case):
    integers = [case.tensor("draw/01_randint"), case.tensor("draw/02_randint")]
    return Recorded(normal=case.tensor("draw/00_randn"), integers=integers)


@golden("trix_ones", covers=())
def test_targeted_trades_equals_the_targeted_branch_of_the_trix_program(case):
    model, objective = case.network(), case.objective(TargetedTrades)
    seen = one_step(case, objective, model, case.context(recorded_draws(case)))
    targeted = case.tensor("f64/targeted_mask").bool()
    case.close_attack(seen["x_adv"][targeted], "f64/x_adv", through=lambda images: images[targeted])
    difference = (seen["x_adv"] - case.tensor("f64/x_adv")).abs().flatten(1).amax(1)
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
    calls = watch_targeting(objective) if cls is Trix else []
    steps, loss, stats = watch(model, objective), [], []
    draws, order = draws_per_step(case), case.tensor("given/batch_order")
    for epoch, batches in enumerate(order, 1):
        totals = EpochTotals(case.num_classes, objective.resolved_needs().epoch_stats, CPU)
        for index in batches:
            ctx = case.context(draws[len(loss)], epoch=epoch)
            loss.append(training_step(model, objective, optimizer, case.batch(index), ctx, totals))
        stats.append(totals.stats())
        objective.on_epoch_end(stats[-1], ctx)
    case.close("losses", torch.stack(loss), "f64/loss_per_step")
    if cls is not Trades:
        reduced = [step["terms"].reduced() for step in steps]
        clean, robust = (torch.stack([terms[name] for terms in reduced]) for name in ("clean", "robust"))
        case.close("losses", clean, "f64/loss_natural_per_step")
        case.close("losses", robust / hyper["beta"], "f64/loss_robust_per_step")
        case.close("class values", objective.state.weight, "f64/class_weights_from_epoch2")
        close_memory(case, steps[: len(order[0])], order[0], stats[0])
    if cls is Trix:
        case.same(torch.stack([each.target for each in draws]), "f64/rand_y_t_per_step")
        case.same(torch.stack([mask for mask, _ in calls]), "f64/targeted_mask_per_step")
        key = "f64/tar_weights_per_step"
        pairs = zip(calls, case.tensor(key), strict=True)
        case.close("class values", torch.stack([results.nearest(row) for (_, results), row in pairs]), key)
    case.close_parameters(model, "param_final")
    case.close_buffers(dict(model.named_buffers()), "bn_final")


def draws_per_step(case):
    normal = case.tensor("draw/randn")
    integers = [[] for _ in normal]
    if "draw/randint_flat" in case.arrays:
        parts = case.tensor("draw/randint_flat").split(case.tensor("draw/randint_len").tolist())
        for part, step in zip(parts, case.tensor("draw/randint_step").tolist(), strict=True):
            integers[step].append(part)
    return [Recorded(normal=each, integers=integers[step]) for step, each in enumerate(normal)]


def close_memory(case, steps, indices, stats):
    """Adversarial probabilities of each image in an epoch, and their class means as in fairbench."""
    key, rows = "f64/memory_probs_epoch1", torch.full((len(case.y), case.num_classes), torch.nan).double()
    for step, index in zip(steps, indices, strict=True):
        rows[index] = losses.log_probabilities(step["terms"].logits_adv).exp()
    case.close("logits", rows, key)
    case.close(
        "logits",
        stats.of_every_class("robust_probability"),
        key,
        through=lambda golden: classes.class_means(golden, case.y, case.num_classes),
    )


@golden("eval_pgd", "eval_pgd_rough")
def test_pgd_evaluation_equals_the_papers_program(case):
    model, inputs, outputs = case.network(), [], []
    model.register_forward_hook(lambda module, args, output: inputs.append(*args) or outputs.append(output))
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
        case.same(logits_of(model, case.x).argmax(1) == case.y, "f64/correct_clean")
        case.close("logits", outputs[-1][: len(case.x)], "f64/logits_clean")
        inputs.clear()
        outputs.clear()
        found = pgd_outcomes(model, case.x, case.y, attack, Recorded(uniform=case.tensor("draw/00_rand")))
    case.same(found["correct_last"], "f64/correct_adv_last")
    case.same(found["correct_every_step"], "f64/correct_adv_all_steps")
    case.close_attack(inputs[-1][: len(case.x)])
    case.close("logits", outputs[-1][: len(case.x)], "f64/logits_adv_last")
    after_each_step = torch.stack([output[: len(case.x)].argmax(1) == case.y for output in outputs[1:]], 1)
    case.same(after_each_step, "f64/correct_adv_per_step")
