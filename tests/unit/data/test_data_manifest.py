"""Where prepared data live, and what a manifest must say."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fairbench.core.errors import ConfigError, DataError, DataMissingError
from fairbench.data.manifest import ARRAYS, Manifest, data_folder, data_root, read_manifest, require_manifest

SUMS = dict.fromkeys(ARRAYS, "0" * 64)
TOY = Manifest("toy", "ab12", 2, ("no", "yes"), (1, 2, 2), 6, 4, True, "npz:toy.npz", SUMS)


def written(root, content):
    (root / "toy").mkdir()
    (root / "toy" / "manifest.json").write_text(content)
    return root


def test_option_comes_before_environment_before_cache():
    assert data_root("~/mine", {}) == Path("~/mine").expanduser()
    assert data_root("/a", {"FAIRBENCH_DATA": "/b"}) == Path("/a")
    assert data_root(None, {"FAIRBENCH_DATA": "/b", "XDG_CACHE_HOME": "/c"}) == Path("/b")
    assert data_root(None, {"XDG_CACHE_HOME": "/c"}) == Path("/c/fairbench/data")
    assert data_root(None, {}) == Path("~/.cache/fairbench/data").expanduser()


def test_manifest_survives_the_file(tmp_path):
    root = written(tmp_path, json.dumps(TOY.to_json()))
    assert read_manifest(root, "toy") == TOY == require_manifest(root, "toy")
    assert (TOY.size("train"), TOY.size("test")) == (6, 4)
    assert replace(TOY, digest="cd") != TOY


def test_missing_data_set_says_what_to_type(tmp_path):
    assert read_manifest(tmp_path, "toy") is None
    with pytest.raises(DataMissingError, match="toy is not prepared") as caught:
        require_manifest(tmp_path, "toy")
    assert f"fairbench prepare toy --data {tmp_path}" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a manifest"),
        ("{}", "not a manifest"),
        (json.dumps({**TOY.to_json(), "schema": 99}), "has schema 99"),
        (json.dumps({**TOY.to_json(), "schema": 1}), "has schema 1, expected 2"),
        (json.dumps({**TOY.to_json(), "image_shape": [8, 8]}), "not a manifest"),
        (json.dumps({**TOY.to_json(), "arrays": {"train_images": "ab"}}), "not a manifest"),
        (json.dumps({**TOY.to_json(), "arrays": None}), "not a manifest"),
    ],
)
def test_damaged_manifest_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(written(tmp_path, content), "toy")
    assert "prepare toy" in caught.value.hint


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b"])
def test_names_that_leave_the_data_folder_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="not a plain name"):
        data_folder(tmp_path, name)


def test_manifest_imports_neither_torch_nor_numpy():
    code = "import sys, fairbench.data.manifest; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
