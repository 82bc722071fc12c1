"""FAAL's laws: weights that follow the margins within the ball, absent classes, the bases."""

import pytest
import torch
import toys
from toys import batch, context, loss_of, network, objective

from fairbench.api import classes, losses
from fairbench.core.errors import ConfigError

BASES = pytest.mark.parametrize("base", ["pgd-at", "trades", "mart", "mart-kl"])
MARGIN = torch.tensor([-0.9, -0.5, -0.2, 0.1], dtype=torch.float64)  # of each class


def weights(*labels, num_classes=4, margin=MARGIN, **options):
    """FAAL's class weights for a batch whose samples have the margin of their class."""
    y = torch.tensor(labels)
    return objective("faal", num_classes, **options).class_weights(margin[y], y)


def test_margins_are_the_largest_wrong_probability_less_that_of_the_label():
    logits = 3 * torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(20) % 5
    found = losses.probability_margin(logits, y)
    for b, p in enumerate(logits.softmax(1).tolist()):
        label = p.pop(int(y[b]))
        assert float(found[b]) == pytest.approx(max(p) - label)
    assert torch.equal(found > 0, logits.argmax(1) != y)
    assert losses.probability_margin(logits.bfloat16(), y).dtype == torch.float32


@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
def test_weights_are_on_the_ball_average_one_and_grow_with_the_margin(tau):
    p = weights(*[0, 1, 2, 3] * 3, tau=tau) / 4
    assert float(p.sum()) == pytest.approx(1)
    assert float(-(4 * p).log().mean()) == pytest.approx(tau)
    assert (p.diff() > 0).all()


def test_weights_do_not_tell_how_unfair_the_network_is():
    """They depend on tau alone, not on the scale of the margins."""
    labels = [0, 1, 2, 3] * 3
    torch.testing.assert_close(weights(*labels), weights(*labels, margin=0.01 * MARGIN - 0.3))


def test_the_counts_of_a_batch_count():
    """With n_c a class with more images attracts or repels more; without it only margins matter."""
    labels = [0, 1, 1, 1, 1, 2, 3]
    pure = weights(*labels, count_weighted=False)
    torch.testing.assert_close(pure, weights(0, 1, 2, 3))
    count = classes.class_counts(torch.tensor(labels), 4)
    p = classes.worst_distribution(count * MARGIN, 0.5)
    torch.testing.assert_close(weights(*labels), 4 * p)
    assert not torch.allclose(weights(*labels), pure)


def test_an_absent_class_gets_nothing_and_the_others_average_one():
    found = weights(0, 0, 1, 1, 3, 3)
    assert found[2] == 0
    assert float(found.sum()) == pytest.approx(3)
    present = weights(0, 0, 1, 1, 2, 2, num_classes=3, margin=MARGIN[[0, 1, 3]])
    torch.testing.assert_close(found[[0, 1, 3]], present)


def test_in_the_program_an_absent_class_gets_most_of_the_weight():
    margin, labels = torch.full((10,), -0.3, dtype=torch.float64), list(range(9)) * 4
    program = weights(*labels, num_classes=10, margin=margin, absent="program")
    assert float(program[9] / 10) == pytest.approx(0.57, abs=0.005)
    assert program[:9].max() < 0.5
    ours = weights(*labels, num_classes=10, margin=margin)
    assert ours.tolist() == [1] * 9 + [0]
    risk = weights(*labels, num_classes=10, margin=margin, absent="program", count_weighted=False)
    assert risk[9] == risk.min()  # its margin counts as -1, the smallest


@BASES
@pytest.mark.parametrize("form", ["kl", "chi2", "entropic", "cvar", "max"])
def test_a_batch_of_one_class_has_weights_of_one(base, form):
    given, model = batch(6, labels=torch.full((6,), 2)), network()
    terms = loss_of(objective("faal", base=base, form=form), model, given, (given.x + 0.05).clamp(0, 1))
    assert list(terms.weight) == list(terms.terms)
    for weight in terms.weight.values():
        assert torch.equal(weight, torch.ones(6).double())


@BASES
def test_all_terms_have_the_same_weights_and_no_gradient_passes_through_them(base):
    given, model = batch(), network()
    method = objective("faal", base=base)
    x_adv = toys.adversary(method, model, given, context())
    terms = loss_of(method, model, given, x_adv)
    margin = losses.probability_margin(terms.logits_adv, given.y)
    expected = method.class_weights(margin, given.y)[given.y]
    for name in terms.terms:
        assert torch.equal(terms.weight[name], expected)
        assert not terms.weight[name].requires_grad
    total = sum((expected.float() * term).mean() for term in terms.terms.values())
    torch.testing.assert_close(terms.total(), total)
    torch.testing.assert_close(terms.base(), sum(term.mean() for term in terms.terms.values()))


@pytest.mark.parametrize(
    ("base", "other", "options"),
    [
        ("pgd-at", "pgd-at", {}),
        ("trades", "trades", {}),
        ("mart", "mart", {}),
        ("mart-kl", "trades", {}),
    ],
)
def test_the_adversary_is_that_of_the_base(base, other, options):
    given, model = batch(), network()
    found = [
        toys.adversary(method, model, given, context())
        for method in (objective("faal", base=base), objective(other, **options))
    ]
    assert torch.equal(*found)


def test_the_clean_forward_moves_the_running_statistics_and_nothing_else():
    given = batch()
    found = []
    for clean in (True, False):
        model = network()
        terms = loss_of(objective("faal", clean_forward=clean), model, given, (given.x + 0.05).clamp(0, 1))
        found.append((terms, model.bn1.running_mean))
        assert model.bn1.num_batches_tracked == (2 if clean else 1)
        assert (terms.logits is not None) is clean
    (with_it, statistics), (without, others) = found
    assert torch.equal(with_it.total(), without.total())
    assert not torch.equal(statistics, others)


@pytest.mark.parametrize("option", ["tau", "beta"])
def test_negative_values_are_refused(option):
    with pytest.raises(ConfigError, match=rf"{option} is -1\.0, expected at least 0"):
        objective("faal", **{option: -1.0})
