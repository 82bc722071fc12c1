"""A method from a package of its own, beside the wheel, in an environment that holds nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fairbench.testing import LAWS

TOP = Path(__file__).resolve().parents[2]


def say(*command, **given):
    """What a command prints; it must succeed."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FAIRBENCH"))
    }
    environment |= {"OMP_NUM_THREADS": "1"} | given.pop("environment", {})
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, check=False, **given
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def from_the_cache(uv, *command, **given):
    """uv with what it has, and with the network only where that is not enough."""
    try:
        return say(uv, *command, "--offline", **given)
    except AssertionError:
        return say(uv, *command, **given)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an environment in `env`, where the wheel and the example package are installed."""
    uv = Path(sys.executable).with_name("uv")
    uv = str(uv) if uv.exists() else shutil.which("uv")
    assert uv, "uv is not installed: pip install uv"
    folder = tmp_path_factory.mktemp("package")
    example = shutil.copytree(
        TOP / "examples" / "fairbench-floor",
        folder / "fairbench-floor",
        ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"),
    )
    config = folder / "build.cfg"  # leftovers of the checkout stay out of the wheel
    config.write_text(f"[build]\nbuild_base = {folder / 'build'}\n")
    from_the_cache(
        uv, "build", "--wheel", "--out-dir", folder, TOP, environment={"DIST_EXTRA_CONFIG": str(config)}
    )
    (wheel,) = folder.glob("*.whl")
    say(uv, "venv", "--python", sys.executable, folder / "env")
    python = folder / "env" / "bin" / "python"
    from_the_cache(uv, "pip", "install", "--python", python, wheel, f"{example}[test]")
    return folder


@pytest.mark.slow
def test_the_example_package_works_beside_the_wheel(place):
    env, empty = place / "env" / "bin", place / "empty"
    empty.mkdir()
    fairbench = env / "fairbench"
    where = say(env / "python", "-c", "import fairbench; print(fairbench.__file__)", cwd=empty)
    assert where.startswith(str(place))
    listed = say(fairbench, "list", "methods", "--verbose", cwd=empty)
    assert "origin: entry point of fairbench-floor 0.1.0" in listed
    assert "floor keeps the contract" in say(fairbench, "check", "floor", cwd=empty)
    tested = say(
        env / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=place / "fairbench-floor"
    )
    assert f"{len(LAWS)} passed" in tested
    run = [
        "run",
        "--registry",
        place / "fairbench-floor" / "registry.yaml",
        "--methods",
        "floor",
        "--seeds",
        "0",
    ]
    run += ["--epochs", "2", "--device", "cpu", "--set", "protocol.subset.train_per_class=13"]
    table = say(fairbench, *run, "--set", "protocol.subset.test_per_class=5", cwd=empty)
    assert "\nfloor " in table


@pytest.mark.slow
def test_a_check_needs_no_pytest(place):
    program = "import sys; sys.modules['pytest'] = None; from fairbench.cli.main import main; main()"
    assert "keeps the contract" in say(
        place / "env" / "bin" / "python", "-c", program, "check", "floor", cwd=place
    )
