"""The benchmark: a reference with our mathematics, honest counts, and a table that can be read."""

import dataclasses
import json

import pytest
import torch
import toys
from click.testing import CliRunner

from fairbench.attacks.draws import Draws
from fairbench.cli.main import cli
from fairbench.core.errors import ConfigError
from fairbench.registry import load_registry
from fairbench.speed import limits
from fairbench.speed import run as run_module
from fairbench.speed.limits import forward_operations, operations
from fairbench.speed.measure import PartClock, forward_equivalents, ratio
from fairbench.speed.reference import Images, PlainLoop
from fairbench.speed.timed_training import TimedSetting
from fairbench.training.step import training_step

REGISTRY = load_registry()
CPU = torch.device("cpu")


class Given(Draws):
    """The draws of the plain loop."""

    def __init__(self, noise, target):
        self.noise, self.target = noise, target

    def normal(self, like):
        return self.noise

    def other_class(self, label, num_classes):
        return self.target


@pytest.mark.parametrize("name", ["trades", "trix"])
def test_the_plain_loop_and_the_house_make_the_same_step(name):
    method = toys.objective(name, 4)
    given = toys.batch(12)
    x, rng = given.x.double(), torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, generator=rng, dtype=torch.float64)
    target = (given.y + 1 + torch.randint(3, given.y.shape, generator=rng)) % 4
    ours, plain = toys.network(4).double(), toys.network(4).double()
    ctx = toys.context(draws=lambda seed: Given(noise, target))
    optimizer, totals = toys.sgd(ours), toys.totals(method)
    batch = type(given)(x, given.y, given.index)
    seen = []
    perturb = method.perturb
    method.perturb = lambda *arguments: seen.append(perturb(*arguments)) or seen[-1]
    loss = training_step(ours, method, optimizer, batch, ctx, totals)
    loop = PlainLoop(
        name,
        plain,
        toys.sgd(plain),
        Images(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4), padding=0, flip=False),
        batch_size=4,
        num_classes=4,
        budget=ctx.budget,
        device=CPU,
    )
    x_adv = loop.attack(x, given.y, noise, target)
    torch.testing.assert_close(x_adv, seen[0], rtol=0, atol=1e-12)
    assert loop.update(x, given.y, x_adv) == pytest.approx(float(loss), rel=1e-12)
    for one, other in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    stats = totals.stats()
    for ours_rate, hits in ((stats.clean_accuracy, loop.correct), (stats.robust_accuracy, loop.robust)):
        assert (ours_rate * stats.count).round().tolist() == hits


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch):
    monkeypatch.setitem(limits.SIZES, "cpu", 64)


def place(**changes):
    protocol = REGISTRY.protocol_for("trix-150", "trades").model_copy(update=changes)
    return TimedSetting(REGISTRY, "digits", "cnn-small", protocol, CPU)


@pytest.mark.parametrize(
    ("method", "passes"), [("pgd-at", 10 * 2 + 3), ("trades", 10 * 2 + 1 + 6), ("trix", 10 * 2 + 1 + 6)]
)
def test_a_step_is_counted_in_forward_passes(method, passes):
    per_image, equivalents = forward_equivalents(place(), method)
    # The gradient with respect to the images is not needed in the outer step, so that is a little less.
    assert passes - 0.5 < equivalents <= passes
    network = place().network()
    assert per_image == pytest.approx(equivalents * forward_operations(network, torch.rand(1, 1, 8, 8)))


def test_operations_are_twice_the_multiplications():
    one, other = torch.rand(3, 5), torch.rand(5, 7)
    assert operations(lambda: one @ other) == 2 * 3 * 5 * 7
    conv = torch.nn.Conv2d(2, 4, 3, padding=1, bias=False)
    assert operations(lambda: conv(torch.rand(1, 2, 8, 8))) == 2 * 2 * 4 * 9 * 64


def test_a_ratio_is_of_medians_and_its_range_of_rounds():
    assert ratio([4, 6, 9], [2, 2, 1]) == (3, 2, 9)


def test_the_clock_of_the_parts_leaves_out_what_is_before_the_first_mark():
    clock = PartClock(CPU)
    clock("data")
    clock("attack")
    assert clock.seconds["data"] == 0
    assert clock.seconds["attack"] > 0
    assert sum(clock.shares().values()) == pytest.approx(1)


SMALL = ["bench", "--dataset", "digits", "--models", "cnn-small", "--protocol", "quickstart"]
SMALL += ["--batch-size", "8", "--seconds", "0.01", "--rounds", "1"]


def test_the_table_has_a_row_for_each_method_and_what_was_asked_for_besides(tmp_path):
    output = tmp_path / "bench.txt"
    options = ["--methods", "trix,wat", "--ablate", "--profile"]
    found = CliRunner().invoke(cli, [*SMALL, *options, "--output", str(output)])
    assert found.exit_code == 0, found.output
    text = output.read_text()
    assert text in found.output
    rows = [line.split()[:3] for line in text.splitlines() if " cnn-small " in line]
    assert rows[:3] == [[method, "cnn-small", "torch"] for method in ("trades", "trix", "wat")]
    for line in ("everything on", "without folded", "plain"):
        assert any(row.startswith(line) for row in text.splitlines())
    assert "self_cpu_time_total" in text


def test_json_has_the_numbers():
    options = ["--methods", "trades", "--precisions", "bf16", "--json"]
    found = CliRunner().invoke(cli, [*SMALL, *options])
    (row,) = json.loads(found.stdout)["rows"]
    assert row["precision"] == "bf16"
    assert row["x trades"] == 1
    assert row["x reference"] > 0
    assert sum(row[part] for part in ("data", "attack", "outer", "bookkeeping")) == pytest.approx(1)
    assert row["images/s"] == pytest.approx(8000 / row["ms/step"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--precisions", "fp16"], "no precision called 'fp16'"),
        (["--precisions", "tf32"], "tf32 is for NVIDIA GPUs"),
        (["--methods", "trixx"], "trixx"),
        (["--models", "resnet19"], "resnet19"),
        (["--dataset", "cifar11"], "cifar11"),
        (["--protocol", "trix-15"], "trix-15"),
    ],
)
def test_a_mistake_is_told(options, says):
    found = CliRunner().invoke(cli, [*SMALL, *options])
    assert says in str(found.exception)
    assert getattr(found.exception, "exit_code", None) in (2, 3)


def test_a_network_that_does_not_fit_is_told():
    with pytest.raises(ConfigError, match="resnet18 cannot take images of 8x8"):
        forward_equivalents(dataclasses.replace(place(), model="resnet18"), "trades")


def test_who_is_cut_off_keeps_what_was_measured(tmp_path, monkeypatch):
    output, rows = tmp_path / "bench.txt", run_module._row

    def once(place, method, *further):
        if method == "trix":
            raise KeyboardInterrupt
        return rows(place, method, *further)

    monkeypatch.setattr(run_module, "_row", once)
    found = CliRunner().invoke(cli, [*SMALL, "--methods", "trix", "--no-reference", "--output", str(output)])
    assert output.read_text() in found.output
    assert "trades  cnn-small  torch" in output.read_text()
