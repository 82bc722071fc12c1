"""What the pages say works: commands parse, links lead somewhere, the guide's method runs."""

import re
import shlex
from pathlib import Path
from typing import get_args

import click
import pytest
import torch

from fairbench import api
from fairbench.cli.main import cli, main
from fairbench.cli.options import open_registry
from fairbench.records.status import STATES, State
from fairbench.registry import load_registry
from fairbench.registry.names import names_of
from fairbench.registry.new_method import write_method
from fairbench.testing import LAWS, find, toys
from fairbench.testing.law import Trial

TOP = Path(__file__).resolve().parents[2]
PAGES = [
    TOP / "README.md",
    TOP / "CHANGELOG.md",
    TOP / "results" / "README.md",
    *sorted((TOP / "docs").glob("*.md")),
]
GUIDE = TOP / "docs" / "write-a-method.md"
IMPORTS = (
    "from dataclasses import dataclass\n\nimport torch\nfrom torch import Tensor\n\n"
    f"from fairbench.api import {', '.join(api.__all__)}\n\n\n"
)


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.M | re.S)


def commands():
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|#|>", line):
                    words = shlex.split(part)
                    if words and words[0] == "fairbench":
                        yield pytest.param(words[1:], id=f"{page.name}: {part.strip()}")


@pytest.mark.parametrize("words", list(commands()))
def test_every_command_on_the_pages_is_understood(words, tmp_path, monkeypatch):
    (experiment,) = (text for text in blocks(TOP / "docs" / "reference.md", "yaml") if "results:" in text)
    (tmp_path / "experiment.yaml").write_text(experiment)
    monkeypatch.chdir(tmp_path)
    command = cli.get_command(click.Context(cli), words[0])
    context = command.make_context(words[0], words[1:])
    if "overrides" in context.params and "floor" not in " ".join(words):  # the guide's own method is not ours
        registry = open_registry(())
        for kind in ("method", "dataset", "model", "attack"):
            text = context.params[f"{kind}s"]
            if text is not None and text != "leaves":
                assert names_of(registry, kind).choose(text, f"--{kind}s")


def test_the_states_of_a_run_are_those_of_the_code():
    text = (TOP / "docs" / "reference.md").read_text()
    table = text.partition("| state | meaning |\n|---|---|\n")[2].partition("\n\n")[0]
    assert get_args(State) == tuple(STATES)
    assert table.splitlines() == [f"| `{state}` | {meaning} |" for state, meaning in STATES.items()]
    for name in ("plan", "status"):
        command = cli.get_command(click.Context(cli), name)
        shown = command.get_help(click.Context(command, terminal_width=80))
        assert all(f"{state:9} {meaning}" in shown for state, meaning in STATES.items())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)#]+)[#)]", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_section_leads_to_its_heading(page):
    for target, section in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        text = (page.parent / target if target else page).read_text()
        headings = re.findall(r"^#+ (.*)", text, flags=re.M)
        sections = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert section in sections, f"{page.name} links to {target}#{section}"


def test_the_guides_method_runs_beside_the_baseline(tmp_path, capsys):
    (tmp_path / "floor.py").write_text(blocks(GUIDE, "python")[0])
    tiny = [
        "--epochs",
        "2",
        "--set",
        "protocol.subset.train_per_class=13",
        "--set",
        "protocol.subset.test_per_class=5",
    ]
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                *["run", "--registry", str(tmp_path / "floor.py"), "--methods", "floor", "--seeds", "0"],
                *[*tiny, "--results", str(tmp_path / "results"), "--device", "cpu"],
            ]
        )
    assert stopped.value.code == 0
    assert re.search(r"^floor ", capsys.readouterr().out, flags=re.M)


def parts():
    """The blocks of the guide after its first method, each with the heading above it."""
    chapter = GUIDE.read_text().partition("## 7. ")[2]
    for heading, text in re.findall(r"^### (.*?)\n(.*?)(?=^### |\Z)", chapter, flags=re.M | re.S):
        for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S):
            yield pytest.param(block, id=heading)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The file `fairbench new method mine --like trades` writes, with everything imported."""
    monkeypatch.chdir(tmp_path)
    write_method("mine", like="trades")
    path = tmp_path / "mine.py"
    path.write_text(re.sub(r"^from dataclasses.*?\n\n\n", IMPORTS, path.read_text(), flags=re.M | re.S))
    return path


@pytest.mark.parametrize("block", list(parts()))
def test_each_part_of_the_guide_keeps_the_laws_in_the_class_that_the_guide_names(mine, block):
    mine.write_text(mine.read_text() + "\n" + block)
    trial = Trial(find(str(mine)), LAWS)
    outcomes = {name: trial.outcome(name) for name in LAWS}
    assert {name: outcome.remark for name, outcome in outcomes.items() if outcome.state != "ok"} == {}


def test_the_weight_perturbation_of_the_guides_part_raises_what_the_guide_says(mine):
    (block,) = [parameter.values[0] for parameter in parts() if parameter.id == "What AWP raises"]
    mine.write_text(mine.read_text() + "\n" + block)
    method, model, batch = find(str(mine)).build(), toys.network(), toys.batch()
    terms = method.loss(model, batch, (batch.x + 0.05).clamp(0, 1), toys.context())
    clean, robust, spread = (terms.terms[name] for name in ("clean", "robust", "spread"))
    errors = terms.terms["errors"]
    assert spread > 0
    assert errors.sum() > 0
    torch.testing.assert_close(terms.base(), clean.mean() + robust.mean())
    torch.testing.assert_close(terms.total(), 0.7 * clean.mean() + robust.mean() + spread + errors.mean())


def test_registry_files_in_the_guide_are_valid(mine):
    (mine.parent / "floor.py").write_text(blocks(GUIDE, "python")[0])
    for block in blocks(GUIDE, "yaml"):
        (mine.parent / "shown.yaml").write_text(block)
        assert load_registry([mine.parent / "shown.yaml"]).broken == ()


def test_the_readme_shows_a_table_of_the_quickstart():
    shown = re.search(
        r"<!-- quickstart -->(.*)<!-- /quickstart -->", (TOP / "README.md").read_text(), flags=re.S
    )
    assert all(f"\n{method} " in shown[1] for method in ("trades", "dafa", "trix"))
