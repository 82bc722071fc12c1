"""RSLAD gives the numbers of its official program."""

from dataclasses import replace

import fairbench_methods.rslad
from golden_case import Recorded, golden, one_step

from fairbench.objectives.teachers import Teachers

Rslad = fairbench_methods.rslad.Rslad


@golden("rslad")
def test_rslad_equals_the_official_program(case):
    objective, model = case.objective(Rslad), case.network()
    teachers = Teachers({"teacher": case.network("given/teacher")})
    ctx = case.context(Recorded(normal=case.tensor("draw/00_randn")), budget=case.budget(1 / 255))
    seen = one_step(
        case,
        objective,
        model,
        replace(ctx, teacher=teachers),
        lr=case.hyper["lr"],
        weight_decay=case.hyper["weight_decay"],
    )
    case.close_step(model, seen)
    case.close_parameters(model, "param_after_step")
    case.close("logits", teachers("teacher")(case.x), "f64/teacher_logits")
    share, reduced = objective.config.adv_share, seen["terms"].reduced()
    case.close("losses", reduced["robust"] / share, "f64/loss_adv")
    case.close("losses", reduced["clean"] / (1 - share), "f64/loss_natural")
