"""AutoAugment, Cutout, Mixup and CutMix: what they do to images, and where their draws come from."""

import numpy as np
import pytest
import torch
from torchvision.transforms import AutoAugment as Reference
from torchvision.transforms import AutoAugmentPolicy

from fairbench.core.errors import ConfigError
from fairbench.core.seeds import derive_seed
from fairbench.data.augment import AutoAugment, CutMix, Cutout, Mixup, build_augmentation, squares
from fairbench.data.batch import Batch
from fairbench.data.images import ImageSet, to_unit
from fairbench.data.stream import CropFlip, EpochStream

CROP = CropFlip(crop_padding=2, flip=True)
KINDS = {
    "autoaugment": AutoAugment(),
    "cutout": Cutout(5),
    "mixup": Mixup(1.4),
    "cutmix": CutMix(1.0),
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def toy_images(count=23, channels=3, height=12, width=10):
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, channels, height, width), generator=rng, dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 4, 4, tuple("abcd"))


def stream(kind, images=None, *, seed=1, epoch=1, batch_size=5, augmentation=CROP, **options):
    return EpochStream(
        toy_images() if images is None else images,
        seed=seed,
        epoch=epoch,
        batch_size=batch_size,
        augmentation=augmentation,
        augment=KINDS[kind] if isinstance(kind, str) else kind,
        **options,
    )


def same(one, other):
    return all(
        torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and torch.equal(a.index, b.index)
        for a, b in zip(one, other, strict=True)
    )


def seed_of(purpose):
    return derive_seed(1, "data", 1, purpose)


# Every kind


@EVERY_KIND
def test_a_seed_repeats_and_other_seeds_and_epochs_differ(kind):
    assert same(stream(kind), stream(kind))
    assert stream(kind).digest == stream(kind).digest
    assert len({stream(kind).digest, stream(kind, seed=2).digest, stream(kind, epoch=2).digest}) == 3
    for other in (stream(kind, seed=2), stream(kind, epoch=2)):
        assert any((a != b).any() for a, b in zip(stream(kind).drawn, other.drawn, strict=True))


@EVERY_KIND
def test_the_digest_covers_the_draws_and_is_the_old_one_without_an_augmentation(kind):
    plain = stream(None)
    assert plain.digest == "f763baff7d7b78e7cc0bfd6e3acf105e"  # recorded before there were augmentations
    assert stream(kind).digest != plain.digest
    for part in ("order", "offset", "flip"):
        assert torch.equal(getattr(stream(kind), part), getattr(plain, part))
    changed = stream(kind)
    changed.drawn = (changed.drawn[0].flip(0), *changed.drawn[1:])
    assert changed.digest != stream(kind).digest


@EVERY_KIND
def test_images_stay_in_the_unit_range_and_labels_with_their_images(kind):
    images = toy_images()
    for batch in stream(kind, images):
        assert batch.x.dtype == torch.float32
        assert 0 <= batch.x.min() <= batch.x.max() <= 1
        assert torch.equal(batch.y, images.labels[batch.index])


@EVERY_KIND
def test_a_batch_can_be_asked_for_in_any_order(kind):
    whole, one = list(stream(kind)), stream(kind)
    for i in (3, 0, 4, 1):
        assert torch.equal(one.batch(i).x, whole[i].x)


@EVERY_KIND
def test_no_global_generator_is_touched(kind):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(stream(kind))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])


@EVERY_KIND
def test_held_out_images_leave_the_draws_of_the_others_alone(kind):
    keep = torch.ones(23, dtype=torch.bool)
    keep[[0, 7, 22]] = False
    whole, part = stream(kind), stream(kind, keep=keep)
    for all_draws, kept in zip(whole.drawn, part.drawn, strict=True):
        assert torch.equal(kept, all_draws[keep[whole.order]])
    if kind in ("autoaugment", "cutout"):
        seen = {int(i): x for batch in whole for i, x in zip(batch.index, batch.x, strict=True)}
        for batch in part:
            assert all(torch.equal(seen[int(i)], x) for i, x in zip(batch.index, batch.x, strict=True))


