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
    case.close("losses", reduced["margin"], "f64/loss_adv")
    case.close("losses", reduced["robust"] / case.hyper["beta"], "f64/loss_robust")
    case.same(losses.runner_up(terms.logits_adv, case.y), "f64/new_y")
    label_probability = torch.exp(-losses.cross_entropy(terms.logits, case.y))
    case.close("logits", label_probability, "f64/true_probs")
    case.close_step(model, seen)


@golden("mart", covers=())
def test_mart_with_the_stable_logarithm_differs_from_the_program_by_less_than_a_millionth(case):
    model, objective = case.network(), case.objective(Mart)
    seen = one_step(case, objective, model, case.context(Recorded(normal=case.tensor("draw/00_randn"))))
    difference = abs(float(seen["loss"] - case.tensor("f64/loss_total")))
    assert 0 < difference < 1e-6


@golden("bat")
def test_bat_equals_the_official_program(case, monkeypatch):
    model, objective = case.network(), case.objective(Bat)
    draws = {
        "attack": Recorded(normal=case.tensor("draw/02_randn")),
        "attack-last-clean": Recorded(normal=case.tensor("draw/00_randn")),
    }
    first_seen, last_seen = [], []
    counts = iter((first_seen, last_seen))  # the objective attacks in this order

    class Watched(fairbench_methods.bat.Boundary):
        def __init__(self, *args):
            super().__init__(*args)
            self.counts = next(counts)

        def __call__(self, k, x, logits):
            super().__call__(k, x, logits)
            self.counts.append(self.num_wrong)

    monkeypatch.setattr(fairbench_methods.bat, "Boundary", Watched)
    seen = one_step(case, objective, model, case.context(draws))
    last_clean = in_order_of_stopping(last_seen, 0)
    first_adversarial = in_order_of_stopping(first_seen, case.hyper["tau"])
    case.same(last_clean, "f64/lastclean_index")
    case.same(first_adversarial, "f64/firstadv_index_unshuffled")
    first_adversarial = first_adversarial[case.tensor("draw/01_shuffle")]
    case.same(case.y[last_clean], "f64/lastclean_y")
    case.same(case.y[first_adversarial], "f64/firstadv_y")
    images = seen["x_adv"]
    case.close_attack(images["last_clean"][last_clean], "f64/lastclean_x")
    case.close_attack(images["first_adversarial"][first_adversarial], "f64/firstadv_x")
    reduced = seen["terms"].reduced()
    uniform = ("uniform_last_clean", "uniform_first_adversarial")
    case.close("losses", reduced["clean"], "f64/loss_natural")
    case.close("losses", reduced["robust"], "f64/loss_robust_times_beta")
    case.close("losses", reduced[uniform[0]], "f64/loss_uniform_lastclean")
    case.close("losses", reduced[uniform[1]], "f64/loss_uniform_firstadv")
    case.close("losses", sum(reduced[name] for name in uniform), "f64/loss_uniform")
    seen["outputs"] = in_the_program_s_order(seen["outputs"], last_clean, first_adversarial)
    case.close_update(model, seen)


def in_order_of_stopping(num_wrong, tau):
    """The program's order of its images: those first that were soonest wrong more than `tau` times."""
    return (torch.stack(num_wrong) <= tau).sum(0).argsort(stable=True)


def in_the_program_s_order(outputs, last_clean, first_adversarial):
    on_last_clean, on_first_adversarial, clean = outputs
    return [on_last_clean[last_clean], on_first_adversarial[first_adversarial], clean[first_adversarial]]


@golden("bat", covers=())
def test_the_bat_case_has_images_of_every_kind(case):
    objective, model = case.objective(Bat, shared_trajectory=True), case.network()
    ctx = case.context(Recorded(normal=case.tensor("draw/02_randn")))
    images = one_step(case, objective, model, ctx)["x_adv"]
    first = case.tensor("f64/firstadv_index_unshuffled")[case.tensor("f64/firstadv_shuffle")]
    # One trajectory is the one of the first-adversarial images.
    case.close_attack(images["first_adversarial"][first], "f64/firstadv_x")
    same = (images["last_clean"] == images["first_adversarial"]).flatten(1).all(1)
    assert 0 < same.sum() < len(same)  # some are never fooled, some are
    # The last-clean images of the program are from other noise.
    other = case.tensor("f64/lastclean_x")
    assert not torch.equal(images["last_clean"][case.tensor("f64/lastclean_index")], other)
