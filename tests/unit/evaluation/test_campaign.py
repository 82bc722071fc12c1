"""Ensembles: the same verdicts however the work is cut, nothing done twice, adversarial examples stored."""

import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import toys
from interrupted import stop_after
from toys import settled

from fairbench.attacks.frozen import frozen
from fairbench.attacks.margin import other_classes
from fairbench.attacks.network import Network
from fairbench.core.errors import ConfigError
from fairbench.data.images import to_unit
from fairbench.evaluation.adversarial_examples import (
    AdversarialExamples,
    read_examples,
    write_examples,
)
from fairbench.evaluation.campaign import BLOCK, Campaign
from fairbench.evaluation.evaluate import evaluate
from fairbench.evaluation.journal import Journal
from fairbench.evaluation.verdicts import fooled_by
from fairbench.metrics.masking import masking_gap
from fairbench.models.folding import folded
from fairbench.registry.attacks import A3Attack, AutoAttack, PgdAttack

EPS = 0.004


def autoattack(**changes):
    given = {"name": "toy", "kind": "autoattack", "eps": EPS, "num_steps": 7, "num_targets": 2}
    return AutoAttack(**{**given, "num_queries": 12, **changes})


def model_and_images(count=70):
    """A network that gets most of the labels right: they are its own predictions, a few of them changed."""
    model, images = settled().eval(), toys.images(count)
    with torch.no_grad():
        labels = model(to_unit(images.images)).argmax(1)
    labels[::9] = (labels[::9] + 1) % images.num_classes
    return model, replace(images, labels=labels)


def assert_same(one, other):
    assert np.array_equal(one.correct, other.correct)
    assert np.array_equal(one.prediction, other.prediction)
    assert all(np.array_equal(one.columns[name], other.columns[name]) for name in one.columns)
    assert torch.equal(one.adversarial.index, other.adversarial.index)


ATTACKS = [autoattack(), A3Attack(name="a3", kind="a3", eps=0.03)]  # the last image ends A3's rounds


@pytest.mark.parametrize("attack", ATTACKS, ids=["autoattack", "a3"])
def test_verdicts_do_not_depend_on_the_batch_size_or_on_where_an_evaluation_was_interrupted(
    attack, tmp_path, monkeypatch
):
    model, images = model_and_images(24)
    whole = evaluate(model, images, attack)
    clean = evaluate(model, images, None).correct
    assert whole.correct.sum() < clean.sum()
    assert not (whole.correct & ~clean).any()
    journal = Journal(tmp_path / "partial")
    blocks = stop_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, images, attack, batch_size=7, journal=journal)
    resumed = evaluate(model, images, attack, batch_size=7, journal=journal)
    assert_same(resumed, whole)
    assert len(blocks) == len(set(blocks))  # no finished block was computed again
    assert len(list((tmp_path / "partial").iterdir())) == len(blocks)


def test_every_broken_image_has_an_adversarial_example_and_only_those():
    model, images = model_and_images()
    found = evaluate(model, images, autoattack())
    clean = evaluate(model, images, None).correct
    assert found.adversarial.index.tolist() == np.flatnonzero(clean & ~found.correct).tolist()
    x, y = (
        to_unit(images.images[found.adversarial.index]),
        images.labels[found.adversarial.index],
    )
    fooled, prediction = fooled_by(model, x, y, found.adversarial.x_adv, EPS, "linf")
    assert fooled.all()
    assert np.array_equal(prediction.numpy(), found.prediction[found.adversarial.index])


def test_a_part_alone_breaks_what_it_breaks_first_in_the_ensemble():
    model, images = model_and_images()
    alone = evaluate(model, images, autoattack(attacks=("apgd-ce",)))
    whole = evaluate(model, images, autoattack())
    assert np.array_equal(alone.correct, whole.columns["survived_apgd-ce"])
    order = [whole.columns[f"survived_{part}"] for part in ("apgd-ce", "apgd-t", "fab-t", "square")]
    assert all(not (later & ~sooner).any() for sooner, later in pairwise(order))
    assert np.array_equal(order[-1], whole.correct)


def test_no_radius_breaks_nothing_and_a_large_one_everything():
    model, images = model_and_images()
    clean = evaluate(model, images, None).correct
    assert np.array_equal(evaluate(model, images, autoattack(eps=0.0)).correct, clean)
    assert not evaluate(model, images, autoattack(eps=0.5, num_steps=20)).correct.any()