@EVERY_KIND
def test_images_of_one_channel_and_float64_will_do(kind):
    batch = stream(kind, toy_images(channels=1), dtype=torch.float64).batch(0)
    assert batch.x.shape == (5, 1, 12, 10)
    assert batch.x.dtype == torch.float64


@pytest.mark.parametrize(
    ("kind", "options"), [("cutout", {"side": 0}), ("mixup", {"alpha": 0.0}), ("cutmix", {"alpha": 0.0})]
)
def test_zero_switches_off(kind, options):
    assert build_augmentation(kind, **{"policy": None, "side": None, "alpha": None, **options}) is None


# AutoAugment


def test_every_image_gets_what_torchvision_gives_it_alone_with_the_same_draws():
    images, mine = toy_images(300, height=32, width=32), AutoAugment()
    drawn = mine.draw(300, images.image_shape, seed_of)
    found = mine.pixels(images.images, drawn)
    reference = Reference(AutoAugmentPolicy.CIFAR10)
    for k, image in enumerate(images.images):
        reference.get_params = lambda _, k=k: (int(drawn[0][k]), drawn[1][k], drawn[2][k])
        assert torch.equal(reference(image), found[k])
    assert 0.5 < (found != images.images).flatten(1).any(1).float().mean() < 1


def test_draws_are_distributed_as_torchvisions():
    which, chance, sign = AutoAugment().draw(5000, (3, 32, 32), seed_of)
    assert which.bincount().tolist() == pytest.approx([200] * 25, rel=0.3)
    assert chance.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert sign.double().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.03)
    with torch.random.fork_rng(devices=[]):
        one = Reference.get_params(25)
    assert [type(part) for part in one] == [int, torch.Tensor, torch.Tensor]
    assert (one[1].shape, one[2].shape) == (chance[0].shape, sign[0].shape)


def test_policies_differ_and_an_unusual_number_of_channels_is_refused():
    images = toy_images(50, height=32, width=32)
    found = [next(iter(stream(AutoAugment(policy), images))).x for policy in ("cifar10", "svhn")]
    assert not torch.equal(*found)
    with pytest.raises(ConfigError, match="these have 4"):
        stream("autoaugment", toy_images(channels=4))


def test_it_comes_after_crop_and_flip():
    images = toy_images(40, height=32, width=32)
    plain, added = (stream(kind, images, batch_size=40) for kind in (None, "autoaugment"))
    pixels = (plain.batch(0).x * 255).round().to(torch.uint8)
    assert torch.equal(to_unit(AutoAugment().pixels(pixels, added.drawn)), added.batch(0).x)


# Cutout


