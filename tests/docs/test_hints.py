"""Every command that a message names exists with its options, and every list holds what was asked for."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fairbench.cli.main import COMMANDS, cli, main
from fairbench.core.errors import LISTED, ConfigError, FairbenchError, UnknownNameError
from fairbench.planning.blame import blamed, typed_settings
from fairbench.planning.catalogue import KINDS
from fairbench.planning.planner import plan_selection
from fairbench.planning.selection import parse_selection
from fairbench.registry import load_registry
from fairbench.tables.record_choice import NoRunsError, require_name

ROOT = Path(__file__).parents[2]
REGISTRY = load_registry()
PROSE = frozenset({"again", "did", "does", "has", "needs", "never", "reads", "that", "wrote"})
"""Words after `fairbench` in sentences about it."""
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def texts(path: Path) -> Iterator[str]:
    """The strings of a module that are no docstrings, with \0 for what is filled in."""
    tree = ast.parse(path.read_text())
    bodies = (ast.Module, ast.ClassDef, ast.FunctionDef)
    skipped = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, bodies) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def mentioned() -> set[tuple[str, str, str]]:
    """What messages of the package say to type: the word after `fairbench`, the rest, and the module."""
    found = set()
    for folder in ("fairbench", "methods"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for text in texts(path):
                for match in re.finditer(r"\bfairbench ([a-z]+)\b(.*?)(?=, |[\n`;)]|$)", text):
                    found.add((match[1], match[2], str(path.relative_to(ROOT))))
    return found


MENTIONED = sorted(mentioned())


def options_of(name: str) -> set[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return {option for parameter in command.params for option in parameter.opts} | {"--help", "--debug"}


def test_messages_name_commands():
    assert len(MENTIONED) > 50


@pytest.mark.parametrize("name", sorted({word for word, _, _ in MENTIONED} - PROSE))
def test_a_command_that_a_message_names_exists_with_its_options(name):
    assert name in COMMANDS
    known = options_of(name)
    for word, rest, module in MENTIONED:
        if word != name:
            continue
        for option in OPTION.findall(rest):
            assert option in known, f"{module}: fairbench {name}{rest}"
        kind = re.match(r"\s+([a-z\0]+)", rest)
        if name == "list" and kind is not None:
            assert kind[1] in (*KINDS, "\0s"), f"{module}: fairbench list{rest}"


@pytest.mark.parametrize("kind", LISTED)
def test_the_list_that_an_unknown_name_refers_to_holds_all_known_names(kind, capsys):
    with pytest.raises(UnknownNameError) as error:
        REGISTRY.get(kind, "nothing-like-it")
    command = re.search(r"see all: +fairbench (.*)", error.value.hint)
    assert command is not None
    with pytest.raises(SystemExit):
        main([*command[1].split(), "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert set(REGISTRY.names(kind)) <= set(str(listed).replace("'", " ").replace(":", " ").split())


@pytest.mark.parametrize("kind", ["column", "view", "source", "class"])
def test_a_name_of_what_has_no_list_is_answered_by_the_message_itself(kind):
    error = UnknownNameError(kind, "wurst", ["average", "worst"])
    assert "fairbench" not in error.hint
    assert "known: average, worst" in error.hint
    assert "did you mean: worst" in error.hint


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("attack", "autoattack", ("was not evaluated here", "fairbench run --attacks autoattack")),
        ("attack", "autoattack:reference", ("was not evaluated here", "--attacks autoattack:reference")),
        ("method", "cfa", ("no run here has the method cfa", "fairbench run --methods cfa")),
        ("protocol", "trix-150", ("no run here has the protocol", "fairbench run --protocol trix-150")),
    ],
)
def test_what_exists_and_was_not_run_is_no_unknown_name(kind, name, words):
    with pytest.raises(NoRunsError) as error:
        require_name(["pgd-20", "trades"], kind, name, f"--{kind}s {name}")
    assert all(word in str(error.value) for word in (*words, f"asked for by: --{kind}s {name}", "pgd-20"))


@pytest.mark.parametrize(("name", "close"), [("autoatack", "autoattack"), ("pgd-2", "pgd-20")])
def test_a_name_that_is_nowhere_is_corrected_from_results_and_registry(name, close):
    with pytest.raises(UnknownNameError, match=f"did you mean: {close}"):
        require_name(["pgd-20"], "attack", name, f"--attacks {name}")


@pytest.mark.parametrize(
    ("options", "typed"),
    [
        ({"overrides": ["protocol.threat.eps=8"]}, "--set protocol.threat.eps=8"),
        ({"overrides": ["protocol.milestones=5"], "epochs": 3}, "--set protocol.milestones=5"),
        ({"overrides": ["methods.trix.averaging.decay=2"]}, "--set methods.trix.averaging.decay=2"),
        (
            {"overrides": ["methods.rslad.teacher=nobody"], "methods": "rslad"},
            "--set methods.rslad.teacher=nobody",
        ),
        ({"overrides": ["methods.trix.strength=-1"]}, "--set methods.trix.strength=-1"),
    ],
)
def test_an_override_is_blamed_on_what_was_typed(tmp_path, options, typed):
    from fairbench.runner.cell_checks import check_cells

    def check():
        plan = plan_selection(parse_selection(REGISTRY, **options), REGISTRY, tmp_path, tmp_path)
        check_cells(plan.doubtful, "cpu")

    words = typed_settings(options["overrides"], epochs=options.get("epochs"))
    with pytest.raises(FairbenchError) as error, blamed(words):
        check()
    assert f"asked for by: {typed}" in error.value.hint
    assert error.value.hint.count("asked for by") == 1
    assert "OPTION=VALUE" not in error.value.hint


def test_an_error_about_something_else_is_not_blamed_on_an_override():
    with pytest.raises(ConfigError) as error, blamed(typed_settings(["methods.trix.beta=1"], epochs=3)):
        raise ConfigError("no suite called 'x'.", hint="see: fairbench list suites")
    assert error.value.hint == "see: fairbench list suites"
