"""What the pages say works: commands parse, links lead somewhere, the guide's method runs."""

import re
import shlex
from pathlib import Path

import click
import pytest

from fairbench.cli.main import cli, main
from fairbench.cli.options import open_registry

TOP = Path(__file__).resolve().parents[2]
PAGES = [
    TOP / "README.md",
    TOP / "CHANGELOG.md",
    TOP / "results" / "README.md",
    *sorted((TOP / "docs").glob("*.md")),
]


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
def test_every_command_on_the_pages_is_understood(words):
    command = cli.get_command(click.Context(cli), words[0])
    context = command.make_context(words[0], words[1:])
    if "overrides" in context.params and "floor" not in " ".join(words):  # the guide's own method is not ours
        registry = open_registry(())
        for kind in ("method", "dataset", "model", "attack"):
            for name in (context.params[f"{kind}s"] or "").split(","):
                assert name in ("", "all", "leaves") or registry.get(kind, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_guides_method_runs_beside_the_baseline(tmp_path, capsys):
    (tmp_path / "floor.py").write_text(blocks(TOP / "docs" / "write-a-method.md", "python")[0])
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


def test_the_readme_shows_a_table_of_the_quickstart():
    shown = re.search(
        r"<!-- quickstart -->(.*)<!-- /quickstart -->", (TOP / "README.md").read_text(), flags=re.S
    )
    assert all(f"\n{method} " in shown[1] for method in ("trades", "dafa", "trix"))