def naive_square(row, column, side, height, width):
    mask = np.zeros((height, width), dtype=bool)
    top, left = row - side // 2, column - side // 2
    mask[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = True
    return mask


@pytest.mark.parametrize("side", [1, 4, 5, 30])
def test_squares_are_where_their_centres_are_and_cut_off_at_the_edge(side):
    images = torch.ones(120, 3, 12, 10)
    rows, columns = (
        part.flatten() for part in torch.meshgrid(torch.arange(12), torch.arange(10), indexing="ij")
    )
    found = squares((rows, columns), side, images)
    assert found.shape == (120, 1, 12, 10)
    for k in range(120):
        expected = naive_square(int(rows[k]), int(columns[k]), side, 12, 10)
        assert np.array_equal(found[k, 0].numpy(), expected)


def test_a_square_inside_has_side_squared_pixels_and_the_rest_of_the_image_is_left_alone():
    images, side = toy_images(200, height=32, width=32), 14
    plain, cut = (stream(kind, images, batch_size=200).batch(0).x for kind in (None, Cutout(side)))
    epoch = stream(Cutout(side), images, batch_size=200)
    rows, columns = epoch.drawn
    gone = squares((rows, columns), side, cut)
    inside = (rows >= 7) & (rows <= 25) & (columns >= 7) & (columns <= 25)
    assert inside.any()
    assert (gone.sum((1, 2, 3))[inside] == side**2).all()
    assert (gone.sum((1, 2, 3)) >= (side // 2) ** 2).all()
    assert torch.equal(cut, torch.where(gone, torch.zeros(()), plain))
    assert rows.unique().tolist() == columns.unique().tolist() == list(range(32))


# Mixup and CutMix


def batches(kind, images=None, **options):
    """Pairs (plain, mixed) of the same batches."""
    return list(zip(stream(None, images, **options), stream(kind, images, **options), strict=True))


def test_mixup_is_the_mean_of_two_images_of_the_batch_with_one_share():
    shares = []
    for plain, mixed in batches("mixup"):
        lam = mixed.lam
        assert lam.shape == mixed.y.shape
        assert lam.unique().numel() == 1
        assert 0.5 <= lam[0] <= 1
        rank = stream("mixup").drawn[1]
        first = 5 * len(shares)
        other = rank[first : first + 5].argsort()
        expected = lam[0] * plain.x + (1 - lam[0]) * plain.x[other]
        torch.testing.assert_close(mixed.x, expected)
        assert torch.equal(mixed.y2, plain.y[other])
        shares.append(float(lam[0]))
    assert len(set(shares)) == 5  # one for each batch


def test_shares_follow_the_beta_distribution_of_alpha():
    images = toy_images(4000, 1, 4, 4)
    for alpha in (0.2, 1.0, 1.4):
        share, _ = stream(Mixup(alpha), images).drawn
        expected = np.random.default_rng(0).beta(alpha, alpha, 100000)
        assert share.mean() == pytest.approx(np.maximum(expected, 1 - expected).mean(), abs=0.01)
    partners = torch.stack([batch.y2 for batch in stream("mixup", images) if len(batch) == 5])
    assert partners.double().mean() == pytest.approx(1.5, abs=0.05)


def test_a_share_of_one_leaves_images_alone():
    given = Batch(torch.rand(6, 3, 4, 4), torch.arange(6) % 4, torch.arange(6))
    mixed = Mixup(1.0).batch(given, (torch.ones(6, dtype=torch.float64), torch.randperm(6)))
    assert torch.equal(mixed.x, given.x)
    assert mixed.lam.tolist() == [1] * 6


def test_cutmix_takes_every_pixel_from_one_of_both_images_and_counts_the_shares():
    images, swapped = toy_images(100, height=12, width=10), 0
    for number, (plain, mixed) in enumerate(batches("cutmix", images, batch_size=10)):
        other = stream("cutmix", images).drawn[1][10 * number : 10 * number + 10].argsort()
        mine, theirs = mixed.x == plain.x, mixed.x == plain.x[other]
        assert (mine | theirs).all()
        assert torch.equal(mixed.y2, plain.y[other])
        assert mixed.lam.unique().numel() == 1
        lam = float(mixed.lam[0])
        assert 0.5 <= lam <= 1
        apart = (plain.x != plain.x[other]).all(1)  # pixels that tell which image they are from
        kept = mine.all(1)[apart].double().mean()
        assert kept == pytest.approx(lam, abs=0.1)
        swapped += float(stream("cutmix", images).drawn[0][10 * number]) < 0.5
    assert swapped


def test_a_batch_of_one_image_is_mixed_with_itself():
    for kind in ("mixup", "cutmix"):
        (plain, mixed) = batches(kind, toy_images(1))[0]
        assert torch.equal(plain.x, mixed.x)
        assert torch.equal(mixed.y, mixed.y2)


def test_mixing_never_waits_for_the_device():
    from fairbench.testing.device_laws import Operations

    for kind in ("cutout", "mixup", "cutmix"):
        given = stream(kind)
        given.batch(0)
        with Operations() as seen:
            given.batch(1)
        assert seen.waiting == []