def test_a_search_in_bfloat16_counts_only_what_float32_confirms():
    model, images = model_and_images()
    found = evaluate(model, images, autoattack(precision="bfloat16", attacks=("apgd-ce",)))
    x, y = (
        to_unit(images.images[found.adversarial.index]),
        images.labels[found.adversarial.index],
    )
    assert len(x) > 0
    assert fooled_by(model, x, y, found.adversarial.x_adv, EPS, "linf")[0].all()


def test_what_the_verdict_refuses_stays_in_the_pool_and_is_counted():
    model, images = model_and_images(20)

    class Liar(torch.nn.Module):  # the search sees another network than the one that judges
        def forward(self, x):
            return -model(x)

    with frozen(model):
        campaign = Campaign(model, Network(Liar().eval()), images, EPS, "linf", 0)
        before = campaign.robust.clone()

        def attempt(x, y, index, tick):
            from fairbench.attacks.search import SearchResult

            return SearchResult(torch.ones(len(x), dtype=torch.bool), {"x_adv": x})

        result = campaign.attempt(attempt, campaign.robust_positions(), "lie")
    assert not result.success.any()
    assert torch.equal(campaign.robust, before)
    assert campaign.stages["lie"].unconfirmed == int(before.sum())


def test_a_model_that_masks_its_gradients_fools_pgd_and_is_caught():
    model, images = model_and_images()
    masked = torch.nn.Sequential(model, Loud()).eval()  # cross-entropy saturates: its gradients are exactly 0
    pgd = PgdAttack(name="pgd", kind="pgd", eps=EPS, step_size=EPS / 4, num_steps=10, start="none")
    clean, weak = (evaluate(masked, images, attack) for attack in (None, pgd))
    strong = evaluate(masked, images, autoattack())
    assert np.array_equal(weak.correct, clean.correct)  # PGD reads full robustness
    assert strong.correct.mean() < weak.correct.mean() - 0.1
    assert np.array_equal(evaluate(model, images, None).correct, clean.correct)
    assert any(finding["name"] == "no-gradient" for finding in clean.about["health"])
    assert masking_gap(weak.correct.mean(), strong.correct.mean()) is not None
    honest = evaluate(model, images, None)
    assert honest.about["health"] == []


class Loud(torch.nn.Module):
    def forward(self, logits):
        return 1e6 * logits


def test_images_outside_the_ball_or_the_box_are_never_adversarial():
    model, images = model_and_images(8)
    x, y = to_unit(images.images), (images.labels + 1) % images.num_classes
    right = model(x).argmax(1)
    y = (right + 1) % images.num_classes  # so the image itself counts as fooling
    assert fooled_by(model, x, y, x, EPS, "linf")[0].all()
    for wrong in (x + 2 * EPS, x - 2, torch.full_like(x, torch.nan)):
        with torch.no_grad():
            if torch.isfinite(wrong).all():
                assert not fooled_by(model, x, y, wrong, EPS, "linf")[0].any()
    assert not fooled_by(model, x, y, (x + 0.9 * EPS).clamp(0, 1), EPS, "l2")[0].all()


def test_progress_names_the_part_and_what_still_stands_and_the_time_left_from_the_first_steps_on():
    model, images = model_and_images()
    told = []
    evaluate(model, images, autoattack(), batch_size=8, progress=told.append)
    assert list(dict.fromkeys(p.stage.split(".")[0] for p in told)) == [
        "apgd-ce",
        "apgd-t",
        "fab-t",
        "square",
    ]
    assert all(0 < p.done <= 1 and 0 <= p.robust <= 1 for p in told)
    assert all(p.left >= 0 for p in told)
    standing = [p.robust for p in told]
    assert standing == sorted(standing, reverse=True)


def test_a_journal_about_other_images_is_not_believed(tmp_path):
    journal = Journal(tmp_path)
    journal.write("a.block0", torch.arange(4), {"found": torch.ones(4)}, {"seconds": 1})
    assert journal.read("a.block0", torch.arange(4)) is not None
    assert journal.read("a.block0", torch.arange(1, 5)) is None
    assert journal.read("b.block0", torch.arange(4)) is None
    (tmp_path / "a.block0.safetensors").write_bytes(b"cut short")
    assert journal.read("a.block0", torch.arange(4)) is None
    journal.clear()
    assert not tmp_path.exists()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_examples_read_back_are_still_adversarial(tmp_path, norm):
    model, images = model_and_images()
    eps = EPS if norm == "linf" else 10 * EPS
    examples = evaluate(model, images, autoattack(attacks=("apgd-ce",), norm=norm, eps=eps)).adversarial
    x, y = to_unit(images.images[examples.index]), images.labels[examples.index]
    with frozen(model):
        write_examples(tmp_path / "e.safetensors", model, x, y, examples, eps, norm)
        again = read_examples(tmp_path / "e.safetensors", to_unit(images.images))
        assert torch.equal(again.index, examples.index)
        assert len(again.index) > 0
        assert fooled_by(model, x, y, again.x_adv, eps, norm)[0].all()
    assert (tmp_path / "e.safetensors").stat().st_size < 4 * x.numel()


