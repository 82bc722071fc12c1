"""A setting that switches an idea off gives the method it was built on, bit for bit."""

import pytest
import torch
import toys
from toys import assert_same, batch, context, loss_of, network, objective, train, weigh

from fairbench.api import attacks, losses

NEVER = 1000


@pytest.mark.parametrize(
    ("name", "options", "base"),
    [
        ("dafa", {"strength": 0.0, "warmup_epochs": 1}, "trades"),
        ("dafa", {"warmup_epochs": NEVER}, "trades"),
        ("dafa", {"warmup_epochs": 0}, "trades"),
        ("dafa", {"warmup_epochs": 1, "scale_margin": False, "scale_loss": False}, "trades"),
        ("dafa-uniform", {"warmup_epochs": NEVER}, "trades"),
        ("trix", {"mix_start_epoch": NEVER, "warmup_epochs": NEVER}, "trades"),
        ("trix-basic", {"mix_start_epoch": NEVER, "warmup_epochs": 1}, "trades"),
        ("trix", {"strength": 0.0, "warmup_epochs": 1}, "trix-basic"),
        ("trix", {"warmup_epochs": NEVER}, "trix-basic"),
        ("trix-uniform", {"warmup_epochs": NEVER}, "trix-basic"),
        ("faal", {"tau": 0.0, "clean_forward": False}, "pgd-at"),
        ("faal", {"tau": 0.0, "base": "trades"}, "trades"),
        ("faal", {"tau": 0.0, "base": "mart", "beta": 5.0}, "mart"),
        ("cfol-reweight", {"eta": 0.0}, "pgd-at"),
        ("cfol-reweight", {"gamma": 1.0}, "pgd-at"),
    ],
)
def test_neutral_settings_equal_the_base_bit_for_bit(name, options, base):
    assert_same(train(objective(name, **options)), train(objective(base)))


@pytest.mark.parametrize("base", ["trades", "trix-basic"])
def test_the_weights_are_not_neutral_by_accident(base):
    active = objective("dafa" if base == "trades" else "trix", warmup_epochs=1)
    found = train(active)
    assert not torch.equal(active.state.weight, torch.ones(4, dtype=torch.float64))
    assert not torch.equal(found["fc.weight"], train(objective(base))["fc.weight"])


def test_untargeted_trix_with_dafas_weights_equals_dafa_bit_for_bit():
    options = {"warmup_epochs": 1}
    assert_same(
        train(objective("trix", mix_start_epoch=NEVER, **options)), train(objective("dafa", **options))
    )


def test_trix_with_all_samples_targeted_equals_targeted_trades():
    trix, targeted = objective("trix"), objective("targeted-trades")
    trix.targeted = lambda clean, y, ctx: torch.ones_like(y, dtype=torch.bool)
    given, model = batch(), network()
    found = [toys.adversary(method, model, given, context()) for method in (trix, targeted)]
    assert torch.equal(*found)


@pytest.mark.parametrize("base", ["dafa", "trix"])
def test_uniform_variant_keeps_the_margin_and_drops_only_the_loss_weights(base):
    weight = (0.5, 1.5, 0.8, 1.2)
    full, uniform = weigh(objective(base), *weight), weigh(objective(f"{base}-uniform"), *weight)
    given, model = batch(), network()
    radius = [method.budget(given.y, context()) for method in (full, uniform)]
    assert torch.equal(radius[0].eps, radius[1].eps)
    x_adv = [
        toys.adversary(m, model, given, context(budget=b))
        for m, b in zip((full, uniform), radius, strict=True)
    ]
    assert torch.equal(*x_adv)
    weighted, plain = (loss_of(method, model, given, x_adv[0]) for method in (full, uniform))
    assert torch.equal(weighted.terms["clean"], plain.terms["clean"])
    assert torch.equal(weighted.reduced()["robust"], plain.reduced()["robust"])
    assert torch.equal(weighted.weight["clean"], full.state.weight[given.y])
    assert plain.weight == {}


@pytest.mark.parametrize("name", ["trades", "targeted-trades", "dafa", "trix"])
def test_beta_zero_is_the_mean_clean_cross_entropy(name):
    given, model = batch(), network()
    terms = loss_of(objective(name, beta=0.0), model, given, given.x)
    clean = losses.cross_entropy(model(given.x), given.y)
    torch.testing.assert_close(terms.total(), clean.mean(), rtol=1e-6, atol=0)


def test_loss_weights_times_a_constant_scale_the_cross_entropy_and_leave_the_kl():
    given, model = batch(), network()
    x_adv = toys.adversary(objective("trades"), model, given, context())
    once, thrice = (
        loss_of(weigh(objective("trix"), *(k * w for w in (0.5, 1.5, 0.8, 1.2))), model, given, x_adv)
        for k in (1.0, 3.0)
    )
    torch.testing.assert_close(thrice.reduced()["clean"], 3 * once.reduced()["clean"])
    assert torch.equal(thrice.reduced()["robust"], once.reduced()["robust"])


def test_pgd_at_with_radius_zero_is_training_on_clean_images():
    given, model = batch(), network()
    ctx = context(budget=attacks.Budget(0.0, 0.01, 3))
    pgd_at = objective("pgd-at")
    x_adv = toys.adversary(pgd_at, model, given, ctx)
    assert torch.equal(x_adv, given.x)
    clean = losses.cross_entropy(model(given.x), given.y).mean()
    assert torch.equal(loss_of(pgd_at, model, given, x_adv).total(), clean)


@pytest.mark.parametrize("name", ["dafa", "trix"])
def test_weights_are_one_in_the_warm_up_epoch_and_fixed_after_it(name):
    method = objective(name, warmup_epochs=2)
    table, other = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.05, 0.15, 0.8]]), torch.eye(3)
    method = weigh(method, 1.0, 1.0, 1.0)
    seen = []
    for epoch, similarity in enumerate((other, table, other), 1):
        logged = {}
        method.on_epoch_end(toys.stats(similarity), context(epoch, logged=logged))
        seen.append(logged["weight"].tolist())
    assert seen[0] == [1, 1, 1]
    assert seen[1] == pytest.approx([1.37, 0.95, 0.68])
    assert seen[2] == seen[1]
