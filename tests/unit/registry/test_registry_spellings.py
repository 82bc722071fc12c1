"""The spellings that people write in registry files: numbers in quotes, norms, ranges of seeds, patterns."""

import pytest

from fairbench.core.errors import ConfigError
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import parse_selection
from fairbench.registry import load_registry

PROTOCOL = "version: 1\nprotocols:\n  p: {{extends: quickstart, version: 1, source: none, {}}}\n"


@pytest.mark.parametrize(
    ("settings", "path", "value"),
    [
        ("optimizer: {lr: '1e-3'}", "optimizer.lr", 1e-3),
        ("optimizer: {lr: '.05'}", "optimizer.lr", 0.05),
        ("threat: {eps: '8/255'}", "threat.eps", 8 / 255),
        ("batch_size: '32'", "batch_size", 32),
        ("epochs: '6'", "epochs", 6),
        *(
            (f"threat: {{norm: {norm}}}", "threat.norm", "linf")
            for norm in ("Linf", "LINF", "l_inf", "L-inf", "L∞", "inf", "l_infty", "L_infinity")
        ),
    ],
)
def test_values_may_be_written_as_people_write_them(tmp_path, settings, path, value):
    file = tmp_path / "r.yaml"
    file.write_text(PROTOCOL.format(settings))
    found = load_registry([file]).get("protocol", "p")
    for key in path.split("."):
        found = getattr(found, key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("norm", "read"), [("L2", "l2"), ("l_2", "l2"), ("2", "l2"), ("L_inf", "linf")])
def test_the_norm_of_an_attack_too(tmp_path, norm, read):
    file = tmp_path / "r.yaml"
    file.write_text(
        f"version: 1\nattacks: {{a: {{kind: pgd, norm: '{norm}', eps: 0.5, step_size: 0.1, num_steps: 2}}}}\n"
    )
    assert load_registry([file]).get("attack", "a").norm == read


@pytest.mark.parametrize("norm", ["L1", "Linfx", "l", "8"])
def test_another_norm_is_refused(tmp_path, norm):
    file = tmp_path / "r.yaml"
    file.write_text(PROTOCOL.format(f"threat: {{norm: {norm}}}"))
    with pytest.raises(ConfigError, match=r"threat\.norm"):
        load_registry([file])


SUITE = (
    "version: 1\nsuites:\n  s: {{methods: {}, datasets: {}, models: {}, seeds: {}, protocol: quickstart}}\n"
)


def test_a_suite_is_written_as_on_the_command_line(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(SUITE.format("'trix-*,-trix-m*'", "[digits]", "'tag:small'", "0..4"))
    registry = load_registry([file])
    assert registry.get("suite", "s").seeds == (0, 1, 2, 3, 4)
    cells, _ = resolve(parse_selection(registry, suite="s"), registry, tmp_path)
    assert {cell.method for cell in cells} == {
        "trades",
        *(name for name in registry.names("method") if name.startswith("trix-") and name != "trix-mixup"),
    }
    assert {cell.model for cell in cells} == {"cnn-small"}
    assert {cell.seed for cell in cells} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("parts", "path", "message"),
    [
        (("[trx]", "[digits]", "[cnn-small]", "0"), "methods.0", "no method called 'trx'"),
        (("[all, -trx]", "[digits]", "[cnn-small]", "0"), "methods.1", "no method called 'trx'"),
        (("[trix]", "['cifarr*']", "[cnn-small]", "0"), "datasets.0", "no dataset matches 'cifarr*'"),
        (("[trix]", "[digits]", "['tag:smal']", "0"), "models.0", "did you mean: tag:small"),
        (("[trix]", "[digits]", "[cnn-small]", "4..0"), "seeds", "'4..0' is not a range"),
        (("[trix]", "[digits]", "[cnn-small]", "[0, 0]"), "seeds.1", "0 is given twice"),
    ],
)
def test_what_a_suite_cannot_choose_is_a_fault_of_its_file(tmp_path, parts, path, message):
    file = tmp_path / "r.yaml"
    file.write_text(SUITE.format(*parts))
    with pytest.raises(ConfigError) as caught:
        load_registry([file])
    assert f"suites.s.{path}" in str(caught.value)
    assert message in str(caught.value)
