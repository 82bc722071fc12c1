"""Nothing that a file holds changes the terminal: only `echo` prints, and it prints no control characters."""

import logging
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_builder import ResultsBuilder

import fairbench.cli
from fairbench.cli.main import main
from fairbench.cli.output import PlainFormatter, without_control
from fairbench.core.files import read_json, write_sealed

EVIL = "\x1b[2J\x1b]0;owned\x07\u202e\x9b1m\rover"
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.text(st.characters(max_codepoint=0x2100) | st.sampled_from(EVIL + "\n\t")))
def test_text_is_printed_without_control_characters_and_otherwise_as_it_is(text):
    shown = without_control(text)
    assert not RAW.search(shown.replace("\r\n", ""))
    assert len(shown) == len(text)
    if not RAW.search(text):
        assert shown == text


def test_only_echo_prints():
    for path in Path(fairbench.cli.__file__).parent.glob("*.py"):
        text = path.read_text()
        assert (
            not re.search(r"click\.s?echo\(|[^.\w]print\((?!without_control)", text)
            or path.name == "output.py"
        ), path


def test_log_messages_have_no_control_characters():
    record = logging.LogRecord("fairbench", logging.WARNING, "", 0, "%s", (EVIL,), None)
    assert not RAW.search(PlainFormatter("%(name)s: %(message)s").format(record))


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("status", "--json"),
        ("logs", "trades"),
        ("clean",),
        ("table",),
        *(("table", "--format", name) for name in ("csv", "latex", "markdown", "html")),
        ("figure", "curves"),
        ("merge", "other"),
        ("retry", "trades"),
        ("verify", "trades"),
        ("export", "trades", "--to", "safetensors"),
    ],
    ids=" ".join,
)
def test_no_command_prints_the_control_characters_of_a_record(tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for into, state in (("results", "done"), ("other", "failed"), ("results", "failed")):
        seed = 0 if into == "other" else len(list(tmp_path.glob("results/runs/*")))
        folder = ResultsBuilder(tmp_path / into).run(
            "trades", seed, state=state, reason=EVIL if state == "failed" else None, warnings=(EVIL,),
            names=[EVIL, "b", "c"], overrides={"strength": EVIL}, titles={"method": EVIL},
        )  # fmt: skip
        record = read_json(folder / "record.json")
        if state == "done":
            record["evaluations"][1]["attack"] = EVIL
        write_sealed(folder / "record.json", record)
        (folder / "worker.log").write_text(EVIL)
    (tmp_path / "results" / "runs" / EVIL).mkdir()
    with pytest.raises(SystemExit):
        main(command)
    out, error = capsys.readouterr()
    assert not RAW.search((out + error).replace("\r\n", "").replace("\n", "")), (out + error)[:2000]
