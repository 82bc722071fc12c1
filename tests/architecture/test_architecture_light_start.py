"""What answers at once does not load torch."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from fairbench.cli.main import main
try:
    main({arguments!r})
except SystemExit as ended:
    code = ended.code or 0
heavy = sorted({{"torch", "torchvision", "sklearn", "pandas", "matplotlib"}} & set(sys.modules))
print("heavy:", heavy, "code:", code, file=sys.stderr)
"""


def loaded(arguments: list[str], folder: Path) -> str:
    """The last line that a process of its own says on standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(arguments=arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=True,
    )
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["evaluate", "--help"],
        ["figure", "--help"],
        ["list"],
        ["list", "methods", "--verbose", "--json"],
        ["plan"],
        ["plan", "--suite", "table1", "--protocol", "official", "--json"],
        ["status"],
    ],
    ids=" ".join,
)
def test_light_commands_do_not_load_torch(arguments: list[str], tmp_path: Path):
    assert loaded(arguments, tmp_path) == "heavy: [] code: 0"


def test_a_table_is_made_without_torch(tmp_path: Path):
    from outcome_files import folder_of, whole_cell, write_outcomes

    from fairbench.core.files import write_sealed

    names = {"method": "trades", "dataset": "digits", "model": "cnn-small", "protocol": "tiny"}
    cell = whole_cell({"schema": 1, **names, "seed": 0, "overrides": {}, "identity": {}})
    folder = folder_of(tmp_path / "results" / "runs", cell)
    outcomes = folder / "outcomes" / "epoch-0001"
    outcomes.mkdir(parents=True)
    evaluations = []
    for attack, file in (("clean", "clean.npy"), ("pgd-2", "pgd-2.1.npy")):
        digest = write_outcomes(outcomes / file, [0, 1], [0, 1], [True, True])
        item = {"attack": attack, "id": file.split(".")[1], "epoch": 1, "digest": digest}
        evaluations.append({**item, "file": f"outcomes/epoch-0001/{file}"})
    settings = [{"name": "pgd-2", "id": "1"}]
    write_sealed(folder / "cell.json", {**cell, "evaluation": settings, "locations": {}})
    record = {"schema": 1, "id": cell["id"], "entry": cell["entry"], "state": "done", "num_classes": 2}
    write_sealed(folder / "record.json", {**record, "epochs_evaluated": [1], "evaluations": evaluations})
    assert loaded(["table", "--format", "latex"], tmp_path) == "heavy: [] code: 0"
    assert loaded(["report"], tmp_path) == "heavy: [] code: 0"
