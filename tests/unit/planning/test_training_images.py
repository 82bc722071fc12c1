"""The images of an epoch are counted without torch, and what they make impossible is refused."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import ConfigError
from fairbench.data.holdout import training_mask
from fairbench.planning import training_images
from fairbench.planning.plan import make_plan
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection
from fairbench.registry import load_registry
from fairbench.runner.builders import load_split

REGISTRY = load_registry()


def cells(**overrides):
    selection = Selection(methods=("trades",), seeds=(3,), overrides=overrides)
    return resolve(selection, REGISTRY, Path("nowhere"))[0]


@given(
    st.none() | st.integers(2, 200),
    st.none() | st.fractions(0, 1).filter(lambda share: 0 < share < 1),
    st.integers(1, 20),
)
@settings(max_examples=25, deadline=None)
def test_the_images_of_an_epoch_are_those_of_the_training(per_class, share, least):
    overrides = {}
    if per_class is not None:
        overrides["protocol"] = {"subset": {"train_per_class": per_class, "test_per_class": 1}}
    if share is not None:
        overrides["methods.trades"] = {"hold_out.share": float(share), "hold_out.min_per_class": least}
    (cell,) = cells(**overrides)
    train, _ = load_split(cell, "train", torch.device("cpu"))
    count = len(train)
    if share is not None:
        kept = training_mask(
            train.labels, 10, share=float(share), min_per_class=least, pick="seeded", seed=cell.seed
        )
        count = int(kept.sum())
    assert training_images.trained_images(cell) == count


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            {
                "protocol": {"subset": {"train_per_class": 1, "test_per_class": 1}},
                "methods.trades": {"hold_out": 0.1},
            },
            "class 0 of digits has 1 training images",
        ),
        ({"protocol": {"augmentation.crop_padding": 8, "augmentation.padding": "reflect"}}, "8x8 images"),
    ],
)
def test_what_the_images_make_impossible_is_refused_by_a_plan(tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        make_plan(cells(**overrides), REGISTRY, tmp_path, tmp_path)


@pytest.mark.parametrize(("size", "single"), [(97, True), (13, True), (98, False), (1262, False)])
def test_a_plan_says_that_the_last_batch_has_one_image(tmp_path, size, single):
    plan = make_plan(cells(protocol={"batch_size": size}), REGISTRY, tmp_path, tmp_path)
    assert any("has one image" in note for note in plan.notes) == single
    assert bool(plan.doubtful) == single
