"""Small things of the command line: columns, durations, progress lines, lazy commands."""

import click
import pytest

from fairbench.cli.main import COMMANDS, cli
from fairbench.cli.output import columns, duration, first_line
from fairbench.cli.progress import Lines, describe, progress, worst_text


def test_columns_are_aligned_and_lines_end_without_spaces():
    text = columns([("a", "bbb"), ("cccc", "")], ("x", "y"))
    assert text.splitlines() == ["x     y", "a     bbb", "cccc"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (42.4, "42 s"), (99.9, "100 s"), (100, "2 min"), (5400, "1.5 h")]
)
def test_durations_are_as_people_read_them(seconds, text):
    assert duration(seconds) == text


def test_the_worst_class_of_an_epoch_ignores_classes_without_images():
    row = {"epoch": 1, "loss": 1.5, "train_robust_accuracy": [0.5, None, 0.25]}
    assert worst_text(row) == "worst class 25 %"
    assert describe(row) == "loss 1.500 worst class 25 %"
    assert worst_text({"train_robust_accuracy": [None]}) == ""


def test_a_reason_is_shown_by_its_first_line():
    assert first_line("a\nb") == "a"
    assert first_line("") == ""


def test_without_a_terminal_progress_is_plain_lines_on_standard_error(capsys):
    shown = progress(2)
    assert isinstance(shown, Lines)
    with shown:
        shown.name = "[1/2] cell"
        shown.say("epoch 1")
    out, error = capsys.readouterr()
    assert (out, error) == ("", "[1/2] cell: epoch 1\n")


def test_help_lists_every_command_in_the_order_of_use(capsys):
    assert cli.list_commands(click.Context(cli)) == list(COMMANDS)
    assert cli.get_command(click.Context(cli), "nothing") is None
