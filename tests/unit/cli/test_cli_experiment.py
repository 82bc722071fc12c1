"""An experiment in a file says what options say."""

import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairbench.cli.main import cli
from fairbench.core.errors import ConfigError, FairbenchError

NAMES = st.lists(st.sampled_from(("trix", "all", "-frl", "trix-*", "tag:margin")), min_size=1, max_size=3)
VALUES = st.lists(st.one_of(st.integers(0, 9), st.floats(0, 1), st.booleans()), min_size=1, max_size=3)


def text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def joined(values: list[Any]) -> tuple[Any, list[str]]:
    """A list, and the words that it is typed as."""
    return values, [",".join(map(text, values))]


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("methods", "datasets", "models", "attacks"), NAMES.map(joined)),
        "seeds": st.sampled_from((("0..4", ["0..4"]), (3, ["3"]), ([0, "2..3"], ["0,2..3"]))),
        "epochs": st.integers(1, 99).map(lambda number: (number, [str(number)])),
        "batch_size": st.integers(2, 99).map(lambda number: (str(number), [str(number)])),
        "awp": st.sampled_from(((0.005, ["0.005"]), (None, ["none"]), ("none", ["none"]))),
        "set": st.dictionaries(
            st.sampled_from(("methods.trix.strength", "protocol.epochs")), VALUES, min_size=1
        ).map(lambda paths: (paths, [f"{path}={joined(values)[1][0]}" for path, values in paths.items()])),
        "budget": st.just(("12h", ["12h"])),
        "dry_run": st.booleans().map(lambda on: (on, [] if on else None)),
        "json": st.just((True, [])),
    },
)


def parsed(command: str, *words: str) -> dict[str, Any]:
    """The values of a command's options."""
    found = cli.get_command(click.Context(cli), command)
    return found.make_context(command, list(words)).params


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return str(path)


@given(OPTIONS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_file_says_what_options_say(tmp_path, options):
    content = {key: written for key, (written, _) in options.items()}
    words = []
    for key, (_, texts) in options.items():
        option = f"--{key.replace('_', '-')}"
        words += [option] if texts == [] else [part for each in texts or () for part in (option, each)]
    file = write(tmp_path / "e.yaml", content or "{}")
    assert parsed("run", file) == parsed("run", *words)
    typed = ("--epochs", "7", "--set", "methods.trix.beta=1", "--seeds", "9")  # beat the file, or are added
    assert parsed("run", file, *typed) == parsed("run", *typed, file) == parsed("run", *words, *typed)


def test_an_option_of_run_alone_is_no_fault_for_plan(tmp_path):
    file = write(tmp_path / "e.yaml", {"executor": "local", "pack": 2, "epochs": 3, "measure": True})
    assert parsed("plan", file) == parsed("plan", "--epochs", "3", "--measure")
    assert parsed("run", file)["pack"] == 2


def test_files_start_where_the_experiment_is(tmp_path):
    (tmp_path / "below").mkdir()
    files = {
        "registry": ["mine.yaml", "/else/mine.py"],
        "results": "out",
        "data": "data",
        "profile": "~/c.yaml",
    }
    found = parsed("run", write(tmp_path / "below" / "e.yaml", files))
    below = tmp_path / "below"
    assert found["registry_files"] == (below / "mine.yaml", Path("/else/mine.py"))
    assert (found["results"], found["data"]) == (below / "out", str(below / "data"))
    assert found["profile"] == Path("~/c.yaml").expanduser()
    file = write(below / "f.yaml", {"executor": "mine.py:start"})
    assert parsed("run", file)["executor"] == f"{below}/mine.py:start"


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ({"protocol": {"optimizer": {"lr": "1e-3"}}}, ["protocol.optimizer.lr=1e-3"]),
        (
            {"protocol.threat": {"norm": "Linf", "eps": "8/255"}},
            ["protocol.threat.norm=Linf", "protocol.threat.eps=8/255"],
        ),
        (["methods.trix.strength=0.5,1"], ["methods.trix.strength=0.5,1"]),
        ({"methods.mine.widths": [[16, 32], [64]]}, ["methods.mine.widths=[16,32],[64]"]),
        ("methods.trix.strength=1", ["methods.trix.strength=1"]),
    ],
)
def test_settings_are_paths_or_nested(tmp_path, written, typed):
    file = write(tmp_path / "e.yaml", f"set: {written}\n")
    assert parsed("run", file)["overrides"] == tuple(typed)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("method: trix\n", (":1  method", "unknown key", "Did you mean 'methods'?")),
        ("seeds: 0\nepochs: many\n", (":2  epochs", "'many'")),
        ("json: 1\n", (":1  json", "expected true or false")),
        ("methods: {trix: 1}\n", (":1  methods", "expected a value or a list")),
        ("- trix\n", ("expected options of `fairbench run` as keys",)),
        ("", ("expected options",)),
        ("methods: [trix\n", ("not valid YAML",)),
        ("epochs: 1\nepochs: 2\n", (":2  epochs", "duplicate key")),
        ("version: 1\nsuites: {}\n", ("this is a registry file", "--registry")),
    ],
)
def test_a_fault_names_file_and_line(tmp_path, content, words):
    with pytest.raises(ConfigError) as caught:
        parsed("run", write(tmp_path / "e.yaml", content))
    assert all(word in str(caught.value) for word in ("e.yaml", *words))


def test_a_name_after_a_comma_and_a_space_is_not_taken_for_a_file():
    with pytest.raises(ConfigError, match="no file dafa") as caught:
        parsed("run", *shlex.split("--methods trix, dafa"))
    assert "--methods trix,dafa" in caught.value.hint


@given(st.text(max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_file_is_an_experiment_or_an_error(tmp_path, content):
    (tmp_path / "e.yaml").write_text(content, encoding="utf-8", errors="ignore")
    with suppress(FairbenchError, click.UsageError):
        parsed("run", str(tmp_path / "e.yaml"))
