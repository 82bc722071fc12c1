"""Hostile and broken input by the thousand: each ends in success or in a FairbenchError."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flow_files import REGISTRY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outcome_files import write_outcomes

from fairbench.cli.main import main
from fairbench.core.errors import FairbenchError
from fairbench.core.files import write_sealed
from fairbench.core.lease import is_live, read_lease
from fairbench.evaluation.adversarial_examples import read_examples
from fairbench.evaluation.external_checkpoint import read_checkpoint
from fairbench.models.checkpoints import read_tensors, write_tensors
from fairbench.planning.cost import estimate, read_paces
from fairbench.planning.overrides import parse_overrides
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import Selection, parse_attacks, parse_names, parse_seeds
from fairbench.planning.status import statuses
from fairbench.records.outcomes import read_outcomes
from fairbench.records.run_folder import RunFolder
from fairbench.registry import load_registry
from fairbench.runner.executors.profile import read_profile
from fairbench.runner.executors.slurm import Slurm
from fairbench.runner.overview import overview

PLENTY = int(os.environ.get("FAIRBENCH_FUZZ", 1))  # times as many
COMMON = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
MANY = settings(max_examples=1000 * PLENTY, **COMMON)
SOME = settings(max_examples=60 * PLENTY, **COMMON)  # where each is a whole command
SEED = st.integers(0, 2**32)
SOME_TEXT = st.text(max_size=12)
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**30, 1e308, [], {}, [[]], {"a": 1}, ["x"] * 50),
    *(
        "",
        "x",
        "../../etc/passwd",
        "/etc/passwd",
        "a\0b",
        "<script>alert(1)</script>",
        "\\input{/etc/passwd}",
    ),
    *("=1+1", "\ud800", "9" * 500, "os:system", "\x1b[2J"),
)
PATHS = (
    *("methods.trix.strength", "methods.dafa.beta", "methods.cfa.averaging.decay", "methods.trix"),
    *("protocol.epochs", "protocol.threat.eps", "protocol.selection.last"),
)
REPLACED = (
    *(b"\0", b"\xff", b'"', b"{", b"}", b"[", b":", b"-", b"\n"),
    *(b"!!python/object/apply:os.system", b"&a *a", b"9" * 40),
)


def mutated(data: bytes, seed: int) -> bytes:
    """`data` with a few bytes flipped, replaced, cut out, doubled or cut off."""
    rng, found = random.Random(seed), bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not found:
            break
        place = rng.randrange(len(found))
        end = min(len(found), place + rng.randint(1, 40))
        kind = rng.randrange(5)
        if kind == 0:
            found[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[place : place + 1] = rng.choice(REPLACED)
        elif kind == 2:
            del found[place:end]
        elif kind == 3:
            found[place:place] = found[place:end]
        else:
            del found[place:]
    return bytes(found)


def with_odd_values(value: Any, seed: int) -> Any:
    """A copy of JSON data in which a few values, keys or items are odd, gone or doubled."""
    rng, found = random.Random(seed), json.loads(json.dumps(value))
    for _ in range(rng.randint(1, 3)):
        places: list[tuple[Any, Any]] = []

        def walk(node: Any, places: list[tuple[Any, Any]] = places) -> None:
            for key in list(node) if isinstance(node, dict) else range(len(node)):
                places.append((node, key))
                if isinstance(node[key], dict | list):
                    walk(node[key])

        walk(found)
        if not places:
            break
        node, key = rng.choice(places)
        if rng.random() < 0.2:
            del node[key]
        elif rng.random() < 0.2 and isinstance(node, dict):
            node[str(rng.choice(ODD))] = node.pop(key)
        else:
            node[key] = json.loads(json.dumps(rng.choice(ODD)))
    return found


def survives(work: Callable[[], object]) -> bool:
    """Whether it succeeds; a FairbenchError is the only other end there is."""
    try:
        work()
    except FairbenchError:
        return False
    return True


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two runs that are done, and the registry that they were made with."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "registry.yaml").write_text(REGISTRY)
    torch.set_num_threads(1)
    chosen = ["--registry", str(folder / "registry.yaml"), "--suite", "tiny", "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main(["run", *chosen, "--results", str(folder / "results")])
    assert not ended.value.code
    return folder


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy of those results, to be spoiled; whoever spoils a file puts it back."""
    return Path(shutil.copytree(made / "results", tmp_path / "results"))


@SOME
@given(SEED)
def test_registry_files(made, tmp_path, seed):
    path = tmp_path / "registry.yaml"
    path.write_bytes(mutated(REGISTRY.encode(), seed))

    def plan() -> None:
        registry = load_registry([path])
        if "tiny" in registry.suites:
            resolve(Selection(suite="tiny"), registry, tmp_path)

    survives(plan)


@SOME
@given(SOME_TEXT, SOME_TEXT, SOME_TEXT, SOME_TEXT, SEED)
def test_selections_and_overrides(tmp_path, names, seeds, attacks, value, seed):
    registry = load_registry()
    rng = random.Random(seed)
    known = [*registry.names("method"), names, "all", "", ","]
    path = rng.choice((*PATHS, names))
    chosen = rng.choice((value, "1", "-1", "1e999", "none", "[]"))

    methods, attack = ",".join(rng.choices(known, k=2)), rng.choice((attacks, "pgd-20@last", "a3@nowhere"))

    def plan() -> None:
        cells, _ = resolve(
            Selection(
                suite="quickstart",
                methods=parse_names("method", methods, registry, option="--methods"),
                seeds=parse_seeds(rng.choice((seeds, "0..2", "5", "0..", "3..1", "0,0", "1" * 30))),
                attacks=parse_attacks(attack, registry, option="--attacks"),
                overrides=parse_overrides([f"{path}={chosen}"], registry),
            ),
            registry,
            tmp_path,
        )
        for item in statuses(cells[:3], tmp_path):
            estimate(item.cell, registry, read_paces(tmp_path, registry, "cpu"), cuda=False)

    survives(plan)


