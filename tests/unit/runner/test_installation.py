"""What `fairbench doctor` looks at."""

import importlib.metadata

from fairbench.runner.installation import FATAL, check_installation


def states(results, data, **options):
    return {finding.what: finding.state for finding in check_installation(results, data, **options)}


def test_packages_device_methods_data_and_results_are_looked_at(tmp_path):
    found = states(tmp_path / "results", tmp_path)
    assert found["torch"] == found["device"] == found["methods"] == found["results"] == "ok"
    assert (found["data digits"], found["data cifar10"]) == ("ok", "absent")
    assert not set(found.values()) & set(FATAL)


def test_a_missing_package_says_how_to_install_it(tmp_path, monkeypatch):
    version = importlib.metadata.version

    def without_scipy(name):
        if name == "scipy":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_scipy)
    (finding,) = (f for f in check_installation(tmp_path, tmp_path) if f.what == "scipy")
    assert (finding.state, finding.detail) == ("missing", "pip install --upgrade fairbench-at")


def test_a_method_that_cannot_be_used_is_named_with_the_reason(tmp_path):
    (tmp_path / "mine.py").write_text("x =\n")
    (tmp_path / "registry.yaml").write_text("version: 1\nmethods:\n  mine: {target: 'mine.py:Mine'}\n")
    found = states(tmp_path, tmp_path, registry_files=[tmp_path / "registry.yaml"])
    assert found["method mine"] == "broken"
