"""Killed at any moment, again and again, every method ends with the very same weights, verdicts and table."""

import json
import multiprocessing
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_files import REGISTRY
from killed import work

from fairbench.planning.overrides import parse_overrides
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection, parse_attacks
from fairbench.records.cell import Cell
from fairbench.records.results_folder import ResultsFolder
from fairbench.registry import load_registry

pytestmark = pytest.mark.slow  # under a minute for all methods
METHODS = (
    "pgd-at",
    "trades",
    "targeted-trades",
    "mart",
    "frl",
    "bat",
    "wat",
    "cfa",
    "fairtat",
    "dafa",
    "trix",
)
PHASES = ("training", "checkpoint", "evaluation", "outcomes", "record", "any", "any", "any", "any", "any")
"""One kill of each method for each of them: 110 in all."""
ATTACK = """
  parts:
    {kind: autoattack, version: 1, attacks: [apgd-ce, square], eps: 0.1, num_steps: 2, num_queries: 5}
"""
ODD = ("started", "finished", "commit", "command", "earlier", "seconds", "curve")  # differ from run to run


@pytest.fixture(scope="module")
def server() -> "Iterator[multiprocessing.context.ForkServerContext]":
    """Processes that have torch already: killing one costs nothing but what it had done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed", "sklearn.datasets", "torch._dynamo"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # of this module's neighbour
        yield context


@pytest.fixture
def registry(tmp_path: Path):
    path = tmp_path / "registry.yaml"
    path.write_text(REGISTRY.replace("attacks:\n", f"attacks:{ATTACK}", 1))
    return load_registry([path])


def attempt(server, folder: Path, deaths: Path, phase: str = "", die_at: int = 0) -> int | None:
    process = server.Process(target=work, args=(str(folder), phase, die_at, str(deaths)))
    process.start()
    process.join(120)
    code = process.exitcode
    process.close()
    return code


def cell_of(registry, tmp_path: Path, method: str) -> Cell:
    """A cell of a method, three epochs long."""
    overrides = ["protocol.epochs=3", "protocol.selection.last=2"]
    if "warmup_epochs" in registry.method_config(method):
        overrides.append(f"methods.{method}.warmup_epochs=1")
    selection = Selection(
        suite="tiny",
        methods=(method,),
        seeds=(0,),
        attacks=parse_attacks("pgd-2,parts", registry, option="--attacks"),
        overrides=parse_overrides(overrides, registry),
    )
    (own,) = [cell for cell in resolve(selection, registry, tmp_path)[0] if cell.method == method]
    return own


def content(results: Path) -> dict[str, object]:
    """All that a run leaves, but for times."""
    found: dict[str, object] = {}
    for path in sorted(results.rglob("*")):
        name = str(path.relative_to(results))
        if path.name.startswith((".claim", ".cell.json")):  # of others, for all that the next worker knows
            continue
        if path.suffix in (".npy", ".safetensors"):
            found[name] = path.read_bytes()
        elif path.name == "record.json":
            record = json.loads(path.read_text())
            for evaluation in record["evaluations"]:
                evaluation["about"].pop("description", None)  # a digest of a file with times
                for stage in evaluation["about"].get("stages", ()):
                    stage.pop("seconds")
            found[name] = {key: value for key, value in record.items() if key not in (*ODD, "digest")}
        elif path.name == "epochs.jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
        else:
            found[name] = None
    return found


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_killed_again_and_again_ends_as_if_nothing_had_been(
    tmp_path, registry, server, bench, method
):
    cell, deaths, rng = cell_of(registry, tmp_path, method), tmp_path / "deaths", random.Random(method)
    whole = tmp_path / "whole"
    assert attempt(server, ResultsFolder(whole).prepare(cell).path, deaths) == 0
    moments = json.loads(deaths.read_text())
    expected, table = content(whole), bench.call("table", "--results", str(whole))[0]
    phases, life = list(PHASES), 0
    while phases:
        results = tmp_path / f"life-{life}"
        folder, life = ResultsFolder(results).prepare(cell).path, life + 1
        while phases:
            # Somewhere in the phase; most often there is something left of the run for the next kill.
            code = attempt(server, folder, deaths, phases[0], 1 + rng.randrange(-(-moments[phases[0]] // 2)))
            if code == 0:  # of that phase, less was left
                break
            assert code == -signal.SIGKILL
            phases.pop(0)
        assert attempt(server, folder, deaths) == 0
        assert content(results) == expected
        assert bench.call("table", "--results", str(results))[0] == table
    died = Counter(line for line in deaths.read_text().splitlines() if not line.startswith("{"))
    assert sum(died.values()) == len(PHASES)
    assert set(PHASES) - {"any"} <= set(died)
    print(f"{method}: survived {sum(died.values())} kills in {life} lives: {dict(died)}")
