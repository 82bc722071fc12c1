"""Weight perturbation and weight averaging give the numbers of the official programs."""

import fairbench_methods.trades
import pytest
import torch
from golden_case import CPU, Network, Recorded, golden

from fairbench.attacks.frozen import frozen
from fairbench.registry.components import Averaging, WeightPerturbation
from fairbench.training.averaging import WeightAverage
from fairbench.training.statistics import EpochTotals
from fairbench.training.step import training_step
from fairbench.training.weight_perturbation import ascent_direction, perturbed

Trades = fairbench_methods.trades.Trades


@golden("awp")
def test_trades_awp_equals_the_official_program(case):
    hyper, beta = case.hyper, case.hyper["beta"]
    model, objective = case.network(), case.objective(Trades, bn_order="adv-clean-clean", beta=beta)
    ctx = case.context(Recorded(normal=case.tensor("draw/00_randn")), budget=case.budget(1 / 255))
    with frozen(model):
        x_adv = objective.perturb(model, case.batch(), ctx)
    case.close("x_adv", x_adv, "f64/x_adv", rtol=0, atol=1e-9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    direction = ascent_direction(model, objective, case.batch(), x_adv, ctx, "base")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for name, step in direction.items():
        case.close("weight perturbation", step, f"f64/awp_diff/{name}", rtol=1e-7, atol=1e-10)
    assert {f"f64/awp_diff/{name}" for name in direction} == {k for k in case.arrays if "awp_diff" in k}
    inner = objective.loss(model, case.batch(), x_adv, ctx).reduced()
    case.close("losses", inner["clean"], "f64/awp_loss_natural")
    case.close("losses", inner["robust"] / beta, "f64/awp_loss_robust")
    case.close("losses", -(inner["clean"] + inner["robust"]), "f64/awp_loss")
    model.load_state_dict(before)
    with perturbed(model, direction, hyper["gamma"]):
        for name, parameter in model.named_parameters():
            case.close("parameters", parameter, f"f64/param_perturbed/{name}", rtol=1e-7, atol=1e-10)
    model.load_state_dict(before)

    settings = WeightPerturbation(gamma=hyper["gamma"], start_epoch=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=hyper["lr"], momentum=0.9, weight_decay=5e-4)
    totals = EpochTotals(case.num_classes, (), CPU)
    loss = training_step(model, objective, optimizer, case.batch(), ctx, totals, check=True, awp=settings)
    case.close("losses", loss, "f64/loss_total")
    case.close("losses", totals.sums["term.clean"], "f64/loss_natural")
    case.close("losses", totals.sums["term.robust"] / beta, "f64/loss_robust")
    case.close_update(model)
    for name, parameter in model.named_parameters():
        case.close("parameters", parameter, f"f64/param_after_step/{name}", rtol=1e-7, atol=1e-10)


@golden("cfa_fawa")
@pytest.mark.parametrize("kind", ["fawa", "ema"])
def test_averages_over_five_epochs_equal_the_cfa_program(case, kind):
    """The program's plain average takes every epoch in, its fair one those with a robust worst class."""
    threshold = case.hyper["threshold"] if kind == "fawa" else 0.0
    settings = Averaging(kind="fawa", decay=case.hyper["decay_rate"], start_epoch=1, threshold=threshold)
    average = WeightAverage(settings, given_model(case, 0))
    for epoch, lowest in enumerate(case.tensor("given/fawa_valid_class_robust_acc").min(1).values.tolist()):
        found = average.after_epoch(given_model(case, epoch), epoch + 1, lambda lowest=lowest: lowest)
        if kind == "fawa":
            assert found["accepted"] == bool(case.tensor(f"f64/fawa/decision_{epoch}"))
            assert average.started == bool(case.tensor(f"f64/fawa/seat_init_{epoch}"))
        if average.started:  # before, the program would evaluate its random initial weights
            for name, value in average.weights(lambda: ()).items():
                case.close(f"{kind} weights", value, f"f64/fawa/{kind}_{epoch}/{name}")


def given_model(case, epoch):
    prefix = f"given/fawa/model_{epoch}/"
    model = Network(len(case.arrays[f"{prefix}fc.bias"])).double()
    model.load_state_dict({key.removeprefix(prefix): case.tensor(key) for key in case.keys(prefix)})
    return model
