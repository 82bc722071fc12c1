"""What all commands have: `--output`, `--quiet`, `--json`, grouped help and completion."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from fairbench.cli.command import OnlyWarnings
from fairbench.cli.main import COMMANDS, cli, main

SHOWN = [name for name in COMMANDS if name != "cell"]  # which schedulers start
FORMER = {"--model", "--dataset", "--attack", "--root", "--devices"}  # still work, and are not shown


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def call(*arguments: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert (ended.value.code or 0) == code


@pytest.mark.parametrize("name", SHOWN)
def test_every_command_has_json_output_and_quiet(name):
    options = {option for param in command(name).params for option in param.opts}
    assert {"--json", "--output", "-o", "--quiet", "-q"} <= options


@pytest.mark.parametrize("name", COMMANDS)
def test_one_thing_has_one_spelling_and_former_ones_are_hidden(name):
    shown = command(name).get_help(click.Context(command(name), info_name=name))
    words = set(shown.replace(",", " ").split())
    assert not words & FORMER
    for param in command(name).params:
        assert not FORMER & set(param.opts[:1])


def test_long_help_is_grouped():
    shown = command("run").get_help(click.Context(command("run"), info_name="run"))
    headings = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [
        "Options:",
        "What to run:",
        "How cells are run:",
        "Estimates and limits:",
        "Files, device and output:",
    ]
    for param in command("run").params:
        if isinstance(param, click.Option):
            assert param.opts[0] in shown


@pytest.mark.parametrize("name", ["-o", "--output"])
def test_output_goes_to_a_file_as_it_is_printed(tmp_path, capsys, name):
    call("list", "models")
    printed = capsys.readouterr().out
    file = tmp_path / "new" / "models.txt"
    call("list", "models", name, str(file))
    assert capsys.readouterr().out == ""
    assert file.read_text() == printed
    call("list", "models", name, "-")
    assert capsys.readouterr().out == printed
    call("plan", "--json", "--seeds", "0", name, str(tmp_path / "plan.json"), "--results", str(tmp_path))
    assert len(json.loads((tmp_path / "plan.json").read_text())) == 3


def test_a_refusal_makes_no_file(tmp_path, capsys):
    call("plan", "--methods", "none-such", "-o", str(tmp_path / "plan.txt"), code=2)
    assert "no method called" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_quiet_leaves_out_notes_and_progress_but_no_warning_and_no_error(capsys):
    stream = OnlyWarnings(sys.stderr)
    print("note: a\nwarning: b\n[1/3 done] c\nWarning: d", file=stream)
    print("e", end="", file=stream)
    stream.flush()
    assert capsys.readouterr().err == "warning: b\nWarning: d\n"
    call("plan", "--methods", "none-such", "-q", code=2)
    assert "no method called" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "typed", "some"),
    [
        (["run", "--methods"], "tri", {"trix", "trix-basic"}),
        (["run", "--methods"], "trades,-cf", {"trades,-cfa", "trades,-cfa-at"}),
        (["plan", "--methods"], "tag:mar", {"tag:margin"}),
        (["table", "--datasets"], "", {"all", "digits", "cifar10"}),
        (["evaluate", "--models"], "res", {"resnet18"}),
        (["run", "--attacks"], "auto", {"autoattack"}),
        (["run", "--suite"], "table", {"table1"}),
        (["run", "--protocol"], "trix", {"trix-150"}),
        (["prepare"], "cifar", {"cifar10", "cifar100"}),
        (["list", "models"], "wrn", {"wrn-28-10"}),
        ([], "pre", {"prepare"}),
    ],
)
def test_a_shell_completes_names(arguments, typed, some):
    items = {
        item.value for item in ShellComplete(cli, {}, "fairbench", "X").get_completions(arguments, typed)
    }
    assert some <= items
    assert all(item.startswith(typed) for item in items)


def test_a_shell_completes_runs(tmp_path):
    (tmp_path / "runs" / "trades.digits.cnn-small.tiny.seed0.0123").mkdir(parents=True)
    arguments = ["logs", "--results", str(tmp_path)]
    (item,) = ShellComplete(cli, {}, "fairbench", "X").get_completions(arguments, "trades.d")
    assert item.value.endswith("seed0.0123")


def test_the_package_is_a_program_that_answers_a_shell(tmp_path: Path):
    environment = {**os.environ, "_FAIRBENCH_COMPLETE": "bash_source"}
    done = subprocess.run(
        [sys.executable, "-m", "fairbench"], env=environment, capture_output=True, text=True, check=True
    )
    assert "complete" in done.stdout
