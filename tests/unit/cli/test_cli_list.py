"""`fairbench list methods --verbose`: where a method comes from, what it needs and what it costs."""

import json

import pytest

from fairbench.cli.main import main


@pytest.fixture
def listed(capsys, monkeypatch):
    monkeypatch.delenv("FAIRBENCH_REGISTRY", raising=False)

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["list", "methods", *map(str, arguments)])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return call


def described(text, name):
    """The lines about one method, by their first word."""
    block = text.partition(f"\n\n{name}\n")[2].partition("\n\n")[0]
    return dict(line.strip().split(": ", 1) for line in block.splitlines() if ": " in line)


def test_a_method_is_described_with_paper_program_origin_needs_components_and_cost(listed):
    found = described(listed("--verbose"), "frl")
    assert found["paper"].startswith("To be Robust or to be Fair")
    assert found["paper"].endswith("Xu, Liu, Li, Jain, Tang, ICML 2021, arXiv 2010.06121")
    assert found["official program"] == "hannxu123/fair_robust@a80547d, licence none stated"
    assert found["origin"].startswith("entry point of fairbench-at ")
    assert found["origin"].endswith("(fairbench_methods.frl:Frl)")
    assert found["needs"] == "validation: start"
    assert "hold_out (" in found["components"]
    assert "fine_tune (start=trades" in found["components"]
    assert "x TRADES. TRADES plus" in found["cost"]


def test_a_variant_says_what_it_extends_and_a_need_the_option_behind_it(listed):
    found = described(listed("--verbose"), "dafa-uniform")
    assert found["extends"] == "dafa"
    assert found["needs"] == "epoch_stats: robust_probability"
    assert "scale_loss=False" in found["settings"]
    assert described(listed("--verbose"), "pgd-at")["needs"] == "attack_bn: eval (option attack_bn)"


def test_options_are_listed_with_default_and_meaning(listed):
    assert "\n    beta = 6.0  weight of the robust term, >= 0\n" in listed("--verbose")


def test_json_has_the_same_and_keeps_the_number_of_the_cost(listed):
    found = json.loads(listed("--json"))["methods"]["frl"]
    assert found["cost"] > 0
    assert found["cost_text"].startswith("TRADES plus")
    assert found["needs"] == {"validation": "start"}
    assert found["components"]["fine_tune"]["start"] == "trades"
    assert found["file"].endswith("frl.py")
    assert found["official"]["commit"].startswith("a80547d")


def test_a_file_of_ones_own_is_its_origin(listed, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        '"""MINE: nothing."""\nfrom fairbench.api import AdversarialObjective, method\n\n\n'
        '@method("mine")\nclass Mine(AdversarialObjective):\n    pass\n'
    )
    found = described(listed("--verbose", "--registry", path) + "\n", "mine")
    assert found["origin"] == str(path)
    assert "paper" not in found
    assert "official program" not in found


def test_the_licence_of_an_official_program_is_shown(listed, tmp_path):
    file = tmp_path / "registry.yaml"
    file.write_text(
        "version: 1\nmethods:\n  mine:\n    extends: trades\n"
        "    official: {repo: me/mine, commit: 0123abc, licence: MIT}\n"
    )
    found = described(listed("--verbose", "--registry", file) + "\n", "mine")
    assert found["official program"] == "me/mine@0123abc, licence MIT"
    assert found["origin"] == f"{file}:3 (fairbench_methods.trades:Trades)"


def test_a_choice_is_listed_and_tags_are_counted(listed):
    out = listed("tag:margin,-cfa*")
    names = [line.split()[0] for line in out.splitlines()[1:-1]]
    assert {"frl", "dafa", "trix"} <= set(names)
    assert not [name for name in names if name.startswith("cfa")]
    assert f"margin ({len(names)})" in out.splitlines()[-1]
    assert set(json.loads(listed("trix-*", "--json"))["methods"]) == {
        name for name in json.loads(listed("--json"))["methods"] if name.startswith("trix-")
    }
