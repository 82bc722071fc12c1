"""Validation on the images to train on, with tables: one pass an epoch, none when an epoch continues."""

from dataclasses import dataclass

import pytest
import toys
from torch import Tensor
from toy_training import Asks, listening, rows, trainer, weights

from fairbench.api import Needs, per_class_pair
from fairbench.core import stopping
from fairbench.core.errors import ContractError
from fairbench.registry.components import Augment

Trades = toys.plugin("trades")


class Confused(Trades):
    """Keeps the robust confusion of the training images at the start of each epoch, and trains with it."""

    needs = Needs(validation="start", validation_on="training", validation_stats={"robust_confusion"})

    @dataclass
    class State:
        table: Tensor = per_class_pair(0.0)

    def on_validation(self, stats, ctx):
        self.state.table = stats.robust_confusion
        ctx.log("confusion", stats.robust_confusion.flatten())
        ctx.log("count", stats.count)
        assert stats.robust_probability.numel() == 0

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        terms.weight = {"clean": 1 + self.state.table[batch.y].amax(1) / 10}
        return terms


@pytest.mark.parametrize("components", [{}, {"augment": Augment(kind="mixup")}])
def test_every_training_image_counts_once_and_a_stopped_epoch_does_no_second_pass(tmp_path, components):
    passes = []

    class Counted(Confused):
        def validate(self, model, batch, ctx):
            assert batch.y2 is None
            passes.append(len(batch))
            return super().validate(model, batch, ctx)

    def run(name, listener=None):
        method = toys.configured(Counted)
        return trainer(
            tmp_path / name, method=method, listener=listener, components={"keep": None, **components}
        )

    run("whole").run()
    assert sum(passes) == 4 * 24
    for row in rows(tmp_path / "whole"):
        assert row["logged"]["count"] == [6, 6, 6, 6]
        assert sum(row["logged"]["confusion"]) == 24
    passes.clear()
    with listening(), pytest.raises(stopping.Stopped):
        run("cut", Asks(2, 1)).run()
    run("cut").run()
    assert sum(passes) == 4 * 24
    toys.assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")


def test_unknown_tables_are_refused():
    with pytest.raises(ContractError, match="there is no table 'confusion'"):
        Needs(validation="start", validation_stats={"confusion"})