def test_no_examples_are_a_file_too(tmp_path):
    model, images = model_and_images(4)
    none = AdversarialExamples(torch.zeros(0, dtype=torch.int64), torch.zeros(0, *images.image_shape))
    write_examples(tmp_path / "e.safetensors", model, none.x_adv, images.labels[:0], none, EPS, "linf")
    assert len(read_examples(tmp_path / "e.safetensors", to_unit(images.images)).index) == 0


def test_folding_changes_logits_by_rounding_only_and_an_untraceable_model_is_copied():
    model, images = model_and_images()
    x = to_unit(images.images)
    fast = folded(model, x)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast.modules())
    with torch.no_grad():
        assert (fast(x) - model(x)).abs().max() < 1e-4
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())

    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x) if x.sum() > 0 else self.inner(-x)

    with torch.no_grad():
        assert (folded(Branching().eval(), x)(x) - model(x)).abs().max() < 1e-5


def test_rounding_that_moves_a_relu_over_its_edge_does_not_prevent_folding():
    norm = torch.nn.BatchNorm2d(8)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 1), norm, torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    x = torch.full((4, 3, 2, 2), 0.3)
    with torch.no_grad():
        norm.running_mean.copy_(model[0](x)[0, :, 0, 0])  # every ReLU meets 0, give or take rounding
        norm.running_var.copy_(torch.rand(8) + 0.5)
    fast = folded(model.eval(), x)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast.modules())


class Rounded(torch.autograd.Function):
    """Quantisation with a straight-through gradient."""

    @staticmethod
    def forward(ctx, x):
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Quantised(torch.nn.Module):
    def __init__(self, inner, custom):
        super().__init__()
        self.inner, self.custom = inner, custom

    def forward(self, x):
        if self.custom:
            return self.inner(Rounded.apply(x))
        with torch.no_grad():
            rounded = (x * 8).round() / 8 - x
        return self.inner(x + rounded)


@pytest.mark.parametrize("custom", [True, False], ids=["function", "no_grad"])
def test_folding_keeps_gradients_that_the_author_defined(custom):
    model, images = model_and_images()
    x = to_unit(images.images)
    author = Quantised(model, custom).eval()
    gradients = []
    for network in (author, folded(author, x)):
        _, _, gradient = Network(network).gradient(x, lambda logits: logits[:, 0])
        gradients.append(gradient)
    assert gradients[0].abs().sum() > 0
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[0].abs().max()


def test_a_model_that_cannot_be_copied_is_searched_itself_and_refused_in_another_precision():
    model, images = model_and_images(8)
    model.lock = threading.Lock()
    x = to_unit(images.images)
    assert folded(model, x) is model
    with pytest.raises(ConfigError, match="cannot be copied"):
        folded(model, x, torch.bfloat16)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_output_that_is_not_finite_returns_its_image_to_the_pool(norm):
    model, images = model_and_images(20)
    clean = to_unit(images.images)

    class Brittle(torch.nn.Module):
        """Finite on the clean images only."""

        def forward(self, x):
            moved = torch.cdist(x.flatten(1), clean.flatten(1)).amin(1) > 0.01
            return torch.where(moved[:, None], torch.nan, model(x))

    before = evaluate(model, images, None).correct
    found = evaluate(Brittle().eval(), images, autoattack(attacks=("apgd-ce",), norm=norm, eps=0.05))
    assert np.array_equal(found.correct, before)
    assert sum(stage["unconfirmed"] for stage in found.about["stages"]) > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_weights_of_another_precision_are_refused(dtype):
    model, images = model_and_images(4)
    with pytest.raises(ConfigError, match=r"evaluation needs float32"):
        evaluate(model.to(dtype), images, None)


def test_targets_are_the_other_classes_by_likelihood():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 5.0, 5.0, 1.0]])
    assert other_classes(logits, torch.tensor([0, 2]), 9).tolist() == [[2, 1, 3], [1, 3, 0]]
    assert other_classes(logits, torch.tensor([1, 1]), 2).tolist() == [[0, 2], [2, 3]]


def test_a_block_is_more_than_a_batch():
    assert BLOCK > 1
