"""Targeted PGD: a wrong class for each image, drawn once and for all, and what the attack makes of it."""

import numpy as np
import pytest
import torch
import toys
from toys import settled

from fairbench.attacks.image_draws import ImageDraws
from fairbench.data.images import to_unit
from fairbench.evaluation.evaluate import evaluate, pgd_images, targets
from fairbench.evaluation.verdicts import inside
from fairbench.registry.attacks import PgdAttack


def attack(**changes):
    return PgdAttack(
        **{"name": "toy", "kind": "pgd", "eps": 0.004, "step_size": 0.0005, "num_steps": 20, **changes}
    )


TARGETED = attack(target="random")


def drawn(label, num_classes, first=0, seed=0):
    draws = ImageDraws(seed, torch.arange(first, first + len(label)))
    return targets(label, TARGETED, draws, num_classes)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_targets_are_wrong_classes_and_all_of_them_equally_likely(num_classes):
    label = torch.arange(num_classes).repeat(3000)
    found = drawn(label, num_classes)
    assert (found != label).all()
    table = torch.zeros(num_classes, num_classes).index_put((label, found), torch.ones(()), accumulate=True)
    share = table[~torch.eye(num_classes, dtype=torch.bool)] / 3000
    assert (share - 1 / (num_classes - 1)).abs().max() < 0.05


def test_the_target_of_an_image_does_not_depend_on_its_batch():
    label = torch.arange(200) % 10
    parts = [drawn(label[k : k + 7], 10, first=k) for k in range(0, 200, 7)]
    assert torch.equal(torch.cat(parts), drawn(label, 10))
    assert not torch.equal(drawn(label, 10, seed=1), drawn(label, 10))


def test_the_start_is_that_of_the_untargeted_attack():
    draws = ImageDraws(0, torch.arange(70))
    like = torch.zeros(70, 1, 2, 2)
    before = draws.uniform(like)
    targets(torch.arange(70) % 3, TARGETED, draws, 3)
    assert torch.equal(draws.uniform(like), before)


def test_the_images_stay_in_the_budget_and_are_nearer_to_their_target():
    model, images = settled(), toys.images(70)
    model.eval()
    x, y = to_unit(images.images), images.labels
    draws = ImageDraws(0, torch.arange(len(y)))
    target = targets(y, TARGETED, draws, images.num_classes)
    x_adv = pgd_images(model, x, y, TARGETED, draws, target=target)
    assert inside(x, x_adv, TARGETED.eps, "linf").all()
    with torch.no_grad():
        before, after = (model(images).log_softmax(1)[torch.arange(70), target] for images in (x, x_adv))
    assert (after > before).all()


def test_outcomes_say_whether_the_target_was_reached_whatever_the_batch():
    model, images = settled(), toys.images(70)
    found = evaluate(model, images, TARGETED)
    again = evaluate(model, images, TARGETED, batch_size=7)
    for name in ("correct_last", "correct_every_step", "reached_target"):
        assert np.array_equal(found.columns[name], again.columns[name])
    assert found.columns["reached_target"].any()
    assert not (found.columns["reached_target"] & found.correct).any()
    assert np.array_equal(found.correct, found.prediction == found.label)
    assert "reached_target" not in evaluate(model, images, attack()).columns


def test_a_target_makes_the_attack_no_stronger():
    model, images = settled(), toys.images(256)
    untargeted, targeted = (evaluate(model, images, each).correct.mean() for each in (attack(), TARGETED))
    assert untargeted <= targeted + 0.02
