"""The stream of one epoch: the same for all methods, and exactly pad, crop, flip."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fairbench.core.errors import ConfigError, DataError
from fairbench.data.images import ImageSet, to_unit
from fairbench.data.stream import CropFlip, EpochStream, crop_and_flip

FULL = CropFlip(crop_padding=2, padding="zero", flip=True)


def toy_images(count=23, channels=3, height=6, width=7):
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, channels, height, width), generator=rng, dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 4, 4, tuple("abcd"))


def stream(images=None, *, seed=1, epoch=1, batch_size=5, augmentation=FULL, **options):
    return EpochStream(
        toy_images() if images is None else images,
        seed=seed,
        epoch=epoch,
        batch_size=batch_size,
        augmentation=augmentation,
        **options,
    )


def test_same_seed_and_epoch_give_the_same_digest_and_batches():
    one, two = stream(), stream()
    assert one.digest == two.digest
    assert len(one.digest) == 32
    assert all(torch.equal(a.x, b.x) and torch.equal(a.index, b.index) for a, b in zip(one, two, strict=True))


def test_digest_depends_on_seed_epoch_and_augmentation_but_not_on_pixels_or_batch_size():
    digests = {stream().digest, stream(seed=2).digest, stream(epoch=2).digest}
    digests.add(stream(augmentation=CropFlip(crop_padding=2)).digest)
    digests.add(stream(augmentation=CropFlip()).digest)
    assert len(digests) == 5
    assert stream(toy_images(channels=1)).digest == stream().digest == stream(batch_size=23).digest


def test_batches_of_an_epoch_are_a_permutation_with_a_smaller_last_one():
    batches = list(stream())
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert len(stream()) == 5
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(23))


def test_last_batch_of_one_image_is_kept():
    assert [len(batch) for batch in stream(batch_size=11)] == [11, 11, 1]


def test_labels_belong_to_the_images_that_index_names():
    images = toy_images()
    for batch in stream(images, augmentation=CropFlip()):
        assert torch.equal(batch.y, images.labels[batch.index])
        assert torch.equal(batch.x, to_unit(images.images[batch.index]))


def naive(image, offset, flip, padding, mode):
    """Pad, cut, flip: one image (channels, H, W) uint8."""
    _, height, width = image.shape
    options = {"mode": "reflect"} if mode == "reflect" else {}
    padded = F.pad(image[None].float(), [padding] * 4, **options)[0]
    row, column = offset.tolist()
    cut = padded[:, row : row + height, column : column + width]
    return (cut.flip(2) if flip else cut).to(torch.uint8)


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_equals_padding_then_cropping_then_flipping(mode, padding, flip):
    images = toy_images(40)
    augmentation = CropFlip(crop_padding=padding, padding=mode, flip=flip)
    epoch = stream(images, batch_size=40, augmentation=augmentation)
    batch = epoch.batch(0)
    for k in range(40):
        one = naive(images.images[batch.index[k]], epoch.offset[k], epoch.flip[k], padding, mode)
        assert torch.equal(batch.x[k], to_unit(one))


def test_draws_cover_all_offsets_and_about_half_the_flips():
    epoch = stream(toy_images(2000, 1, 5, 5), augmentation=CropFlip(crop_padding=4, flip=True))
    assert epoch.offset.unique().tolist() == list(range(9))
    assert 0.45 < epoch.flip.float().mean() < 0.55
    correlation = np.corrcoef(np.stack([*epoch.offset.T.numpy(), epoch.flip.numpy()]))
    assert np.abs(correlation - np.eye(3)).max() < 0.1


def test_keep_leaves_order_and_draws_of_the_others_alone():
    keep = torch.ones(23, dtype=torch.bool)
    keep[[0, 7, 22]] = False
    whole, part = stream(), stream(keep=keep)
    kept = keep[whole.order]
    assert torch.equal(part.order, whole.order[kept])
    assert torch.equal(part.offset, whole.offset[kept])
    assert torch.equal(part.flip, whole.flip[kept])
    seen = {int(i): x for batch in whole for i, x in zip(batch.index, batch.x, strict=True)}
    for batch in part:
        assert all(torch.equal(seen[int(i)], x) for i, x in zip(batch.index, batch.x, strict=True))
    assert part.digest != whole.digest
    assert stream(keep=torch.ones(23, dtype=torch.bool)).digest == whole.digest


def test_draws_do_not_depend_on_the_device_of_the_images():
    images = toy_images()
    elsewhere = stream(images.to("meta"))
    assert elsewhere.order.device.type == "cpu"
    assert elsewhere.on_device[0].device.type == "meta"
    assert elsewhere.digest == stream(images).digest


@pytest.mark.gpu
@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_batches_on_an_accelerator_equal_those_on_the_cpu(padding):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    images = toy_images()
    augmentation = CropFlip(crop_padding=2, padding=padding, flip=True)
    here = stream(images, augmentation=augmentation)
    there = stream(images.to("cuda"), augmentation=augmentation)
    for one, two in zip(here, there, strict=True):
        assert two.x.device.type == "cuda"
        assert torch.equal(one.x, two.x.cpu())


def test_stream_touches_no_global_generator():
    before = torch.get_rng_state()
    list(stream())
    assert torch.equal(before, torch.get_rng_state())


def test_dtype_of_the_batches_is_the_one_asked_for():
    batch = stream(dtype=torch.float64).batch(0)
    assert batch.x.dtype == torch.float64
    assert batch.x.min() >= 0
    assert batch.x.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit_images_are_exactly_the_pixel_over_255(dtype):
    pixels = torch.arange(256, dtype=torch.uint8)
    exact = np.arange(256, dtype=torch.empty(0, dtype=dtype).numpy().dtype) / 255
    assert np.array_equal(to_unit(pixels, dtype).numpy(), exact.astype(exact.dtype))
    assert torch.equal(to_unit(pixels, dtype), torch.arange(256).to(dtype).div(255))


def test_no_augmentation_returns_the_same_pixels():
    images = toy_images().images
    none = torch.zeros(23, 2, dtype=torch.int64), torch.zeros(23, dtype=torch.bool)
    assert crop_and_flip(images, *none, CropFlip()) is images


def test_bad_options_are_refused():
    with pytest.raises(ConfigError, match="crop_padding is -1"):
        CropFlip(crop_padding=-1)
    with pytest.raises(ConfigError, match="padding is 'edge'"):
        CropFlip(padding="edge")
    with pytest.raises(ConfigError, match="too large to reflect 6x7"):
        stream(augmentation=CropFlip(crop_padding=6, padding="reflect"))
    with pytest.raises(ConfigError, match="batch_size is 0"):
        stream(batch_size=0)
    with pytest.raises(DataError, match="expected a bool mask"):
        stream(keep=torch.ones(22, dtype=torch.bool))
    with pytest.raises(DataError, match="leaves no image"):
        stream(keep=torch.zeros(23, dtype=torch.bool))
    with pytest.raises(IndexError):
        stream().batch(5)
