"""What a release consists of agrees with itself: version, Python versions, citation, issue templates."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from fairbench.cli.main import COMMANDS

TOP = Path(__file__).parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
TEMPLATES = [TOP / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "new-method")]


def test_one_version_is_named_everywhere():
    version = PROJECT["version"]
    assert yaml.safe_load((TOP / "CITATION.cff").read_text())["version"] == version
    newest = re.search(r"^## (\S+)", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_the_oldest_python_is_the_first_of_those_that_are_listed():
    prefix = "Programming Language :: Python :: "
    listed = [text.removeprefix(prefix) for text in PROJECT["classifiers"] if text.startswith(prefix)]
    assert listed == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={listed[0]}"


def test_the_citation_has_what_its_format_requires():
    citation = yaml.safe_load((TOP / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"]
    assert all(
        set(author) <= {"name", "given-names", "family-names", "orcid"} for author in citation["authors"]
    )


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_an_issue_template_has_questions_with_labels_and_names_commands_that_exist(path):
    template = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= set(template)
    ids = [item["id"] for item in template["body"]]
    assert len(set(ids)) == len(ids)
    for item in template["body"]:
        assert item["type"] in ("input", "textarea")
        assert item["attributes"]["label"]
    assert set(re.findall(r"`fairbench ([a-z]+)", path.read_text())) <= set(COMMANDS)


def test_the_page_for_contributors_names_files_that_exist():
    text = (TOP / "CONTRIBUTING.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (TOP / link).exists()
    assert set(re.findall(r"`fairbench ([a-z]+)", text)) <= set(COMMANDS)
