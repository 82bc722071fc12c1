"""Evaluation: one row per image, independent of the batch size, and the model as it was."""

import numpy as np
import pytest
import torch
import toys
from toys import settled

from fairbench.attacks.frozen import frozen
from fairbench.core.errors import ConfigError, ContractError, DataError
from fairbench.data.images import ImageSet
from fairbench.evaluation.evaluate import evaluate
from fairbench.evaluation.verdicts import VERDICT_BATCH, logits_of, require_inside
from fairbench.registry.attacks import AutoAttack, PgdAttack


def pgd_attack(**changes):
    given = {"kind": "pgd", "eps": 0.004, "step_size": 0.002, "num_steps": 3, **changes}
    return PgdAttack(name="toy", **given)


def rows(attack, size=256, images=None, model=None):
    return evaluate(model or settled(), images or toys.images(70), attack, batch_size=size)


def assert_same_rows(one, other):
    for name in ("label", "prediction", "correct"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert one.columns.keys() == other.columns.keys()
    assert all(np.array_equal(one.columns[name], other.columns[name]) for name in one.columns)


@pytest.mark.parametrize("start", ["uniform", "gaussian", "none"])
@pytest.mark.parametrize("clip_start", [False, True])
def test_outcomes_do_not_depend_on_the_batch_size(start, clip_start):
    attack = pgd_attack(start=start, clip_start=clip_start)
    model = settled()
    whole = rows(attack, model=model)
    assert 0 < whole.correct.mean() < 1
    for size in (7, 64):
        assert_same_rows(rows(attack, size, model=model), whole)


def test_clean_outcomes_are_the_models_predictions_in_the_order_of_the_images():
    model, images, told = settled(), toys.images(70), []
    found = evaluate(model, images, None, batch_size=32, progress=lambda done: told.append(done.done))
    model.eval()
    assert torch.equal(torch.from_numpy(found.prediction), model(images.images / 255).argmax(1))
    assert np.array_equal(found.label, images.labels.numpy())
    assert np.array_equal(found.correct, found.prediction == found.label)
    assert found.columns == {}
    assert told == [32 / 70, 64 / 70, 1.0]


def test_the_same_seed_repeats_and_another_starts_elsewhere():
    found = [rows(pgd_attack(eps=0.3, step_size=0.001, seed=seed)) for seed in (0, 0, 1)]
    assert_same_rows(found[0], found[1])
    assert not np.array_equal(found[0].prediction, found[2].prediction)


def test_every_step_is_the_stricter_notion_and_both_are_stored():
    last, every = (rows(pgd_attack(success=success)) for success in ("last", "every-step"))
    for found in (last, every):
        assert not (found.columns["correct_every_step"] & ~found.columns["correct_last"]).any()
    assert np.array_equal(last.correct, last.columns["correct_last"])
    assert np.array_equal(every.correct, last.columns["correct_every_step"])
    assert np.array_equal(last.columns["correct_last"], last.prediction == last.label)


def test_every_step_judges_the_iterates_and_not_the_start():
    images = toys.images(70)
    frozen = rows(pgd_attack(eps=1.0, step_size=0.0001, num_steps=1, start="uniform"), images=images)
    assert np.array_equal(frozen.columns["correct_every_step"], frozen.columns["correct_last"])


def test_a_larger_radius_is_not_weaker():
    accuracy = [rows(pgd_attack(eps=eps, step_size=eps / 2)).correct.mean() for eps in (0.0001, 0.004, 0.1)]
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[0] > accuracy[-1]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("attack", [None, pgd_attack()], ids=["clean", "pgd"])
def test_the_model_is_left_as_it_was(training, attack):
    model = settled().train(training)
    model.fc.bias.requires_grad_(False)
    before = toys.copied(model.state_dict())
    rows(attack, model=model)
    toys.assert_same(model.state_dict(), before)
    assert model.training is training
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["fc.bias"]
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_judging_ends_with_the_models_own_mode_after_an_error(training):
    model = settled().train(training)

    def fail():
        with frozen(model):
            assert not model.training
            assert not any(p.requires_grad for p in model.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert model.training is training
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("value", [300.0, -3.0, float("nan")])
def test_images_outside_the_unit_range_are_refused(value):
    images = toys.images(8)
    pixels = images.images.float()
    pixels[3, 0, 0, 0] = value
    with pytest.raises(DataError, match=r"not in \[0, 1\]"):
        rows(None, images=ImageSet(pixels, images.labels, 4, images.classes))


@pytest.mark.parametrize("attack", [None, pgd_attack()], ids=["clean", "pgd"])
def test_outputs_that_are_not_finite_are_refused(attack):
    model = settled()
    with torch.no_grad():
        model.fc.bias[1] = float("nan")
    with pytest.raises((ConfigError, DataError), match="outputs are not finite"):
        rows(attack, model=model)
    assert model.training


@pytest.mark.parametrize("size", [1, VERDICT_BATCH, VERDICT_BATCH + 1])
def test_verdicts_see_batches_of_one_size_only(size):
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x.flatten(1)[:, :3]

    x = torch.rand(size, 1, 2, 2)
    assert torch.equal(logits_of(Watched(), x), x.flatten(1)[:, :3])
    assert set(seen) == {VERDICT_BATCH}


@pytest.mark.parametrize("shift", [0.06, -0.06, float("nan")])
def test_images_outside_the_ball_are_refused(shift):
    x = torch.full((3, 1, 2, 2), 0.5)
    require_inside(x, x + 0.05, 0.05)
    with pytest.raises(ContractError, match=r"left its budget of 0\.05\d* \(linf\) on 3 of 3 images"):
        require_inside(x, x + shift, 0.05)
    with pytest.raises(ContractError, match="left its budget"):
        require_inside(x, x + 0.6, 0.7)


@pytest.mark.parametrize("engine", ["fairbench", "reference"])
def test_autoattack_gives_one_row_per_image_and_is_not_stronger_than_the_ball_allows(engine):
    attack = AutoAttack(name="toy", kind="autoattack", eps=0.05, attacks=("apgd-ce",), engine=engine)
    images = toys.images(6)
    found, again = (rows(attack, images=images) for _ in range(2))
    assert_same_rows(found, again)
    assert len(found.correct) == 6
    assert not (found.correct & ~rows(None, images=images).correct).any()
