"""Images drawn class by class: by the shares, among the images to train on, and the same after a stop."""

from dataclasses import dataclass

import pytest
import torch
import toys
from toy_training import COMPONENTS, Asks, Repeats, half_kept, listening, rows, trainer, weights

from fairbench.api import Needs
from fairbench.attacks.draws import Draws
from fairbench.core import stopping
from fairbench.core.errors import ContractError
from fairbench.data.augment import AutoAugment, Mixup
from fairbench.data.stream import CropFlip, EpochStream
from fairbench.training import cuda_graphs
from fairbench.training.class_sampling import ClassSampler
from fairbench.training.cuda_graphs import GraphedSteps

Cfol = toys.plugin("cfol")


class Sensitive(Cfol):
    """CFOL with steps of the bandit that show after a few images."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Cfol.Config):
        eta: float = 0.02
        eta_images: int = 0


def stream(count=60, batch_size=10, **options):
    return EpochStream(
        toys.images(count),
        seed=0,
        epoch=1,
        batch_size=batch_size,
        augmentation=CropFlip(crop_padding=1, flip=True),
        **options,
    )


def chosen(sampler, share, steps=6):
    """All images of an epoch, drawn with the same shares."""
    for i in range(steps):
        sampler.choose(i, torch.tensor(share), Draws(i, toys.CPU))
    return sampler.order


def test_classes_come_by_their_shares_and_images_of_a_class_alike():
    images = toys.images(60)
    sampler = ClassSampler(stream(batch_size=6000))
    sampler.order = sampler.stream.order_on_device = torch.zeros(6000, dtype=torch.int64)
    index = chosen(sampler, [5.0, 1.0, 0.0, 4.0], steps=1)
    share = torch.bincount(images.labels[index], minlength=4) / 6000
    torch.testing.assert_close(share, torch.tensor([0.5, 0.1, 0.0, 0.4]), rtol=0, atol=0.02)
    of_first = torch.bincount(index, minlength=60)[images.labels == 0].float()
    assert of_first.min() > 150  # 3000 draws among 15 images: 200 each, plus or minus 14
    assert of_first.max() < 250


def test_held_out_images_and_classes_without_images_are_never_drawn():
    images = toys.images(60)
    keep = half_kept(images) & (images.labels != 3)
    given = stream(keep=keep)
    index = chosen(ClassSampler(given), [1.0, 1.0, 1.0, 100.0], steps=len(given))
    assert keep[index].all()
    assert set(images.labels[index].tolist()) == {0, 1, 2}
    assert len(index) == int(keep.sum())


def test_a_batch_holds_the_chosen_images_with_the_crops_of_its_place():
    given, plain = stream(), stream()
    sampler = ClassSampler(given)
    sampler.choose(2, torch.ones(4), Draws(0, toys.CPU))
    batch = given.batch(2)
    assert torch.equal(batch.index, sampler.order[20:30])
    assert torch.equal(batch.y, given.images.labels[batch.index])
    assert torch.equal(given.batch(1).x, plain.batch(1).x)  # another batch is as it was
    same = stream()
    same.replace(2, same.order[20:30])
    assert torch.equal(same.batch(2).x, plain.batch(2).x)


def test_the_digest_is_that_of_the_images_that_were_drawn():
    one, other = stream(), stream()
    assert not one.replaced
    for given, share in ((one, [1.0] * 4), (other, [1.0, 2.0, 3.0, 4.0])):
        chosen(ClassSampler(given), share)
    assert len({one.digest, other.digest, stream().digest}) == 3
    again = stream()
    chosen(ClassSampler(again), [1.0] * 4)
    assert again.digest == one.digest


def test_partners_of_mixed_images_are_those_of_the_drawn_batch():
    given = stream(augment=Mixup(1.0))
    sampler = ClassSampler(given)
    for i in range(6):
        sampler.choose(i, torch.tensor([1.0, 0.0, 0.0, 1.0]), Draws(i, toys.CPU))
        batch = given.batch(i)
        assert sorted(batch.y2.tolist()) == sorted(batch.y.tolist())
        assert set(batch.y.tolist()) <= {0, 3}


def test_learned_operations_are_applied_to_the_drawn_images():
    """Which are computed for many batches at once, but not when these are not known yet."""
    plain, same, drawn = (stream(augment=AutoAugment()) for _ in range(3))
    sampler = ClassSampler(drawn)
    for i in range(6):
        same.replace(i, same.order[10 * i : 10 * i + 10])
        assert torch.equal(same.batch(i).x, plain.batch(i).x)
        before = drawn.batch(i).x
        sampler.choose(i, torch.ones(4), Draws(i, toys.CPU))
        assert not torch.equal(drawn.batch(i).x, before)


# In training


@pytest.mark.parametrize("chosen", [None, *COMPONENTS])
def test_a_run_stopped_inside_an_epoch_continues_with_the_same_images(tmp_path, chosen):
    def run(folder, listener=None):
        return trainer(
            folder,
            listener=listener,
            method=toys.configured(Sensitive),
            images=toys.images(48),
            components=COMPONENTS.get(chosen),
        )

    run(tmp_path / "whole").run()
    with listening(), pytest.raises(stopping.Stopped):
        run(tmp_path / "cut", Asks(2, 2)).run()
    run(tmp_path / "cut").run()
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")  # digests of the streams, logged shares
    toys.assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_captured_steps_draw_with_the_state_that_they_left(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "WORTH_CAPTURING", 3)
    for folder, graphs in (("plain", None), ("graphs", Repeats())):
        found = trainer(tmp_path / folder, method=toys.configured(Sensitive), images=toys.images(80))
        if graphs is not None:
            found.steps.graphed = GraphedSteps(graphs, found.protocol.batch_size)
        found.run()
    assert graphs.replayed
    assert found.steps.fallback_reasons == []
    assert rows(tmp_path / "plain") == rows(tmp_path / "graphs")


def test_each_batch_is_drawn_with_the_weights_of_the_step_before(tmp_path):
    """Replaying the hooks with the images of the run gives its shares."""
    drawn = []

    class Watched(Sensitive):
        def class_share(self, ctx):
            share = super().class_share(ctx)
            if ctx.step < ctx.num_steps:
                drawn.append((ctx.epoch, ctx.step, self.state.log_weight.clone(), share))
            return share

    trainer(tmp_path, method=toys.configured(Watched), images=toys.images(48)).run()
    weights_seen = [weight for _, _, weight, _ in drawn]
    assert not torch.equal(weights_seen[0], weights_seen[-1])
    assert {step for _, step, _, _ in drawn} == set(range(5))


def test_a_method_without_a_need_keeps_the_stream_of_the_seed(tmp_path):
    for name in ("trades", "cfol-reweight", "cfol"):
        trainer(tmp_path / name, name).run()
    streams = {name: [row["stream"] for row in rows(tmp_path / name)] for name in ("trades", "cfol-reweight")}
    assert streams["trades"] == streams["cfol-reweight"]
    assert rows(tmp_path / "cfol")[0]["stream"] != streams["trades"][0]


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (torch.ones(3), r"class_share\(\) has shape \(3,\)"),
        (torch.zeros(4), r"class_share\(\) returned \[0\.0, 0\.0, 0\.0, 0\.0\]"),
        (torch.tensor([1.0, -1.0, 1.0, 1.0]), r"returned \[1\.0, -1\.0"),
        (torch.tensor([1.0, torch.nan, 1.0, 1.0]), "returned"),
    ],
)
def test_shares_that_cannot_be_are_refused_at_the_first_step(tmp_path, share, message):
    class Wrong(Cfol):
        def class_share(self, ctx):
            return share

    with pytest.raises(ContractError, match=message):
        trainer(tmp_path, method=toys.configured(Wrong)).run()


def test_a_need_without_the_call_is_refused(tmp_path):
    class Mute(toys.plugin("trades")):
        needs = Needs(sampling="classes")

    with pytest.raises(ContractError, match=r"does not define class_share\(\)"):
        trainer(tmp_path, method=toys.configured(Mute)).run()