@pytest.mark.parametrize("name", ["record.json", "cell.json"])
@SOME
@given(seed=SEED)
def test_records(made, results, name, seed):
    path = sorted(results.glob(f"runs/*/{name}"))[0]
    whole = path.read_bytes()
    data = {key: value for key, value in json.loads(whole).items() if key != "digest"}
    if seed % 3 == 0:
        path.write_bytes(mutated(whole, seed))
    else:
        write_sealed(path, with_odd_values(data, seed))
    registry = load_registry([made / "registry.yaml"])
    cells, _ = resolve(Selection(suite="tiny"), registry, made)
    try:
        survives(lambda: overview(results))
        survives(lambda: statuses(cells, results))
        survives(lambda: read_paces(results, registry, "cpu"))
        commands = (["table"], ["table", "--format", "latex"], ["clean"], ["merge", str(results)])
        for command in commands[seed % 2 :: 2]:
            into = results / "merged" if command[0] == "merge" else results
            with pytest.raises(SystemExit) as ended:
                main([*command, "--results", str(into)])
            assert ended.value.code in (None, 0, 1, 2, 3)
    finally:
        path.write_bytes(whole)


@SOME
@given(SEED)
def test_the_page_holds_no_script_but_its_own(made, results, seed):
    path = sorted(results.glob("runs/*/cell.json"))[0]
    whole = path.read_bytes()
    data = {key: value for key, value in json.loads(whole).items() if key != "digest"}
    rng = random.Random(seed)
    evil = rng.choice(
        ("<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "'\"><svg onload=alert(1)>")
    )
    field = rng.choice(("titles", "overrides", "method", "dataset", "model", "protocol"))
    data[field] = {evil: evil, "method": evil} if field in ("titles", "overrides") else evil
    write_sealed(path, data)
    page = results / "page.html"
    page.unlink(missing_ok=True)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["report", "--results", str(results), "-o", str(page)])
        assert ended.value.code in (None, 0, 1, 2)
        if page.exists():
            text = page.read_text()
            for forbidden in ("<script>alert", "<img src=x", "<svg onload"):
                assert forbidden not in text
    finally:
        path.write_bytes(whole)


@MANY
@given(SEED)
def test_checkpoints(made, tmp_path, seed):
    path = tmp_path / "state.safetensors"
    write_tensors(path, {"a.w": torch.arange(6.0).view(2, 3), "b": torch.tensor(True)}, {"epoch": 3})
    whole = path.read_bytes()
    path.write_bytes(mutated(whole, seed))
    read = survives(lambda: read_tensors(path))
    assert not read or path.read_bytes() == whole or read_tensors(path)[1].get("epoch") in (None, 3)
    survives(lambda: read_examples(path, torch.rand(4, 1, 2, 2))) if not read else None
    pickled = tmp_path / "model.pt"
    torch.save({"state_dict": {"w": torch.ones(2)}}, pickled)
    pickled.write_bytes(mutated(pickled.read_bytes(), seed))
    survives(lambda: read_checkpoint(pickled))


@MANY
@given(SEED)
def test_outcomes_curves_and_claims(tmp_path, seed):
    path = tmp_path / "clean.npy"
    write_outcomes(path, [0, 1, 2], [0, 1, 1], [True, True, False])
    path.write_bytes(mutated(path.read_bytes(), seed))
    survives(lambda: read_outcomes(path))
    line = json.dumps({"epoch": 1, "seconds": 1.0, "loss": 2.0}).encode() + b"\n"
    (tmp_path / "epochs.jsonl").write_bytes(mutated(line * 3, seed))
    assert len(RunFolder(tmp_path).read_epochs()) <= 6
    claim = tmp_path / "claim"
    claim.write_bytes(mutated(b'{"token": "a", "host": "b", "pid": 3, "machine": "c", "born": "7"}', seed))
    owner = read_lease(claim)
    assert owner is not None
    is_live(claim, owner)


@MANY
@given(SEED)
def test_profiles(tmp_path, seed):
    path = tmp_path / "profile.yaml"
    text = b"slurm:\n  partition: gpu\n  time: '4:00'\n  gpus: 1\n  options: {qos: long}\n  setup: module x"
    path.write_bytes(mutated(text, seed))
    survives(lambda: read_profile(path).section("slurm", Slurm))


def test_a_folder_of_somebody_else_runs_no_code_of_theirs(bench, tmp_path):
    """cell.json may say anything of where code is: nobody follows it."""
    bench.run("--methods", "trades")
    folder = bench.folder_of("trades")
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'was-here')!r}, 'w')\nTrades = cnn_small = print\n")
    for where in ("target", "model", "plugin"):
        cell = json.loads((folder / "cell.json").read_text())
        cell.pop("digest", None)
        cell["locations"][where] = str(evil) if where == "plugin" else f"{evil}:Trades"
        write_sealed(folder / "cell.json", cell)
        if (folder / "record.json").exists():
            bench.call("verify", str(folder), "--results", str(bench.results))
            bench.call("export", str(folder), "--to", "safetensors", "--results", str(bench.results))
            (folder / "record.json").unlink()
        bench.call("cell", str(folder), "--device", "cpu")
    assert not (tmp_path / "was-here").exists()
