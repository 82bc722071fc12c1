"""MART and BAT give the numbers of their official programs."""

import fairbench_methods.bat
import fairbench_methods.mart
import torch
from golden_case import Recorded, golden, one_step

from fairbench.api import losses

Mart = fairbench_methods.mart.Mart
Bat = fairbench_methods.bat.Bat


@golden("mart")
def test_mart_equals_the_official_program(case):
    model, objective = case.network(), case.objective(Mart, stable_log=False)
    seen = one_step(case, objective, model, case.context(Recorded(normal=case.tensor("draw/00_randn"))))
    terms, reduced = seen["terms"], seen["terms"].reduced()
    case.close("losses", seen["loss"], "f64/loss_total")
    case.close("losses", reduced["margin"], "f64/loss_adv")
    case.close("losses", reduced["robust"] / case.hyper["beta"], "f64/loss_robust")
    runner_up = losses.runner_up(terms.logits_adv, case.y)
    assert torch.equal(runner_up, case.tensor("f64/new_y"))
    label_probability = torch.exp(-losses.cross_entropy(terms.logits, case.y))
    case.close("probabilities", label_probability, "f64/true_probs")
    case.close_step(model, seen["x_adv"])


@golden("mart")
def test_mart_with_the_stable_logarithm_differs_from_the_program_by_less_than_a_millionth(case):
    model, objective = case.network(), case.objective(Mart)
    seen = one_step(case, objective, model, case.context(Recorded(normal=case.tensor("draw/00_randn"))))
    difference = abs(float(seen["loss"] - case.tensor("f64/loss_total")))
    assert 0 < difference < 1e-6


@golden("bat")
def test_bat_equals_the_official_program(case):
    model, objective = case.network(), case.objective(Bat)
    draws = {
        "attack": Recorded(normal=case.tensor("draw/02_randn")),
        "attack-last-clean": Recorded(normal=case.tensor("draw/00_randn")),
    }
    seen = one_step(case, objective, model, case.context(draws))
    # The program returns its images in the order in which they stopped, the second set shuffled.
    last_clean = case.tensor("f64/lastclean_index")
    first_adversarial = case.tensor("f64/firstadv_index_unshuffled")[case.tensor("f64/firstadv_shuffle")]
    assert torch.equal(case.y[last_clean], case.tensor("f64/lastclean_y"))
    assert torch.equal(case.y[first_adversarial], case.tensor("f64/firstadv_y"))
    images = seen["x_adv"]
    for name, index, key in (
        ("last_clean", last_clean, "f64/lastclean_x"),
        ("first_adversarial", first_adversarial, "f64/firstadv_x"),
    ):
        case.close("x_adv", images[name][index], key, rtol=0, atol=1e-9)
    reduced = seen["terms"].reduced()
    uniform = ("uniform_last_clean", "uniform_first_adversarial")
    case.close("losses", seen["loss"], "f64/loss_total")
    case.close("losses", reduced["clean"], "f64/loss_natural")
    case.close("losses", reduced["robust"], "f64/loss_robust_times_beta")
    case.close("losses", reduced[uniform[0]], "f64/loss_uniform_lastclean")
    case.close("losses", reduced[uniform[1]], "f64/loss_uniform_firstadv")
    case.close("losses", sum(reduced[name] for name in uniform), "f64/loss_uniform")
    case.close_update(model)


@golden("bat")
def test_the_bat_case_has_images_of_every_kind(case):
    objective, model = case.objective(Bat, shared_trajectory=True), case.network()
    ctx = case.context(Recorded(normal=case.tensor("draw/02_randn")))
    images = one_step(case, objective, model, ctx)["x_adv"]
    first = case.tensor("f64/firstadv_index_unshuffled")[case.tensor("f64/firstadv_shuffle")]
    # One trajectory is the one of the first-adversarial images.
    case.close("x_adv", images["first_adversarial"][first], "f64/firstadv_x", rtol=0, atol=1e-9)
    same = (images["last_clean"] == images["first_adversarial"]).flatten(1).all(1)
    assert 0 < same.sum() < len(same)  # some are never fooled, some are
    # The last-clean images of the program are from other noise.
    other = case.tensor("f64/lastclean_x")
    assert not torch.equal(images["last_clean"][case.tensor("f64/lastclean_index")], other)
