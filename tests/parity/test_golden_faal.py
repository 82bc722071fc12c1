"""FAAL gives the numbers of its official program, whose convex solver is exact to about 2e-7 only.

So its class distribution is compared at 1e-6, and everything else in double precision with the program's
distribution put in.
"""

import fairbench_methods.faal
import torch
from golden_case import CFA_INPUT, Recorded, golden, one_step

from fairbench.api import classes, losses
from fairbench.attacks.frozen import frozen
from fairbench.registry.components import WeightPerturbation
from fairbench.training.weight_perturbation import ascent_direction, perturbed

Faal = fairbench_methods.faal.Faal
BASES = {
    "faal_at": "pgd-at",
    "faal_at_awp": "pgd-at",
    "faal_trades": "trades",
    "faal_trades_awp": "trades",
    "faal_mart": "mart-kl",
}
WITH_AWP = ("faal_at_awp", "faal_trades_awp")


def faal(case):
    """FAAL as its program, on the base of this golden file."""
    options = {name: case.hyper[name] for name in ("tau", "beta") if name in case.hyper}
    return case.objective(Faal, base=BASES[case.name], absent="program", stable_log=False, **options)


def start(case):
    """The network and the context of the step."""
    uniform = BASES[case.name] == "pgd-at"
    drawn = case.tensor("draw/00_rand" if uniform else "draw/00_randn")
    draws = Recorded(uniform=drawn) if uniform else Recorded(normal=drawn)
    return case.network(**CFA_INPUT), case.context(draws, budget=case.budget(1 / 255))


def trained(case, objective, model, ctx):
    """What one training step shows."""
    gamma = case.hyper.get("gamma")
    awp = None if gamma is None else WeightPerturbation(gamma=gamma, start_epoch=1)
    return one_step(
        case, objective, model, ctx, lr=case.hyper["lr"], weight_decay=case.hyper["weight_decay"], awp=awp
    )


@golden(
    *BASES,
    covers=(
        "x_adv",
        "margin_per_sample",
        "class_margin",
        "sample_weights",
        "loss_*",
        "logits_*",
        "grad/*",
        "bn_after_loss/*",
        "param_after_step/*",
    ),
)
def test_faal_with_the_class_distribution_of_the_program_equals_the_program(case):
    objective, (model, ctx) = faal(case), start(case)
    objective.class_weights = lambda margin, y: case.num_classes * case.tensor("f64/class_p")
    seen = trained(case, objective, model, ctx)
    terms = seen["terms"]
    case.close_step(model, seen)
    case.close_parameters(model, "param_after_step")
    margin = losses.probability_margin(terms.logits_adv, case.y)
    case.close("class values", margin, "f64/margin_per_sample")
    case.close("class values", classes.class_means(margin, case.y, case.num_classes), "f64/class_margin")
    for weight in terms.weight.values():
        case.close("class values", weight, "f64/sample_weights")
    case.close("losses", sum(terms.terms.values()), "f64/loss_per_sample")
    if case.name == "faal_mart":
        case.close("losses", terms.terms["margin"], "f64/loss_adv_per_sample")
        case.close("losses", terms.terms["robust"] / case.hyper["beta"], "f64/loss_robust_per_sample")


@golden(*BASES, covers=("class_p", "sample_weights", "loss_total", "grad/*", "param_after_step/*"))
def test_faal_equals_the_program_up_to_its_solver(case):
    objective, (model, ctx) = faal(case), start(case)
    weights, solved = objective.class_weights, []
    objective.class_weights = lambda margin, y: solved.append(weights(margin, y)) or solved[-1]
    seen = trained(case, objective, model, ctx)
    case.close("solver", solved[-1] / case.num_classes, "f64/class_p", rtol=0, atol=1e-6)
    case.close("solver weights", seen["terms"].weight["robust"], "f64/sample_weights", rtol=0, atol=1e-5)
    case.close("solver loss", seen["loss"], "f64/loss_total", rtol=0, atol=1e-6)
    for name, parameter in model.named_parameters():
        case.close("solver gradients", parameter.grad, f"f64/grad/{name}", rtol=0, atol=1e-6)
        case.close("solver parameters", parameter, f"f64/param_after_step/{name}", rtol=0, atol=1e-7)


@golden(*WITH_AWP, covers=("awp_diff/*", "param_perturbed/*"))
def test_weights_are_perturbed_along_the_loss_without_class_weights(case):
    objective, (model, ctx) = faal(case), start(case)
    with frozen(model):
        x_adv = objective.perturb(model, case.batch(), ctx)
    direction, _ = ascent_direction(model, objective, case.batch(), x_adv, ctx, "base")
    for name, step in direction.items():
        case.close("class values", step, f"f64/awp_diff/{name}", rtol=1e-7, atol=1e-10)
    with perturbed(model, direction, case.hyper["gamma"]):
        case.close_parameters(model, "param_perturbed")


@golden("faal_weights")
def test_the_class_adversary_alone_equals_the_program_s(case):
    """On given class margins, one with an absent class, one with radius 0."""
    for problem in (key.removesuffix("/tau") for key in case.keys("given/") if key.endswith("/tau")):
        case.y, number = case.tensor(f"{problem}/y"), problem.removeprefix("given/")
        case.num_classes, case.x = len(case.arrays[f"{problem}/class_margin"]), torch.zeros(1, 3, 12, 12)
        objective = case.objective(Faal, tau=float(case.arrays[f"{problem}/tau"]), absent="program")
        weight = objective.class_weights(case.tensor(f"{problem}/class_margin")[case.y], case.y)
        case.close("solver", weight / case.num_classes, f"f64/{number}/class_p", rtol=0, atol=1e-6)
