"""Weight perturbation and weight averaging give the numbers of the official programs."""

import fairbench_methods.trades
import torch
from golden_case import Network, Recorded, golden, one_step

from fairbench.attacks.frozen import frozen
from fairbench.registry.components import Averaging, WeightPerturbation
from fairbench.training.averaging import WeightAverage
from fairbench.training.weight_perturbation import ascent_direction, perturbed

Trades = fairbench_methods.trades.Trades


@golden("awp")
def test_trades_awp_equals_the_official_program(case):
    hyper, beta = case.hyper, case.hyper["beta"]
    model, objective = case.network(), case.objective(Trades, bn_order="adv-clean-clean", beta=beta)
    ctx = case.context(Recorded(normal=case.tensor("draw/00_randn")), budget=case.budget(1 / 255))
    with frozen(model):
        x_adv = objective.perturb(model, case.batch(), ctx)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    direction, _ = ascent_direction(model, objective, case.batch(), x_adv, ctx, "base")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for name, step in direction.items():
        case.close("class values", step, f"f64/awp_diff/{name}", rtol=1e-7, atol=1e-10)
    inner = objective.loss(model, case.batch(), x_adv, ctx).reduced()
    case.close("losses", inner["clean"], "f64/awp_loss_natural")
    case.close("losses", inner["robust"] / beta, "f64/awp_loss_robust")
    case.close("losses", -(inner["clean"] + inner["robust"]), "f64/awp_loss")
    model.load_state_dict(before)
    with perturbed(model, direction, hyper["gamma"]):
        case.close_parameters(model, "param_perturbed")
    model.load_state_dict(before)

    settings = WeightPerturbation(gamma=hyper["gamma"], start_epoch=1)
    seen = one_step(case, objective, model, ctx, lr=hyper["lr"], weight_decay=5e-4, awp=settings)
    reduced = seen["terms"].reduced()
    case.close("losses", reduced["clean"], "f64/loss_natural")
    case.close("losses", reduced["robust"] / beta, "f64/loss_robust")
    case.close_step(model, seen)
    case.close_parameters(model, "param_after_step")


@golden("cfa_fawa")
def test_averages_over_five_epochs_equal_the_cfa_program(case):
    """The program's plain average takes every epoch in, its fair one those with a robust worst class."""
    lowest = case.tensor("given/fawa_valid_class_robust_acc").min(1).values.tolist()
    for kind, threshold in (("fawa", case.hyper["threshold"]), ("ema", 0.0)):
        settings = Averaging(kind="fawa", decay=case.hyper["decay_rate"], start_epoch=1, threshold=threshold)
        average = WeightAverage(settings, given_model(case, 0))
        for epoch, worst in enumerate(lowest):
            found = average.after_epoch(given_model(case, epoch), epoch + 1, lambda worst=worst: worst)
            if kind == "fawa":
                case.same(found["accepted"], f"f64/fawa/decision_{epoch}")
                case.same(average.started, f"f64/fawa/seat_init_{epoch}")
            if average.started:  # before, the program would evaluate its random initial weights
                for name, value in average.weights(lambda: ()).items():
                    case.close("parameters", value, f"f64/fawa/{kind}_{epoch}/{name}")


def given_model(case, epoch):
    prefix = f"given/fawa/model_{epoch}/"
    model = Network(len(case.arrays[f"{prefix}fc.bias"])).double()
    model.load_state_dict({key.removeprefix(prefix): case.tensor(key) for key in case.keys(prefix)})
    return model
