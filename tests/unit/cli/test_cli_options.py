"""Small parts of the command line: columns, durations, progress lines, options, lazy commands."""

import click
import pytest

from fairbench.cli.main import COMMANDS, cli
from fairbench.cli.output import columns, counted, duration, first_line, printable, size
from fairbench.cli.progress import Lines, describe, progress, worst_text


def test_columns_are_aligned_and_lines_end_without_spaces():
    text = columns([("a", "bbb"), ("cccc", "")], ("x", "y"))
    assert text.splitlines() == ["x     y", "a     bbb", "cccc"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (42.4, "42 s"), (99.9, "100 s"), (100, "2 min"), (5400, "1.5 h")]
)
def test_durations_are_as_people_read_them(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(512, "512 B"), (3400, "3.4 kB"), (1.2e9, "1.2 GB")])
def test_sizes_have_a_unit(count, text):
    assert size(count) == text


def test_one_thing_has_no_plural():
    assert [counted(count, "run") for count in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]


def test_control_characters_are_not_printed():
    assert printable("a\tb\x1b[2J") == "a\tb\ufffd[2J"


def test_a_renamed_option_is_understood_under_both_names_and_shown_under_one(capsys):
    plan = cli.get_command(click.Context(cli), "plan")
    for option in ("--assume-devices", "--devices"):
        assert plan.make_context("plan", [option, "4"]).params["devices"] == 4
    text = plan.get_help(click.Context(plan))
    assert "--assume-devices N" in text
    assert "--devices" not in text.replace("--assume-devices", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_into_80_columns(name):
    command = cli.get_command(click.Context(cli), name)
    text = command.get_help(click.Context(command, info_name=f"fairbench {name}", terminal_width=80))
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_the_worst_class_of_an_epoch_ignores_classes_without_images():
    row = {"epoch": 1, "loss": 1.5, "train_robust_accuracy": [0.5, None, 0.25]}
    assert worst_text(row) == "worst class 25 %"
    assert describe(row) == "loss 1.500 worst class 25 %"
    assert worst_text({"train_robust_accuracy": [None]}) == ""


def test_a_reason_is_shown_by_its_first_line():
    assert first_line("a\nb") == "a"
    assert first_line("") == ""


def test_without_a_terminal_progress_is_plain_lines_on_standard_error(capsys):
    with progress([]) as shown:
        assert isinstance(shown, Lines)
        shown.name = "[1/2] cell"
        shown.say("epoch 1")
    out, error = capsys.readouterr()
    assert (out, error) == ("", "[1/2] cell: epoch 1\n")


def test_help_lists_every_command_in_the_order_of_use(capsys):
    assert cli.list_commands(click.Context(cli)) == list(COMMANDS)
    assert cli.get_command(click.Context(cli), "nothing") is None
